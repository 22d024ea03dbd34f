"""Voxel-wise losses between a prediction and its reference: soft Dice and cross-entropy."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.functional import cross_entropy as categorical_cross_entropy

from segan_pl.losses.precision import at_least_float32

DiceReduction = Literal["slice", "batch"]
DiceForm = Literal["differentiable", "smooth", "linear", "printed"]


def check_dice_options(reduction: str, epsilon: float, form: str) -> None:
    """Raise ValueError for options that `soft_dice_loss` does not know."""
    if reduction not in get_args(DiceReduction):
        raise ValueError(f"dice reduction is {reduction!r}, expected one of {get_args(DiceReduction)}")
    if form not in get_args(DiceForm):
        raise ValueError(f"dice form is {form!r}, expected one of {get_args(DiceForm)}")
    if not epsilon >= 0:
        raise ValueError(f"dice epsilon is {epsilon}, expected a number of at least 0")


def soft_dice_loss(
    probability: Tensor,
    target: Tensor,
    *,
    reduction: DiceReduction = "slice",
    epsilon: float = 1e-6,
    form: DiceForm = "differentiable",
) -> Tensor:
    """One minus the soft Dice (SegAN-CAT, eq. 2, with squared denominator; AlbuNet, section III, with a plain one).

    differentiable: 1 - (2 sum(pg) + e) / (sum(p^2) + sum(g^2) + e), their code of all 2019 models.
    smooth: 1 - 2 (sum(pg) + e) / (sum(p^2) + sum(g^2) + 2e), their code before.
    linear: 1 - 2 sum(pg) / (sum(p) + sum(g) + e), AlbuNet's, whose code has e = 1e-15 and sums over the batch: what is
    absent from the reference costs a constant 1 and has no gradient, however small the prediction.
    printed: 1 - (sum(pg) + e) / (sum(p) + sum(g) + e), Reciprocal's eq. 3 (Peiris et al. 2022): without the factor 2 a
    perfect prediction of n voxels costs n / (2n + e), nearly 1/2. Its code is "differentiable" per batch with e = 1.
    Epsilon 0 gives the papers' equations, NaN where prediction and reference are both exactly empty.

    Per slice, an empty reference costs a constant 1 without gradient until the prediction is nearly 0 everywhere;
    per batch (ours) it only adds its false positives to the sums.

    Args:
        probability: (B, C, *spatial), after the sigmoid or softmax.
        target: (B, C, *spatial) in {0, 1}.
        reduction: "slice" sums over space and averages over B and C, the paper's; "batch" sums over B and space and
            averages over C.
        epsilon: In voxels; 1e-6 in SegAN-CAT's code, 1e-15 in AlbuNet's.
        form: Above.

    Returns:
        Scalar in [0, 1], float32 under any precision (float64 for float64); 0 for an empty batch.

    Raises:
        ValueError: The shapes differ or an option is unknown.
    """
    check_dice_options(reduction, epsilon, form)
    _require_same_shape(probability, target)
    if not probability.shape[0]:
        return at_least_float32(probability).sum()
    with torch.autocast(probability.device.type, enabled=False):
        p = at_least_float32(probability)
        g = target.to(p.dtype)
        axes = tuple(range(2, p.ndim)) if reduction == "slice" else (0, *range(2, p.ndim))
        if form == "printed":
            return (1 - ((p * g).sum(axes) + epsilon) / (p.sum(axes) + g.sum(axes) + epsilon)).mean()
        overlap = 2 * (p * g).sum(axes)  # (B, C) or (C,)
        if form == "linear":
            return (1 - overlap / (p.sum(axes) + g.sum(axes) + epsilon)).mean()
        total = p.square().sum(axes) + g.square().sum(axes)
        e = epsilon if form == "differentiable" else 2 * epsilon
        return (1 - (overlap + e) / (total + e)).mean()


def cross_entropy(logits: Tensor, target: Tensor, activation: Literal["sigmoid", "softmax"]) -> Tensor:
    """Mean voxel-wise cross-entropy, in nats: binary for each region (sigmoid), or over the labels (softmax).

    Args:
        logits: (B, C, *spatial).
        target: (B, C, *spatial) in {0, 1}; one-hot for softmax.
        activation: Of the label scheme.

    Returns:
        Scalar of at least 0, float32 under any precision (float64 for float64); 0 for an empty batch.

    Raises:
        ValueError: The shapes differ.
    """
    _require_same_shape(logits, target)
    if not logits.shape[0]:
        return at_least_float32(logits).sum()
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        target = target.to(logits.dtype)
        if activation == "softmax":
            return categorical_cross_entropy(logits, target)
        return binary_cross_entropy_with_logits(logits, target)


def _require_same_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"the prediction has shape {tuple(prediction.shape)}, the target {tuple(target.shape)}; "
            f"both must be (B, C, *spatial) with the label scheme's C"
        )
