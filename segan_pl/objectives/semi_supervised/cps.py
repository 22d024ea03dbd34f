"""Cross pseudo supervision (Chen et al. 2021): two segmentors, each of which learns what the other one decides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import MappingProxyType

from segan_pl.errors import require_choice
from segan_pl.losses.activation import activate
from segan_pl.losses.pseudo_labels import hard_labels
from segan_pl.objectives.base import LossTerms, Phase, StepContext, over_resolutions
from segan_pl.objectives.semi_supervised.base import Samples, SemiSupervised, parts
from segan_pl.objectives.supervised import Supervised

SECOND = "second"


class CrossPseudoSupervision(SemiSupervised):
    """Each of two segmentors minimises supervised loss + weight(t) * loss against the other's hard labels.

    The two differ in their first weights alone, two draws of the network's own initialisation; the authors draw by one
    rule too, SSL4MIS by two (Kaiming's and Xavier's). Both see a batch once, and both decide before either moves. The
    first, "segmentor", is validated and predicts; the second is kept for a run that goes on. A step costs twice that of
    supervised training.

    Args:
        weight: 0.1 in SSL4MIS; in the paper 1.5 (VOC) and 6 (Cityscapes), from the first step on.
        ramp_up: See `SemiSupervised`; SSL4MIS lets the weight grow, the authors do not.
        pseudo: The loss against hard labels; default cross-entropy (the paper, SSL4MIS). Dice, for example, is a
            `Supervised` with `dice_weight` 1 and `cross_entropy_weight` 0.
        samples: Which samples give pseudo-labels: the "unlabelled" ones (SSL4MIS), or "all" (the paper).
        supervised: See `SemiSupervised`.

    Raises:
        ValueError: An argument is out of range.
    """

    networks = ("segmentor", SECOND)
    built_like = MappingProxyType({SECOND: "segmentor"})

    def __init__(
        self,
        *,
        weight: float = 0.1,
        ramp_up: int | None = None,
        pseudo: Supervised | None = None,
        samples: Samples = "unlabelled",
        supervised: Supervised | None = None,
    ) -> None:
        super().__init__(weight=weight, ramp_up=ramp_up, supervised=supervised)
        require_choice("samples", samples, Samples)
        self.pseudo = pseudo or Supervised(dice_weight=0.0, cross_entropy_weight=1.0)
        self.samples: Samples = samples

    def phases(self) -> Sequence[Phase]:
        """The segmentor's, then the second one's."""
        return [
            Phase("segmentor", partial(self.loss, name="segmentor", other=SECOND)),
            Phase(SECOND, partial(self.loss, name=SECOND, other="segmentor")),
        ]

    def loss(self, context: StepContext, name: str = "segmentor", other: str = SECOND) -> LossTerms:
        """Of one of the two; parts of the supervised loss, "pseudo" unweighted, and its "weight"."""
        # Asked first, one forward pass of each serves both parts of the batch and both phases.
        own, others = context.deep_logits(name)[0], context.deep_logits(other)[0]
        labelled, unlabelled = parts(context)
        activation = context.activation
        supervised = over_resolutions(labelled, self.supervised.at_one_resolution, name)
        learners = context
        if self.samples == "unlabelled":
            learners, own, others = unlabelled, unlabelled.deep_logits(name)[0], unlabelled.deep_logits(other)[0]
        decided = hard_labels(activate(others, activation), activation)
        term = self.pseudo.compared(own, decided, activation, **learners.masked).total
        return self.with_term(context, supervised, term, "pseudo")
