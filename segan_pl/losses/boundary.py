"""Where one label meets another, and the loss of a network that finds it in an image."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import max_pool2d, max_pool3d

from segan_pl.losses.activation import activate
from segan_pl.losses.overlap import cross_entropy, soft_dice_loss


def label_boundary(target: Tensor) -> Tensor:
    """Voxels with another label among their 8 or 26 neighbours (the morphological gradient): on both sides of a border.

    Args:
        target: (B, K, *spatial) in {0, 1}, one-hot. A voxel without a label is a boundary where it touches one.

    Returns:
        (B, 1, *spatial) in {0, 1}.
    """
    pool = max_pool2d if target.ndim == 4 else max_pool3d
    around = pool(target, 3, stride=1, padding=1)
    boundary: Tensor = (around - target).amax(1, keepdim=True)
    return boundary


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
