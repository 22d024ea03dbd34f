"""The game of one: a segmentor that minimises Dice and cross-entropy, the reference for every adversarial system."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isfinite

import torch

from segan_pl.losses.overlap import DiceForm, DiceReduction, check_dice_options, cross_entropy, soft_dice_loss
from segan_pl.objectives.base import LossTerms, Objective, Play, Turn


class Supervised(Objective):
    """dice_weight * soft Dice + cross_entropy_weight * cross-entropy (ours: SegAN-CAT without its critic).

    Every slice of the batch must be labelled.

    Args:
        dice_weight: At least 0.
        dice_reduction: See `soft_dice_loss`.
        dice_epsilon: See `soft_dice_loss`.
        dice_form: See `soft_dice_loss`.
        dice_background: Whether the background of exclusive labels has a share in Dice; regions have no background.
        cross_entropy_weight: At least 0; binary for each region or over the labels, by the label scheme.

    Raises:
        ValueError: A weight is negative or both are 0, or a Dice option is unknown.
    """

    players = ("segmentor",)

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        dice_reduction: DiceReduction = "slice",
        dice_epsilon: float = 1e-6,
        dice_form: DiceForm = "differentiable",
        dice_background: bool = True,
        cross_entropy_weight: float = 0.0,
    ) -> None:
        super().__init__()
        weights = {"dice_weight": dice_weight, "cross_entropy_weight": cross_entropy_weight}
        if not all(isfinite(weight) and weight >= 0 for weight in weights.values()) or not any(weights.values()):
            raise ValueError(f"weights are {weights}, expected numbers of at least 0 and not both 0")
        check_dice_options(dice_reduction, dice_epsilon, dice_form)
        self.dice_weight = dice_weight
        self.dice = partial(soft_dice_loss, reduction=dice_reduction, epsilon=dice_epsilon, form=dice_form)
        self.dice_background = dice_background
        self.cross_entropy_weight = cross_entropy_weight

    def turns(self) -> Sequence[Turn]:
        """The segmentor's only."""
        return [Turn("segmentor", self.loss)]

    def loss(self, play: Play) -> LossTerms:
        """The weighted sum; parts "dice" and "cross_entropy" unweighted, a term of weight 0 left out."""
        terms = []
        parts = {}
        if self.dice_weight:
            first = 0 if self.dice_background or play.activation == "sigmoid" else 1  # channel 0 of labels: background
            dice = self.dice(play.probability[:, first:], play.batch.target[:, first:])
            terms.append(self.dice_weight * dice)
            parts["dice"] = dice.detach()
        if self.cross_entropy_weight:
            entropy = cross_entropy(play.logits, play.batch.target, play.activation)
            terms.append(self.cross_entropy_weight * entropy)
            parts["cross_entropy"] = entropy.detach()
        return LossTerms(torch.stack(terms).sum(), parts)
