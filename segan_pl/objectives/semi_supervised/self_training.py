"""Self-training: a network is trained again on what an earlier state of itself decided, where that state was sure."""

from __future__ import annotations

from types import MappingProxyType

from segan_pl.losses.pseudo_labels import confidence, hard_labels
from segan_pl.objectives.base import LossTerms, StepContext
from segan_pl.objectives.semi_supervised.base import SemiSupervised, parts, require_steps
from segan_pl.objectives.semi_supervised.fixmatch import require_confidence
from segan_pl.objectives.semi_supervised.teachers import TEACHER, follow, teaching
from segan_pl.objectives.supervised import Supervised


class SelfTraining(SemiSupervised):
    """Supervised at first; then also on pseudo-labels, by the same loss (ours, after Lee 2013 and Bai et al. 2017).

    The teacher is a snapshot of the segmentor, taken when the warm-up ends and then every `refresh` steps: Bai et al.
    alternate between labelling and training, Lee labels with the network as it is in each step. Its hard labels count
    in the voxels of which it is sure, of regions where it is sure of all. During the warm-up a step sees the labelled
    patches alone; afterwards it costs one forward pass of the teacher more.

    Args:
        warm_up: Steps before the first snapshot; None for half of the run (ours).
        refresh: Steps between snapshots; None for a tenth of the run, at least 1 (ours).
        threshold: Least confidence of a pseudo-label; 0.9 is ours.
        weight: Of the pseudo-labelled samples against the labelled ones; 1 is ours.
        ramp_up: See `SemiSupervised`; counted from the first step, 0 by default.
        supervised: The loss of labels and of pseudo-labels, see `SemiSupervised`.

    Raises:
        ValueError: An argument is out of range.
    """

    networks = ("segmentor", TEACHER)
    built_like = MappingProxyType({TEACHER: "segmentor"})
    teachers = (TEACHER,)

    def __init__(
        self,
        *,
        warm_up: int | None = None,
        refresh: int | None = None,
        threshold: float = 0.9,
        weight: float = 1.0,
        ramp_up: int | None = 0,
        supervised: Supervised | None = None,
    ) -> None:
        super().__init__(weight=weight, ramp_up=ramp_up, supervised=supervised)
        require_steps("warm_up", warm_up, "the first weights give the first labels")
        require_steps("refresh", refresh, "a snapshot after every step", least=1)
        require_confidence("threshold", threshold)
        self.warm_up = warm_up
        self.refresh = refresh
        self.threshold = threshold

    def loss(self, context: StepContext) -> LossTerms:
        """Parts of the supervised loss, later "pseudo" unweighted, its "weight", and the share of "sure" voxels."""
        if context.step < self._begins(context):
            return self.supervised.loss(context)
        # Asked first, one forward pass serves both parts of the batch.
        _ = context.logits
        _, unlabelled = parts(context)
        supervised = self.supervised.loss(context)
        with teaching(unlabelled) as taught:
            probability = taught(unlabelled.batch.image)
        activation = context.activation
        decided = hard_labels(probability, activation)
        sure = (confidence(probability, activation) >= self.threshold).all(1, keepdim=True)
        term = self.supervised.compared(unlabelled.logits, decided, activation, unlabelled.probability, mask=sure).total
        return self.with_term(context, supervised, term, "pseudo", sure=sure.float().mean())

    def after(self, context: StepContext) -> None:
        """Take a snapshot when it is due; until the warm-up ends, the teacher is the segmentor."""
        done = context.step + 1 - self._begins(context)
        refresh = max(self.length(context, "refresh", self.refresh, 0.1), 1)
        if done <= 0 or done % refresh == 0:
            follow(context, 0.0)

    def _begins(self, context: StepContext) -> int:
        return self.length(context, "warm_up", self.warm_up, 0.5)
