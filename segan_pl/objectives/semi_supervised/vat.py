"""Virtual adversarial training (Miyato et al. 2018) on samples with and without a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from segan_pl.errors import require_choice
from segan_pl.losses.vat import VATLoss, frozen_statistics
from segan_pl.objectives.base import LossTerms, StepContext
from segan_pl.objectives.semi_supervised.base import SemiSupervised, parts
from segan_pl.objectives.supervised import Supervised

Changed = Literal["all", "unlabelled", "labelled"]


class VirtualAdversarial(SemiSupervised):
    """Supervised loss + weight * the price of the change of an image that changes its own prediction most.

    As the term of `Reciprocal`, but against the clean prediction, which needs no label. Two forward passes more than
    supervised training with the same batch, of the samples that it is on; batch norm keeps no trace of them.

    Args:
        weight: 1 in the paper.
        ramp_up: See `SemiSupervised`; 0 in the paper.
        vat: The virtual adversarial loss, called as `VATLoss` is, with the clean prediction in place of labels too.
        samples: Which samples are changed: "all" (the paper), the "unlabelled" ones, or the "labelled" ones, which
            makes it a supervised objective that needs no others.
        supervised: See `SemiSupervised`.

    Raises:
        ValueError: An argument is out of range, or the loss reads labels.
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        ramp_up: int | None = 0,
        vat: VATLoss | Callable[..., Any] | None = None,
        samples: Changed = "all",
        supervised: Supervised | None = None,
    ) -> None:
        super().__init__(weight=weight, ramp_up=ramp_up, supervised=supervised)
        require_choice("samples", samples, Changed)
        self.vat = vat or VATLoss()
        if getattr(self.vat, "reference", "prediction") == "labels":
            raise ValueError("vat reference is 'labels', which unlabelled samples lack; expected 'prediction'")
        self.samples: Changed = samples
        self.needs_unlabelled = samples != "labelled"

    def reads_unlabelled(self) -> bool:
        """Not where the labelled samples alone are changed."""
        return self.needs_unlabelled

    def loss(self, context: StepContext) -> LossTerms:
        """Parts of the supervised loss, "vat" unweighted, and its "weight"."""
        if self.samples == "labelled":
            if context.labelled is None:
                return LossTerms(torch.zeros(()), {})
            learners = context.labelled
        else:
            # Asked first, one forward pass serves both parts of the batch.
            _ = context.logits
            _, unlabelled = parts(context)
            learners = context if self.samples == "all" else unlabelled
        supervised = self.supervised.loss(context)
        batch, clean = learners.batch, learners.probability.detach()
        # A missing modality stays missing in the changed image.
        shown = None if batch.modality_mask.all() else batch.modality_mask
        with frozen_statistics(context.networks["segmentor"]):
            vat = self.vat(learners.segment, batch.image, clean, clean, context.activation, shown, **learners.masked)
        return self.with_term(context, supervised, vat, "vat")
