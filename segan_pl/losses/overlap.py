"""Voxel-wise losses between a prediction and its reference: soft Dice and cross-entropy, and both as objects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isfinite
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.functional import cross_entropy as categorical_cross_entropy

from segan_pl.errors import UsageError, require_choice
from segan_pl.losses.activation import at_least_float32
from segan_pl.losses.ranks import summed_over_ranks
from segan_pl.losses.voxels import cleared, masked_mean
from segan_pl.recipe import Recorded

DiceReduction = Literal["slice", "batch"]
DiceForm = Literal["differentiable", "smooth", "linear", "printed"]
Normaliser = Literal["voxels", "weights"]


def check_dice_options(reduction: str, epsilon: float, form: str, over_ranks: bool = False) -> None:
    """Raise ValueError for options that `soft_dice_loss` does not know, or that change nothing."""
    require_choice("dice reduction", reduction, DiceReduction)
    require_choice("dice form", form, DiceForm)
    if not epsilon >= 0:
        raise ValueError(f"dice epsilon is {epsilon}, expected a number of at least 0")
    if over_ranks and reduction == "slice":
        raise ValueError(
            "dice over_ranks changes nothing of a Dice for each slice; give reduction: batch too, or leave it out"
        )


def soft_dice_loss(
    probability: Tensor,
    target: Tensor,
    *,
    reduction: DiceReduction = "slice",
    epsilon: float = 1e-6,
    form: DiceForm = "differentiable",
    over_ranks: bool = False,
    mask: Tensor | None = None,
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
        over_ranks: With "batch": sum over the batches of all ranks (ours), so that N ranks train like one with the
            joined batch. Every rank has to call it in the same step; without gradients, as in validation, it sums over
            its own.
        mask: (B, 1, *spatial) bool, the voxels that count; None for all. The others are in no sum.

    Returns:
        Scalar in [0, 1], float32 under any precision (float64 for float64); 0 for an empty batch.

    Raises:
        ValueError: The shapes differ or an option is unknown.

    Example:
        Two of four voxels are true, all are predicted: 1 - 2 * 2 / (4 + 2).

        >>> target = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
        >>> round(float(soft_dice_loss(torch.ones(1, 1, 2, 2), target)), 4)
        0.3333
    """
    check_dice_options(reduction, epsilon, form, over_ranks)
    _require_same_shape(probability, target)
    if not probability.shape[0] and not over_ranks:
        return at_least_float32(probability).sum()
    with torch.autocast(probability.device.type, enabled=False):
        p = cleared(at_least_float32(probability), mask)
        g = cleared(target.to(p.dtype), mask)
        axes = tuple(range(2, p.ndim)) if reduction == "slice" else (0, *range(2, p.ndim))
        common = (p * g).sum(axes)  # (B, C) or (C,)
        if form in ("printed", "linear"):
            total = p.sum(axes) + g.sum(axes)
        else:
            total = p.square().sum(axes) + g.square().sum(axes)
        if over_ranks:
            common, total = summed_over_ranks(torch.stack([common, total])).unbind()
        if form == "printed":
            return (1 - (common + epsilon) / (total + epsilon)).mean()
        overlap = 2 * common
        if form == "linear":
            return (1 - overlap / (total + epsilon)).mean()
        e = epsilon if form == "differentiable" else 2 * epsilon
        return (1 - (overlap + e) / (total + e)).mean()


class SoftDice(Recorded):
    """`soft_dice_loss` with its options, as a configuration gives it to an objective.

    Args:
        reduction: See `soft_dice_loss`.
        epsilon: See `soft_dice_loss`.
        form: See `soft_dice_loss`.
        over_ranks: See `soft_dice_loss`.

    Raises:
        ValueError: An option is unknown, or `over_ranks` is asked of a Dice for each slice.
    """

    def __init__(
        self,
        *,
        reduction: DiceReduction = "slice",
        epsilon: float = 1e-6,
        form: DiceForm = "differentiable",
        over_ranks: bool = False,
    ) -> None:
        check_dice_options(reduction, epsilon, form, over_ranks)
        self.loss = partial(soft_dice_loss, reduction=reduction, epsilon=epsilon, form=form, over_ranks=over_ranks)

    def __call__(self, probability: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Scalar, of (B, C, *spatial) each, over the voxels that count."""
        return self.loss(probability, target, mask=mask)


def cross_entropy(
    logits: Tensor, target: Tensor, activation: Literal["sigmoid", "softmax"], *, mask: Tensor | None = None
) -> Tensor:
    """Mean voxel-wise cross-entropy, in nats: binary for each region (sigmoid), or over the labels (softmax).

    Args:
        logits: (B, C, *spatial).
        target: (B, C, *spatial) in {0, 1}; one-hot for softmax.
        activation: Of the label scheme.
        mask: (B, 1, *spatial) bool, the voxels that count, over which the mean is; None for all.

    Returns:
        Scalar of at least 0, float32 under any precision (float64 for float64); 0 where no voxel counts.

    Raises:
        ValueError: The shapes differ.
    """
    _require_same_shape(logits, target)
    if not logits.shape[0]:
        return at_least_float32(logits).sum()
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        target = target.to(logits.dtype)
        if mask is not None:
            logits, target = cleared(logits, mask), cleared(target, mask)
            if activation == "softmax":
                terms = categorical_cross_entropy(logits, target, reduction="none").unsqueeze(1)
            else:
                terms = binary_cross_entropy_with_logits(logits, target, reduction="none")
            return masked_mean(terms, mask)
        if activation == "softmax":
            return categorical_cross_entropy(logits, target)
        return binary_cross_entropy_with_logits(logits, target)


def weighted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    activation: Literal["sigmoid", "softmax"],
    weights: Sequence[float],
    *,
    normaliser: Normaliser = "voxels",
    mask: Tensor | None = None,
) -> Tensor:
    """Cross-entropy in which each channel has a weight, for tissues of unequal size (Ronneberger et al. 2015, eq. 1).

    A term of exclusive labels weighs as much as the label of its voxel; of regions, as much as its channel.
    voxels: the sum of the weighted terms over their number, as TensorFlow's losses have it; a batch with more voxels of
    a heavy channel costs more. Mondal's GAN for infant brains uses 0.33, 1.5, 0.83 and 1.33 (background, CSF, GM, WM).
    weights: over the sum of their weights, as PyTorch's `cross_entropy(weight=...)`; only ratios of weights matter.

    Args:
        logits: (B, C, *spatial).
        target: (B, C, *spatial) in {0, 1}; one-hot for softmax.
        activation: Of the label scheme.
        weights: One for each of the C channels, at least 0, in the label scheme's order.
        normaliser: Above.
        mask: (B, 1, *spatial) bool, the voxels that count; None for all.

    Returns:
        Scalar of at least 0, in nats, float32 under any precision (float64 for float64); 0 where nothing counts.

    Raises:
        UsageError: There is not one weight for each channel.
        ValueError: The shapes differ.
    """
    _require_same_shape(logits, target)
    if len(weights) != logits.shape[1]:
        raise UsageError(
            f"the cross-entropy has {len(weights)} weights, {list(weights)}, and the label scheme {logits.shape[1]} "
            f"channels; give one weight for each, in the order of the channels (the background of labels is first)"
        )
    with torch.autocast(logits.device.type, enabled=False):
        logits = cleared(at_least_float32(logits), mask)
        target = cleared(target.to(logits.dtype), mask)
        each = logits.new_tensor(weights).reshape(-1, *[1] * (logits.ndim - 2))  # (C, 1, ...)
        if activation == "softmax":
            terms = -(each * target * logits.log_softmax(1)).sum(1, keepdim=True)  # (B, 1, *spatial)
            weight = (each * target).sum(1, keepdim=True)
        else:
            terms = each * binary_cross_entropy_with_logits(logits, target, reduction="none")  # (B, C, *spatial)
            weight = each.expand_as(terms)
        if normaliser == "voxels":
            return masked_mean(terms, mask)
        total = cleared(weight, mask).sum()
        # Nothing counts where it is 0, and the numerator is 0 too.
        return cleared(terms, mask).sum() / torch.where(total > 0, total, 1)


class WeightedCrossEntropy(Recorded):
    """`weighted_cross_entropy` with its options, as a configuration gives it to an objective.

    Args:
        weights: One for each channel of the label scheme, in its order; the background of labels is first.
        normaliser: See `weighted_cross_entropy`.

    Raises:
        ValueError: A weight is negative or no number, all are 0, or the normaliser is unknown.
    """

    def __init__(self, weights: list[float], *, normaliser: Normaliser = "voxels") -> None:
        require_choice("cross-entropy normaliser", normaliser, Normaliser)
        if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"cross-entropy weights are {weights}, expected numbers of at least 0 and not all 0")
        self.loss = partial(weighted_cross_entropy, weights=weights, normaliser=normaliser)

    def __call__(
        self, logits: Tensor, target: Tensor, activation: Literal["sigmoid", "softmax"], *, mask: Tensor | None = None
    ) -> Tensor:
        """Scalar, of (B, C, *spatial) each, over the voxels that count."""
        return self.loss(logits, target, activation, mask=mask)


def _require_same_shape(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"the prediction has shape {tuple(prediction.shape)}, the target {tuple(target.shape)}; "
            f"both must be (B, C, *spatial) with the label scheme's C"
        )
