"""Uncertainty-aware mean teacher (Yu et al. 2019): agree with the teacher only where it is sure of itself."""

from __future__ import annotations

import torch
from torch import Tensor

from segan_pl.losses.pseudo_labels import entropy, largest_entropy, mean_where
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.semi_supervised.base import Samples
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.teachers import noisy, teaching
from segan_pl.objectives.supervised import Supervised


class UncertaintyAwareMeanTeacher(MeanTeacher):
    """Mean teacher over the voxels in which the entropy of the teacher's mean prediction is below a threshold.

    The mean is over `passes` noisy images, in which the network's dropout acts too, where it has any. The threshold
    grows from 0.75 to 1 of the largest entropy, ln K of K labels (paper), ln 2 of a region, as
    0.75 + 0.25 exp(-5 (1 - t / T)^2). A step costs passes + 1 forward passes of the teacher: the target is a pass of
    its own, as in the authors' code.

    Args:
        passes: 8 in the paper.
        weight: 0.1 in the authors' code.
        ramp_up: Of the weight and of the threshold, see `SemiSupervised`.
        decay: 0.99 in the paper.
        noise: See `MeanTeacher`; 0.1 in the authors' code.
        samples: See `MeanTeacher`.
        supervised: See `SemiSupervised`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        passes: int = 8,
        weight: float = 0.1,
        ramp_up: int | None = None,
        decay: float = 0.99,
        noise: float = 0.1,
        samples: Samples = "unlabelled",
        supervised: Supervised | None = None,
    ) -> None:
        super().__init__(
            weight=weight, ramp_up=ramp_up, decay=decay, noise=noise, samples=samples, supervised=supervised
        )
        if passes < 1:
            raise ValueError(f"passes are {passes}, expected at least 1")
        self.passes = passes

    def consistency(self, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """The squared gap over the sure voxels, 0 where there is none; and the share of "sure" ones."""
        with teaching(context) as taught:
            target = taught(noisy(context, self.noise))
            mean = torch.zeros_like(target)
            for number in range(1, self.passes + 1):
                mean += taught(noisy(context, self.noise, number)) / self.passes
        threshold = (0.75 + 0.25 * self.growth(context)) * largest_entropy(mean.shape[1], context.activation)
        sure = entropy(mean, context.activation) < threshold
        if context.voxels is not None:
            sure = sure & context.voxels
        gap = (context.probability - target).square()
        return mean_where(gap, sure), {"sure": sure.float().mean()}
