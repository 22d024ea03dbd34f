"""Sizes that the players do not take, by what they say of themselves and by a first batch without values."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from segan_pl.errors import UsageError
from segan_pl.inference.windows import Windows

WRONG_DEPTH = 2  # see suspicious


def require_sizes(
    players: Mapping[str, nn.Module],
    inputs: Mapping[str, int],
    patch: Sequence[int],
    windows: Windows,
    *,
    low_on_cpu: bool,
) -> None:
    """Refuse a training patch or windows that a player does not take, naming the nearest sizes that it does.

    Args:
        players: Name to network.
        inputs: Name to input channels.
        patch: (H, W) or (D, H, W) of training.
        windows: How volumes are walked over.
        low_on_cpu: Whether batches run in bfloat16 on the CPU.

    Raises:
        UsageError: As said, and as `Windows.require_sense` and `rehearse`.
    """
    plane = divisor(players, "divisor")
    needed = [plane] * len(patch)
    if len(patch) == 3:  # a network whose strides leave the depth alone says so
        needed[0] = divisor(players, "depth_divisor")
    if any(side % n for side, n in zip(patch, needed, strict=True)):
        near = [f"{side // n * n or n} or {(side // n + 1) * n}" for side, n in zip(patch, needed, strict=True)]
        shown = plane if len(set(needed)) == 1 else needed
        raise UsageError(
            f"--data.patch {list(patch)}: the networks need multiples of {shown}; nearest {', '.join(near)}"
        )
    windows.require_sense(patch)
    if windows.whole and windows.whole % plane:
        raise UsageError(
            f"--model.windows.whole {windows.whole}: expected a multiple of {plane}, which the networks need"
        )
    if len(patch) == 3 or any(isinstance(module, nn.Conv3d) for one in players.values() for module in one.modules()):
        rehearse(players, inputs, patch, low_on_cpu=low_on_cpu)


def divisor(players: Mapping[str, nn.Module], name: str) -> int:
    """What all players' sizes must be divisible by; the depth's is that of the plane unless a player says it."""
    own = (getattr(player, name, getattr(player, "divisor", 1)) for player in players.values())
    return math.lcm(*map(int, own))


def least_batch(players: Mapping[str, nn.Module], inputs: Mapping[str, int], patch: Sequence[int]) -> int:
    """Patches that a batch needs in training: 2 where one leaves batch norm a single value a channel, else 1."""
    try:
        rehearse(players, inputs, patch, low_on_cpu=False, batch=1)
    except UsageError as error:
        return 2 if "more than 1 value per channel" in str(error) else 1  # PyTorch's words
    return 1


def rehearse(
    players: Mapping[str, nn.Module],
    inputs: Mapping[str, int],
    patch: Sequence[int],
    *,
    low_on_cpu: bool,
    batch: int = 2,
) -> None:
    """Show every player a batch of meta tensors, which have shapes and no values, so that it fails now and not later.

    No random number is drawn, and nothing of a player changes.

    What only values could tell is left to the first batch: a network that cannot run without them is not rehearsed.

    Args:
        players: Name to network.
        inputs: Name to input channels.
        patch: (H, W) or (D, H, W) of training.
        low_on_cpu: Whether batches run in bfloat16 on the CPU.
        batch: Patches shown.

    Raises:
        UsageError: A network does not take the patch, or PyTorch would compute wrong gradients for it.
    """
    for name, player in players.items():
        twin = copy.deepcopy(player).to("meta")
        try:
            with torch.random.fork_rng([]), torch.no_grad(), _watched(twin) as found:
                twin(torch.empty(batch, inputs[name], *patch, device="meta"))
        except (ValueError, RuntimeError) as error:  # networks refuse sizes with it, and so does a norm of one voxel
            if isinstance(error, NotImplementedError) or "meta" in str(error):
                continue
            raise UsageError(f"--data.patch {list(patch)}: {error}") from error
        if found and low_on_cpu:
            raise UsageError(
                f"--data.patch {list(patch)} with bfloat16 on the CPU: PyTorch computes wrong gradients for 3-D "
                f"convolutions whose input is {WRONG_DEPTH} voxels deep, as in the {name}'s {found[0]}; choose another "
                f"depth, or --trainer.precision 32-true"
            )


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[str]]:
    """Inside, the list takes the names of convolutions for which bfloat16's gradients are wrong."""
    found: list[str] = []

    def look(name: str, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[2] == WRONG_DEPTH:
            found.append(name)

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d) and suspicious(module):
            module.register_forward_pre_hook(lambda _, inputs, name=name: look(name, inputs))
    yield found


def suspicious(convolution: nn.Conv3d) -> bool:
    """Whether bfloat16's weight gradient is wrong for an input two voxels deep.

    Measured with torch 2.13.0 and its oneDNN on AVX-512 with bf16 (tests/test_rehearsal.py): kernels three voxels deep,
    without stride and dilation in depth, from 16 channels on; with fewer it was right wherever it was tried.
    """
    depth = (convolution.kernel_size[0], convolution.stride[0], convolution.dilation[0])
    return depth == (3, 1, 1) and max(convolution.in_channels, convolution.out_channels) >= 16
