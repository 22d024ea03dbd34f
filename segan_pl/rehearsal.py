"""The players' first batch on meta tensors, which have shapes and no values: what would fail later fails at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from segan_pl.errors import UsageError

WRONG_DEPTH = 2  # see suspicious


def rehearse(
    players: Mapping[str, nn.Module],
    inputs: Mapping[str, int],
    patch: Sequence[int],
    *,
    low_on_cpu: bool,
    batch: int = 2,
) -> None:
    """Show every player a batch without values; no random number is drawn, and nothing of a player changes.

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
