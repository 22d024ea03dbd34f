"""Mean teacher (Tarvainen and Valpola 2017): agree with an average of oneself about noisy images without a label."""

from __future__ import annotations

from math import isfinite
from types import MappingProxyType

from torch import Tensor

from segan_pl.errors import require_choice
from segan_pl.losses.voxels import masked_mean
from segan_pl.objectives.base import LossTerms, StepContext
from segan_pl.objectives.semi_supervised.base import Samples, SemiSupervised, parts
from segan_pl.objectives.semi_supervised.teachers import TEACHER, early, follow, noisy, require_decay, teaching
from segan_pl.objectives.supervised import Supervised


class MeanTeacher(SemiSupervised):
    """Supervised loss + weight(t) * mean squared gap between the probabilities of segmentor and teacher.

    The form that SSL4MIS made the field's: the segmentor sees a batch once, as it is, the teacher sees it with noise. A
    step costs one forward pass of the teacher more than supervised training with the same batch.

    Args:
        weight: 0.1 in SSL4MIS and UA-MT's code.
        ramp_up: See `SemiSupervised`.
        decay: Of the teacher's average; 0.99 in SSL4MIS, from 0 on at first, see `teachers.early`.
        noise: Standard deviation of the teacher's noise, in the image's units; 0.1 in SSL4MIS, whose images are
            z-scores. It is cut off at twice this.
        samples: Which samples are compared: the "unlabelled" ones (SSL4MIS, UA-MT), or "all" (the paper).
        supervised: See `SemiSupervised`.

    Raises:
        ValueError: An argument is out of range.
    """

    networks = ("segmentor", TEACHER)
    built_like = MappingProxyType({TEACHER: "segmentor"})
    teachers = (TEACHER,)

    def __init__(
        self,
        *,
        weight: float = 0.1,
        ramp_up: int | None = None,
        decay: float = 0.99,
        noise: float = 0.1,
        samples: Samples = "unlabelled",
        supervised: Supervised | None = None,
    ) -> None:
        super().__init__(weight=weight, ramp_up=ramp_up, supervised=supervised)
        require_decay(decay)
        require_choice("samples", samples, Samples)
        if not (isfinite(noise) and noise >= 0):
            raise ValueError(f"noise is {noise}, expected a standard deviation of at least 0")
        self.decay = decay
        self.noise = noise
        self.samples: Samples = samples

    def loss(self, context: StepContext) -> LossTerms:
        """Parts of the supervised loss, "consistency" unweighted, and its "weight"."""
        # Asked first, one forward pass serves both parts of the batch.
        _ = context.logits
        _, unlabelled = parts(context)
        supervised = self.supervised.loss(context)
        term, more = self.consistency(context if self.samples == "all" else unlabelled)
        return self.with_term(context, supervised, term, "consistency", **more)

    def consistency(self, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """The squared gap over the voxels that are judged, scalar of at least 0; and nothing more to log."""
        with teaching(context) as taught:
            target = taught(noisy(context, self.noise))
        return masked_mean((context.probability - target).square(), context.voxels), {}

    def after(self, context: StepContext) -> None:
        """Let the teacher follow."""
        follow(context, early(self.decay, context.step))
