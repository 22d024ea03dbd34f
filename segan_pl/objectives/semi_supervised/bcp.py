"""Bidirectional copy-paste (Bai et al. 2023): labelled and unlabelled patches are pasted into one another."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from segan_pl.batch import Batch
from segan_pl.losses.pseudo_labels import hard_labels, largest_components
from segan_pl.losses.voxels import resized
from segan_pl.objectives.base import LossTerms, StepContext, over_resolutions
from segan_pl.objectives.semi_supervised.base import SemiSupervised, parts, require_steps
from segan_pl.objectives.semi_supervised.teachers import TEACHER, follow, require_decay, teaching
from segan_pl.objectives.semi_supervised.views import PASTED, boxes, spread
from segan_pl.objectives.supervised import Supervised


class Mixed(NamedTuple):
    """Images of which each is one sample in a box and another one around it.

    Attributes:
        batch: Of the mixed images (B, M, *spatial), with the targets mixed alike.
        labelled: (B, 1, *spatial) bool, where the sample with a label is seen.
    """

    batch: Batch
    labelled: Tensor


class BidirectionalCopyPaste(SemiSupervised):
    """Supervised loss on mixed images: of the labels in the labelled part, of a teacher's hard labels in the other.

    First the warm-up: labelled patches are pasted into labelled ones. Then each of the first half of the labelled
    patches takes in a box of an unlabelled one (inward), and each of the second half gives a box to one (outward). The
    loss is the sum over both directions of the loss in the labelled part + weight * that in the other. Of an odd number
    of pairs the middle one goes both ways. No image is seen unmixed in training. A step after the warm-up costs one
    forward pass of the teacher, of the unlabelled patches of the pairs, more than supervised training.

    Ours: a box of its own for each pair, where the authors draw one for a batch, and both directions in one forward
    pass. A modality that one of the pair lacks is hidden in the mixed image, unless nothing would be left.

    Args:
        warm_up: Steps of the warm-up; None for a quarter of the run (the authors' code for ACDC: 10,000 of 40,000; for
            LA 2,000 of 17,000). The authors go on from its best checkpoint on their test set, this from its last step.
        weight: Of the unlabelled part, alpha; 0.5 in the paper.
        box: Side of the box as a share of the patch's; 2/3 in the paper.
        decay: Of the teacher's average, from the end of the warm-up; 0.99 in the paper.
        largest_component: Keep the largest connected component of each label of the teacher's, as the authors do for
            organs; it takes pieces of what is many in a patch, as tissues and lesions are.
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
        warm_up: int | None = None,
        weight: float = 0.5,
        box: float = 2 / 3,
        decay: float = 0.99,
        largest_component: bool = True,
        supervised: Supervised | None = None,
    ) -> None:
        super().__init__(weight=weight, ramp_up=0, supervised=supervised)
        require_steps("warm_up", warm_up, "the first weights give the first labels")
        require_decay(decay)
        if not 0 < box < 1:
            raise ValueError(f"box is {box}, expected a share of the patch's side between 0 and 1")
        self.warm_up = warm_up
        self.box = box
        self.decay = decay
        self.largest_component = largest_component

    def loss(self, context: StepContext) -> LossTerms:
        """Of labelled pairs during the warm-up; then of both directions."""
        labelled, unlabelled = parts(context)
        if context.step < self._begins(context):
            first, last = halves(labelled.batch)
            return self.supervised.loss(context.of(self.mixed(first, last).batch))
        # What is left over of the one kind has no part in the step.
        pairs = min(len(labelled.batch.seed), len(unlabelled.batch.seed))
        ours, theirs = (Batch(*(field[:pairs] for field in part.batch)) for part in (labelled, unlabelled))
        unlabelled = context.of(theirs)
        with teaching(unlabelled) as taught:
            decided = hard_labels(taught(unlabelled.batch.image), unlabelled.activation)
        if self.largest_component:
            decided = largest_components(decided, unlabelled.activation)
        theirs = theirs._replace(target=decided.to(unlabelled.batch.target.dtype))
        (inner, outer), (into, onto) = halves(ours), halves(theirs)
        return self._directions(context, self.mixed(inner, into), self.mixed(onto, outer))

    def mixed(self, around: Batch, inside: Batch) -> Mixed:
        """The samples of one batch with a box of the other's; the other fields are those of the first."""
        box = boxes(around.seed, PASTED, around.image.shape[2:], self.box)
        both = around.modality_mask & inside.modality_mask
        # Where nothing is in both, each shows what it has.
        shown = torch.where(both.any(1, keepdim=True), both, around.modality_mask | inside.modality_mask)
        image = torch.where(box, inside.image, around.image)
        image = torch.where(spread(shown, image), image, 0)
        target = torch.where(box, inside.target, around.target)
        outside = around.labelled.reshape(-1, *[1] * (image.ndim - 1))
        labelled = torch.where(box, inside.labelled.view_as(outside), outside)
        return Mixed(around._replace(image=image, target=target, modality_mask=shown), labelled)

    def after(self, context: StepContext) -> None:
        """Let the teacher follow; until the warm-up ends, it is the segmentor."""
        follow(context, 0.0 if context.step < self._begins(context) else self.decay)

    def _directions(self, context: StepContext, *directions: Mixed) -> LossTerms:
        """The sum over the directions; parts their means, of the labels, and "pseudo"."""
        batches = (one.batch for one in directions)
        seen = context.of(Batch(*(torch.cat(fields) for fields in zip(*batches, strict=True))))
        total, first = [], 0
        found: dict[str, list[Tensor]] = {}
        for mixed in directions:
            rows = slice(first, first := first + len(mixed.labelled))
            labels = over_resolutions(seen, partial(self._labels, rows=rows, labelled=mixed.labelled))
            logits, target = seen.logits[rows], mixed.batch.target
            pseudo = self.supervised.compared(logits, target, context.activation, mask=~mixed.labelled)
            total += [labels.total, self.weight * pseudo.total]
            for name, value in (*labels.parts.items(), ("pseudo", pseudo.total.detach())):
                found.setdefault(name, []).append(value)
        means = {name: torch.stack(values).mean() for name, values in found.items()}
        return LossTerms(torch.stack(total).sum(), means)

    def _labels(self, seen: StepContext, *, rows: slice, labelled: Tensor) -> LossTerms:
        """The supervised loss of the voxels of some samples whose targets are labels, at the context's resolution."""
        logits, target = seen.logits[rows], seen.batch.target[rows]
        judged = resized(labelled, target.shape[2:]) & (target[:, :1] >= 0)
        return self.supervised.compared(logits, target, seen.activation, mask=judged)

    def _begins(self, context: StepContext) -> int:
        return self.length(context, "warm_up", self.warm_up, 0.25)


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """The first and the last half of a batch; of an odd number the middle sample is in both."""
    half = (len(batch.seed) + 1) // 2
    return Batch(*(field[:half] for field in batch)), Batch(*(field[-half:] for field in batch))
