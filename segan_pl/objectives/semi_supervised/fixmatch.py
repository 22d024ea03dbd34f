"""FixMatch (Sohn et al. 2020): what is sure about an image as it is must hold for a strongly changed one."""

from __future__ import annotations

import torch
from torch import Tensor

from segan_pl.batch import Batch
from segan_pl.losses.activation import activate
from segan_pl.losses.pseudo_labels import confidence, hard_labels
from segan_pl.losses.vat import divergence, frozen_statistics
from segan_pl.objectives.base import LossTerms, StepContext
from segan_pl.objectives.semi_supervised.base import SemiSupervised, parts
from segan_pl.objectives.semi_supervised.views import StrongView
from segan_pl.objectives.supervised import Supervised


class FixMatch(SemiSupervised):
    """Supervised loss + weight * cross-entropy of the strong view against hard labels of the weak one, if sure.

    The weak view is the patch as the data module made it, mirrored and scaled as `data.augmentation` says; the strong
    one changes its intensities alone, so that voxels match. A voxel (of regions, each region of it) that is not sure
    counts as 0 in the mean, as in the paper's eq. 4. The segmentor sees labelled and strong patches in one pass that
    learns, and the weak ones in one that does not: for a network with batch norm ours, as the authors' one pass mixes
    all three in its statistics.

    Args:
        threshold: Least confidence; 0.95 in the paper.
        weight: 1 in the paper.
        ramp_up: See `SemiSupervised`; 0 in the paper, whose mask lets the term grow by itself.
        strong: The strong view, a function of a `Batch` to images (B, M, *spatial); default `StrongView()`.
        supervised: See `SemiSupervised`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.95,
        weight: float = 1.0,
        ramp_up: int | None = 0,
        strong: StrongView | None = None,
        supervised: Supervised | None = None,
    ) -> None:
        super().__init__(weight=weight, ramp_up=ramp_up, supervised=supervised)
        require_confidence("threshold", threshold)
        self.threshold = threshold
        self.strong = strong or StrongView()

    def loss(self, context: StepContext) -> LossTerms:
        """Parts of the supervised loss, "strong" unweighted, its "weight", and the share of "sure" decisions."""
        labelled, unlabelled = parts(context)
        changed = unlabelled.batch._replace(image=self.strong(unlabelled.batch))
        seen = context.of(Batch(*(torch.cat(pair) for pair in zip(labelled.batch, changed, strict=True))))
        # Asked first, one forward pass serves both parts.
        _ = seen.logits
        supervised = self.supervised.loss(seen)
        strong = parts(seen)[1].logits
        with torch.no_grad(), frozen_statistics(context.networks["segmentor"]):
            weak = activate(unlabelled.segment(unlabelled.batch.image), context.activation)
        sure = confidence(weak, context.activation) >= self.threshold
        terms = divergence(hard_labels(weak, context.activation), strong, context.activation)
        return self.with_term(context, supervised, sure_mean(terms, sure), "strong", sure=sure.float().mean())


def sure_mean(terms: Tensor, sure: Tensor) -> Tensor:
    """Mean of terms over all elements, in which those that are not sure are 0."""
    return terms.masked_fill(~sure, 0).mean()


def require_confidence(option: str, given: float) -> None:
    """Refuse a confidence that no prediction has, or that says nothing.

    Raises:
        ValueError: It is below 0, or 1 and more.
    """
    if not 0 <= given < 1:
        raise ValueError(f"{option} is {given}, expected a probability from 0 (every voxel is sure) to below 1")
