"""Where one label meets another, and the loss of a network that finds it in an image."""

from __future__ import annotations

import torch
from torch import Tensor

from segan_pl.losses.activation import activate
from segan_pl.losses.overlap import cross_entropy, soft_dice_loss


def label_boundary(target: Tensor) -> Tensor:
    """Voxels with another label among their 8 or 26 neighbours (the morphological gradient): on both sides of a border.

    Args:
        target: (B, K, *spatial) in {0, 1}, one-hot. A voxel without a label is a boundary where it touches one.

    Returns:
        (B, 1, *spatial) in {0, 1}.
    """
    # Axis by axis, which is the same maximum as of the cube's 9 or 27 voxels.
    around = target
    for axis in range(2, target.ndim):
        shorter = around.shape[axis] - 1
        pairs = torch.maximum(around.narrow(axis, 0, shorter), around.narrow(axis, 1, shorter))
        first, last = around.narrow(axis, 0, 1), around.narrow(axis, shorter, 1)
        before, behind = torch.cat([first, pairs], axis), torch.cat([pairs, last], axis)
        around = torch.maximum(before, behind)
    return (around - target).amax(1, keepdim=True)


def boundary_loss(logits: Tensor, boundary: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Binary cross-entropy plus soft Dice over the batch; ours, as GT-GAN names the network and no loss.

    Args:
        logits: (B, 1, *spatial), of a boundary.
        boundary: (B, 1, *spatial) in {0, 1}.
        mask: (B, 1, *spatial) bool, the voxels that count; None for all.

    Returns:
        Scalar of at least 0, float32 under any precision (float64 for float64).

    Raises:
        ValueError: The shapes differ.
    """
    probability = activate(logits, "sigmoid")
    overlap = soft_dice_loss(probability, boundary, reduction="batch", epsilon=1.0, mask=mask)
    return cross_entropy(logits, boundary, "sigmoid", mask=mask) + overlap
