"""What the semi-supervised objectives share: the supervised term, the parts of a batch, and weights that grow."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite
from typing import Literal

import torch
from torch import Tensor

from segan_pl.errors import UsageError
from segan_pl.losses.overlap import SoftDice
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext
from segan_pl.objectives.supervised import Supervised

Samples = Literal["unlabelled", "all"]


def field_loss() -> Supervised:
    """(Dice + cross-entropy) / 2, Dice over the batch, as the public baselines have it (SSL4MIS, BCP's code)."""
    dice = SoftDice(reduction="batch", epsilon=1e-5)  # SSL4MIS: utils/losses.py, DiceLoss
    return Supervised(dice_weight=0.5, dice=dice, cross_entropy_weight=0.5)


class SemiSupervised(Objective):
    """A supervised loss of the labelled samples, plus weight(t) times a term that needs no label.

    The weight grows as weight * exp(-5 (1 - t / T)^2) until step T and stays (Laine and Aila 2017).

    Args:
        weight: Of the term, once it has grown; above 0.
        ramp_up: T, in steps; 0 for the whole weight from the first step on. None for all steps of the run, which is how
            long the public baselines let it grow (SSL4MIS: 30,000 of 30,000 steps, UA-MT: 6,000 of 6,000).
        supervised: The loss of the labelled samples, and of validation; default `field_loss`.

    Raises:
        ValueError: An argument is out of range.
    """

    needs_unlabelled = True

    def __init__(self, *, weight: float, ramp_up: int | None, supervised: Supervised | None) -> None:
        super().__init__()
        if not (isfinite(weight) and weight > 0):
            raise ValueError(f"weight is {weight}, expected a number above 0; without the term, Supervised is enough")
        require_steps("ramp_up", ramp_up, "none at all, or null for as many as the run has")
        self.weight = weight
        self.ramp_up = ramp_up
        self.supervised = supervised or field_loss()

    def phases(self) -> Sequence[Phase]:
        """The segmentor's; `after` its step."""
        return [Phase("segmentor", self.loss, after=self.after)]

    def loss(self, context: StepContext) -> LossTerms:
        """What the segmentor minimises."""
        raise TypeError(f"{type(self).__name__} must define loss()")

    def after(self, context: StepContext) -> None:
        """What follows the segmentor's step; nothing unless a teacher follows."""

    def supervises_deeply(self) -> bool:
        """By the supervised loss; the term that needs no label is of the image's own resolution."""
        return True

    def validation_parts(self) -> tuple[str, ...]:
        """Those of the supervised loss."""
        return self.supervised.validation_parts()

    def validation_loss(self, context: StepContext) -> LossTerms:
        """The supervised loss alone."""
        return self.supervised.validation_loss(context)

    def growth(self, context: StepContext) -> float:
        """exp(-5 (1 - t / T)^2) at this step, 1 from T on."""
        return grown(context.step, self.length(context, "ramp_up", self.ramp_up, 1.0))

    def length(self, context: StepContext, option: str, given: int | None, share: float) -> int:
        """A number of steps as given, or a share of the run's.

        Raises:
            UsageError: Nothing is given, and the run has no end.
        """
        if given is not None:
            return given
        if context.steps is None:
            raise UsageError(
                f"{type(self).__name__}: {option} null follows the run, which has no end; give --trainer.max_epochs, "
                f"or --model.objective.init_args.{option} as a number of steps"
            )
        return round(share * context.steps)

    def with_term(
        self, context: StepContext, supervised: LossTerms, term: Tensor, name: str, **more: Tensor
    ) -> LossTerms:
        """The supervised loss and the weighted term; parts: those of the first, the bare term, its weight, and more."""
        weight = self.weight * self.growth(context)
        parts = {**supervised.parts, name: term.detach(), "weight": torch.tensor(weight, device=term.device), **more}
        return LossTerms(supervised.total + weight * term, parts)


def grown(step: int, length: int) -> float:
    """exp(-5 (1 - t / T)^2), the growth of a weight (Laine and Aila 2017); 1 from step T on."""
    return exp(-5 * (1 - step / length) ** 2) if step < length else 1.0


def parts(context: StepContext) -> tuple[StepContext, StepContext]:
    """A batch's labelled and unlabelled samples; both share the forward passes that have run.

    Raises:
        UsageError: There are none of one kind.
    """
    labelled, unlabelled = context.labelled, context.unlabelled
    if labelled is None or unlabelled is None:
        found = int(context.batch.labelled.sum())
        raise UsageError(
            f"a batch of {len(context.batch.labelled)} samples has {found} with a label; semi-supervised training "
            f"needs some with and some without in every batch: --data.n_labelled N or --data.unlabelled use, and "
            f"--data.labelled_per_batch"
        )
    return labelled, unlabelled


def require_steps(option: str, given: int | None, zero: str, *, least: int = 0) -> None:
    """Refuse what is no number of steps.

    Raises:
        ValueError: It is below `least`.
    """
    if given is not None and given < least:
        raise ValueError(f"{option} is {given}, expected a number of steps of at least {least} ({zero})")
