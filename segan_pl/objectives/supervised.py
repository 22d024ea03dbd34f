"""The game of one: a segmentor that minimises Dice and cross-entropy, the reference for every adversarial system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from segan_pl.losses.activation import Activation, activate
from segan_pl.losses.overlap import SoftDice, cross_entropy
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext, of_labelled, over_resolutions


class Supervised(Objective):
    """dice_weight * soft Dice + cross_entropy_weight * cross-entropy (ours: SegAN-CAT without its critic).

    Of a batch the labelled samples count.

    Args:
        dice_weight: At least 0.
        dice: A loss of (probability, target), an object or a function; default `SoftDice()`.
        dice_background: Whether the background of exclusive labels has a share in Dice; regions have no background.
        cross_entropy_weight: At least 0.
        cross_entropy: A loss of (logits, target, activation); binary for each region or over the labels, by the label
            scheme, unless another one is given, as `losses.overlap.WeightedCrossEntropy` with a weight for each tissue.

    Raises:
        ValueError: A weight is negative or both are 0.
    """

    networks = ("segmentor",)

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        dice: SoftDice | Callable[..., Any] | None = None,
        dice_background: bool = True,
        cross_entropy_weight: float = 0.0,
        cross_entropy: Callable[..., Any] = cross_entropy,
    ) -> None:
        super().__init__()
        weights = {"dice_weight": dice_weight, "cross_entropy_weight": cross_entropy_weight}
        if not all(isfinite(weight) and weight >= 0 for weight in weights.values()) or not any(weights.values()):
            raise ValueError(f"weights are {weights}, expected numbers of at least 0 and not both 0")
        self.dice_weight = dice_weight
        self.dice = dice or SoftDice()
        self.dice_background = dice_background
        self.cross_entropy_weight = cross_entropy_weight
        self.cross_entropy = cross_entropy

    def phases(self) -> Sequence[Phase]:
        """The segmentor's only."""
        return [Phase("segmentor", self.loss)]

    def validation_parts(self) -> tuple[str, ...]:
        """The terms whose weight is not 0."""
        weights = {"dice": self.dice_weight, "cross_entropy": self.cross_entropy_weight}
        return tuple(name for name, weight in weights.items() if weight)

    def validation_loss(self, context: StepContext) -> LossTerms:
        """The loss of training."""
        return self.loss(context)

    def supervises_deeply(self) -> bool:
        """It does: each term is a mean over resolutions."""
        return True

    @of_labelled
    def loss(self, context: StepContext) -> LossTerms:
        """The weighted sum; parts "dice" and "cross_entropy" unweighted, a term of weight 0 left out."""
        return over_resolutions(context, self.at_one_resolution)

    def at_one_resolution(self, context: StepContext) -> LossTerms:
        """The same of the context's `logits` alone, whether or not there are lower resolutions."""
        probability = context.probability if self.dice_weight else None
        return self.compared(context.logits, context.target, context.activation, probability, **context.masked)

    def compared(
        self,
        logits: Tensor,
        target: Tensor,
        activation: Activation,
        probability: Tensor | None = None,
        *,
        mask: Tensor | None = None,
    ) -> LossTerms:
        """The same for any prediction and mask of labels: of changed images, or of pseudo-labels.

        Args:
            logits: (B, C, *spatial).
            target: (B, C, *spatial) in {0, 1}.
            activation: Of the label scheme.
            probability: Of the logits, where it is there already.
            mask: (B, 1, *spatial) bool, the voxels that count; None for all.
        """
        masked = {} if mask is None else {"mask": mask}
        terms = []
        parts = {}
        if self.dice_weight:
            if probability is None:
                probability = activate(logits, activation)
            # Channel 0 of exclusive labels is the background; regions have none.
            first = 0 if self.dice_background or activation == "sigmoid" else 1
            dice = self.dice(probability[:, first:], target[:, first:], **masked)
            terms.append(self.dice_weight * dice)
            parts["dice"] = dice.detach()
        if self.cross_entropy_weight:
            entropy = self.cross_entropy(logits, target, activation, **masked)
            terms.append(self.cross_entropy_weight * entropy)
            parts["cross_entropy"] = entropy.detach()
        return LossTerms(torch.stack(terms).sum(), parts)


class LabelLoss(Objective):
    """What adversarial objectives with Dice share: dice_weight * Dice, or * another supervised loss in its place.

    Attributes:
        dice: A loss of (probability, target).
        dice_weight: At least 0.
        supervised: The loss in its place, or None.
    """

    dice: Callable[..., Any]
    dice_weight: float
    supervised: Supervised | None

    def supervises_deeply(self) -> bool:
        """By this loss, which is then a mean over resolutions; a critic sees the image's own."""
        return bool(self.dice_weight)

    def validation_parts(self) -> tuple[str, ...]:
        """Dice, or those of the supervised loss; none where its weight is 0, as in SegAN's paper."""
        if self.supervised is not None:
            return self.supervised.validation_parts()
        return ("dice",) if self.dice_weight else ()

    def validation_loss(self, context: StepContext) -> LossTerms:
        """dice_weight * Dice, or * the supervised loss; parts unweighted."""
        if self.supervised is not None:
            total, parts = self.supervised.at_one_resolution(context)
            return LossTerms(self.dice_weight * total, parts)
        dice = self.dice(context.probability, context.target, **context.masked)
        return LossTerms(self.dice_weight * dice, {"dice": dice})


def require_one_loss(supervised: Supervised | None, dice: object, dice_weight: float) -> Supervised | None:
    """The supervised loss of an adversarial objective, which takes the place of its Dice.

    Raises:
        ValueError: Dice is given too, or the weight of both is 0.
    """
    if supervised is not None and dice is not None:
        raise ValueError("supervised and dice are given, expected one of them; Dice is an argument of supervised too")
    if supervised is not None and not dice_weight:
        raise ValueError("dice_weight is 0, with which the supervised loss does nothing; leave one of them out")
    return supervised
