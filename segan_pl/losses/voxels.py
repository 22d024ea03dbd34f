"""Voxels that count, and those that are not judged: they are in no sum, and nothing flows back to them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate


def cleared(value: Tensor, mask: Tensor | None) -> Tensor:
    """The value where voxels count and 0 elsewhere, there without a gradient; itself without a mask.

    Args:
        value: (B, C, *spatial).
        mask: (B, 1, *spatial) bool, True where the voxel counts.
    """
    return value if mask is None else value.masked_fill(~mask, 0)


def resized(value: Tensor, size: Sequence[int]) -> Tensor:
    """A target or mask on a coarser grid, each voxel the nearest one's, as nnU-Net reduces targets; itself on its own.

    Args:
        value: (B, C, *spatial), of any dtype.
        size: Of the coarser grid, in voxels.
    """
    if value.shape[2:] == tuple(size):
        return value
    # PyTorch interpolates no booleans.
    return interpolate(value.float(), tuple(size), mode="nearest-exact").to(value.dtype)


def masked_mean(terms: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of a loss's terms (B, C, *spatial) over the voxels that count; 0 where none does."""
    if mask is None:
        return terms.mean() if terms.numel() else terms.sum()
    return cleared(terms, mask).sum() / (mask.sum() * terms.shape[1]).clamp_min(1)
