"""Sizes that the networks do not take, by what they say of themselves and by a first batch without values."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn

from segan_pl.errors import UsageError
from segan_pl.inference.inferer import Windows


def require_sizes(
    networks: Mapping[str, nn.Module],
    inputs: Mapping[str, int],
    patch: Sequence[int],
    windows: Windows,
    *,
    low_on_cpu: bool,
) -> None:
    """Refuse a training patch or windows that a network does not take, naming the nearest sizes that it does.

    A network says by `divisor` what sides must be divisible by, by `longest` what one of them must have at least, by
    `patch` that it is built for one size alone.

    Args:
        networks: Name to network.
        inputs: Name to input channels.
        patch: (H, W) or (D, H, W) of training.
        windows: How volumes are walked over.
        low_on_cpu: Whether batches run in bfloat16 on the CPU.

    Raises:
        UsageError: As said, and as `Windows.require_sense` and `dry_run`.
    """
    plane = divisor(networks, "divisor")
    needed = [plane] * len(patch)
    # A network whose strides leave the depth alone says so.
    if len(patch) == 3:
        needed[0] = divisor(networks, "depth_divisor")
    if any(side % n for side, n in zip(patch, needed, strict=True)):
        near = [
            f"{side // n * n or n} or {(side // n + 1) * n}" if side % n else str(side)
            for side, n in zip(patch, needed, strict=True)
        ]
        shown = plane if len(set(needed)) == 1 else needed
        raise UsageError(
            f"--data.patch {list(patch)}: the networks need multiples of {shown}; nearest {', '.join(near)}"
        )
    for name, network in networks.items():
        if max(patch) < (longest := getattr(network, "longest", 0)):
            raise UsageError(f"--data.patch {list(patch)}: the {name} needs {longest} voxels along at least one side")
        own = getattr(network, "patch", None)
        if own is not None and tuple(own) != tuple(patch):
            raise UsageError(
                f"--data.patch {list(patch)}: the {name} is built for patches of {list(own)}; give "
                f"--model.networks.{name}.init_args.patch the same numbers"
            )
    require_windows(networks["segmentor"], patch, windows)
    if len(patch) == 3 or any(isinstance(module, nn.Conv3d) for one in networks.values() for module in one.modules()):
        dry_run(networks, inputs, patch, low_on_cpu=low_on_cpu)


def require_windows(segmentor: nn.Module, patch: Sequence[int], windows: Windows) -> None:
    """Refuse windows, or whole volumes, that the segmentor does not take or that say nothing.

    Raises:
        UsageError: As said, and as `Windows.require_sense`.
    """
    windows.require_sense(patch)
    needed = divisor({"segmentor": segmentor}, "divisor")
    if windows.whole and windows.whole % needed:
        raise UsageError(
            f"--model.windows.whole {windows.whole}: expected a multiple of {needed}, which the segmentor needs"
        )


def divisor(networks: Mapping[str, nn.Module], name: str) -> int:
    """What all networks' sizes must be divisible by; the depth's is that of the plane unless a network says it."""
    own = (getattr(network, name, getattr(network, "divisor", 1)) for network in networks.values())
    return math.lcm(*map(int, own))


def least_batch(
    networks: Mapping[str, nn.Module],
    inputs: Mapping[str, int],
    patch: Sequence[int],
    *,
    noise: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Patches that a batch needs in training: 2 where one leaves batch norm a single value in a channel, else 1.

    Args:
        networks: Name to network.
        inputs: Name to input channels, of those that are shown patches.
        patch: (H, W) or (D, H, W) of training.
        noise: Name to how many numbers a patch is made of, of those that are shown noise.
    """
    try:
        dry_run(networks, inputs, patch, low_on_cpu=False, batch=1, noise=noise)
    except UsageError as error:
        return 2 if "more than 1 value per channel" in str(error) else 1  # PyTorch's words
    return 1


def dry_run(
    networks: Mapping[str, nn.Module],
    inputs: Mapping[str, int],
    patch: Sequence[int],
    *,
    low_on_cpu: bool,
    batch: int = 2,
    noise: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Show every network a batch of meta tensors, which have shapes and no values, so that it fails now and not later.

    No random number is drawn, and nothing of a network changes.

    What only values could tell is left to the first batch: a network that cannot run without them is not tried.

    Args:
        networks: Name to network.
        inputs: Name to input channels, of the networks to show it to.
        patch: (H, W) or (D, H, W) of training.
        low_on_cpu: Whether batches run in bfloat16 on the CPU.
        batch: Patches shown.
        noise: Name to numbers, of networks that are shown noise (batch, numbers).

    Raises:
        UsageError: A network does not take the patch, or PyTorch would compute wrong gradients for it.
    """
    shown = {name: (f"{channels} channels", (channels, *patch)) for name, channels in inputs.items()}
    shown |= {name: (f"{numbers} numbers of noise", (numbers,)) for name, numbers in noise.items()}
    for name, (given, shape) in shown.items():
        try:
            twin = copy.deepcopy(networks[name]).to("meta")
            with torch.random.fork_rng([]), torch.no_grad(), _watched(twin) as found:
                twin(torch.empty(batch, *shape, device="meta"))
        except (ValueError, RuntimeError) as error:  # networks refuse sizes with it, and so does a norm of one voxel
            if isinstance(error, NotImplementedError) or any(word in str(error) for word in ("meta", "deepcopy")):
                continue
            raise UsageError(f"--data.patch {list(patch)}: the {name}, given {given}: {error}") from error
        except (TypeError, IndexError):  # values asked for in another way, as by NumPy
            continue
        if found and low_on_cpu:
            where, depth = found[0]
            raise UsageError(
                f"--data.patch {list(patch)} with bfloat16 on the CPU: PyTorch computes wrong gradients for 3-D "
                f"convolutions whose input is {depth} voxels deep, as in the {name}'s {where}; choose another depth, "
                f"or --trainer.precision 32-true"
            )


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[tuple[str, int]]]:
    """Inside, the list takes names and input depths of convolutions for which bfloat16's gradients are wrong."""
    found: list[tuple[str, int]] = []

    def look(name: str, convolution: nn.Conv3d, inputs: tuple[Tensor, ...]) -> None:
        if inputs and suspicious(convolution, depth := inputs[0].shape[2]):
            found.append((name, depth))

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(lambda module, inputs, name=name: look(name, module, inputs))
    yield found


def suspicious(convolution: nn.Conv3d, depth: int) -> bool:
    """Whether bfloat16's weight gradient is wrong for an input of that depth.

    Measured with torch 2.13.0 and its oneDNN on AVX-512 with bf16 (tests/training/test_dry_run.py): inputs shallower
    than the kernel that padding lengthens beyond it, from 16 channels on, without groups and dilation in depth; with
    a stride only kernels deeper than 4. With fewer channels it was right wherever it was tried.
    """
    kernel, stride, dilation = convolution.kernel_size[0], convolution.stride[0], convolution.dilation[0]
    padding = convolution.padding[0] if isinstance(convolution.padding, tuple) else kernel // 2  # "same"
    wide = max(convolution.in_channels, convolution.out_channels) >= 16 and convolution.groups == 1
    lengthened = depth < kernel < depth + 2 * int(padding)
    return wide and lengthened and dilation == 1 and (stride == 1 or kernel > 4)
