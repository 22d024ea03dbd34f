"""Reciprocal adversarial learning (Peiris et al. 2022): Dice, an adversarial perturbation, and a critic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from segan_pl.errors import require_choice
from segan_pl.losses.activation import activate
from segan_pl.losses.adversarial import AdversarialForm, check_adversarial_options, critic_loss, deceiving_loss
from segan_pl.losses.overlap import SoftDice
from segan_pl.losses.vat import VATLoss, frozen_statistics
from segan_pl.objectives.base import LossTerms, Phase, StepContext, of_labelled, over_resolutions
from segan_pl.objectives.stabilisers import Stabilisers
from segan_pl.objectives.supervised import LabelLoss, Supervised, require_one_loss

View = Literal["mask", "concat"]


class Reciprocal(LabelLoss):
    """dice_weight * Dice + vat_weight * virtual adversarial loss + adversarial_weight * deceiving the critic (eq. 2).

    Segmentor, then critic, as in the authors' code. Of a batch the labelled samples count. Virtual adversarial
    training needs two more forward passes of the segmentor for a batch (and one for each further iteration); one in the
    released form. A segmentor's batch norm normalises a changed image by its own statistics and does not remember them,
    unless the loss says that it `moves_statistics`, as the released form does.

    Args:
        dice_weight: Of Dice, or of `supervised`; 1.0 in the paper; above 0.
        vat_weight: 0.2 in the paper; 0 leaves the term and its forward passes out.
        adversarial_weight: 0.3 in the paper; 0 leaves the critic idle, for ablations.
        dice: A loss of (probability, target), an object or a function; default `SoftDice` as the authors coded it, per
            batch and with epsilon 1. Its form "printed" is their eq. 3.
        supervised: The loss of the labels in place of Dice alone, e.g. Dice and cross-entropy (ours).
        vat: The virtual adversarial loss, called as `VATLoss` is; default `VATLoss()`, against the clean prediction.
            Against the labels it is the paper's, `ReleasedVATLoss` the authors' code.
        adversarial: See `deceiving_loss`. With "code" the critic sees logits or labels and never moves.
        critic_input: "mask": the mask alone (the paper); "concat": the image and the mask.
        smoothing: See `critic_loss`.
        stabilisers: Of the critic; default none.

    Raises:
        ValueError: An argument is out of range, or does nothing.
    """

    networks = ("segmentor", "critic")

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        vat_weight: float = 0.2,
        adversarial_weight: float = 0.3,
        dice: SoftDice | Callable[..., Any] | None = None,
        supervised: Supervised | None = None,
        vat: VATLoss | Callable[..., Any] | None = None,
        adversarial: AdversarialForm = "ours",
        critic_input: View = "mask",
        smoothing: float = 0.0,
        stabilisers: Stabilisers | None = None,
    ) -> None:
        super().__init__()
        require_choice("critic_input", critic_input, View)
        weights = {"dice_weight": dice_weight, "vat_weight": vat_weight, "adversarial_weight": adversarial_weight}
        if not all(isfinite(weight) and weight >= 0 for weight in weights.values()) or not dice_weight:
            raise ValueError(f"weights are {weights}, expected numbers of at least 0 and dice_weight above 0")
        check_adversarial_options(adversarial, smoothing)
        # Otherwise runs that differ in the smoothing alone would be the same.
        if adversarial == "code" and adversarial_weight and smoothing:
            raise ValueError(
                f"smoothing {smoothing!r} does nothing with adversarial 'code', whose critic never learns; leave it "
                f"out or choose another form"
            )
        self.dice_weight = dice_weight
        self.vat_weight = vat_weight
        self.adversarial_weight = adversarial_weight
        self.adversarial = adversarial
        self.critic_input = critic_input
        self.smoothing = smoothing
        self.dice = dice or SoftDice(reduction="batch", epsilon=1.0)
        self.supervised = require_one_loss(supervised, dice, dice_weight)
        self.vat = vat or VATLoss()
        self.stabilisers = stabilisers or Stabilisers()
        self._require_sense()

    def phases(self) -> Sequence[Phase]:
        """Segmentor, then critic; the segmentor alone where no critic learns."""
        segmentor = Phase("segmentor", self.segmentor_loss)
        return [segmentor] if self.idle else [segmentor, Phase("critic", self.critic_loss)]

    @property
    def idle(self) -> bool:
        """Whether the critic never learns."""
        return self.adversarial == "code" or not self.adversarial_weight

    def channels(self, network: str, modalities: int, classes: int) -> dict[str, int]:
        """Of the critic: mask C, concat M + C."""
        if network != "critic":
            return super().channels(network, modalities, classes)
        return {"in_channels": classes + (modalities if self.critic_input == "concat" else 0)}

    def inputs(self, network: str, modalities: int, classes: int) -> list[tuple[int | None, int | None]]:
        """Of the critic: channel by channel what `critic_view` shows."""
        if network != "critic":
            return super().inputs(network, modalities, classes)
        images: list[tuple[int | None, int | None]] = [(modality, None) for modality in range(modalities)]
        masks: list[tuple[int | None, int | None]] = [(None, channel) for channel in range(classes)]
        return images + masks if self.critic_input == "concat" else masks

    def critic_view(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image (B, M, *spatial) and mask (B, C, *spatial) to what the critic sees, (B, in_channels, *spatial)."""
        return torch.cat([image, mask], 1) if self.critic_input == "concat" else mask

    @of_labelled
    def segmentor_loss(self, context: StepContext) -> LossTerms:
        """The weighted sum; parts "dice", "vat" and "adversarial" unweighted, a term of weight 0 left out."""
        labels = over_resolutions(context, self.validation_loss)
        terms, parts = [labels.total], {name: part.detach() for name, part in labels.parts.items()}
        if self.vat_weight:
            vat = self.vat_loss(context)
            terms.append(self.vat_weight * vat)
            parts["vat"] = vat.detach()
        if self.adversarial_weight:
            if self.adversarial == "code":
                fake, real = self._map(context, context.logits), self._map(context, context.reference)
                adversarial = deceiving_loss(fake, real, form="code")
            else:
                adversarial = deceiving_loss(self._map(context, context.probability), form=self.adversarial)
            terms.append(self.adversarial_weight * adversarial)
            parts["adversarial"] = adversarial.detach()
        return LossTerms(torch.stack(terms).sum(), parts)

    def vat_loss(self, context: StepContext) -> Tensor:
        """The price of the adversarial perturbation, scalar of at least 0."""
        batch, mask = context.batch, context.batch.modality_mask
        # A missing modality stays missing in the changed image.
        shown = None if mask.all() else mask
        clean = context.probability.detach()
        moves = getattr(self.vat, "moves_statistics", False)
        with nullcontext() if moves else frozen_statistics(context.networks["segmentor"]):
            target, activation = context.target, context.activation
            return self.vat(context.segment, batch.image, target, clean, activation, shown, **context.masked)

    @of_labelled
    def critic_loss(self, context: StepContext) -> LossTerms:
        """Cross-entropy of the critic, the segmentor out of reach; parts also "real" and "fake", its mean verdicts.

        The prediction passes the critic again: in the segmentor's phase the critic stood still, so that pass has no
        graph of its weights, and one graph for both phases would hold its memory over the segmentor's step. The price
        is 7 % of a batch's time in the paper's form at width 16 and 2 x 32 x 32 x 32, 0.5 % with a strided critic.
        """
        fake = self._map(context, context.probability.detach())
        real = self._map(context, context.reference)
        loss = critic_loss(fake, real, smoothing=self.smoothing)
        verdicts = {name: activate(z.detach(), "sigmoid").mean() for name, z in (("real", real), ("fake", fake))}
        terms = LossTerms(loss, {"cross_entropy": loss.detach(), **verdicts})
        return self.stabilisers.penalised(
            terms, context, "critic", lambda mask: [self._map(context, mask)], context.reference
        )

    def _map(self, context: StepContext, mask: Tensor) -> Tensor:
        """The critic's last layer, its map of logits; in voxels that are not judged it sees 0 of any mask."""
        given = context.batch.image if self.critic_input == "concat" else None
        image, mask = self.stabilisers.pair(context, given, context.judged(mask))
        view = mask if image is None else self.critic_view(image, mask)
        logits: Tensor = context.networks["critic"](view)[-1]
        return logits

    def _require_sense(self) -> None:
        """Refuse stabilisers that would do nothing."""
        if self.stabilisers and self.idle:
            raise ValueError(
                f"stabilisers do nothing with adversarial {self.adversarial!r} and adversarial_weight "
                f"{self.adversarial_weight}, whose critic never learns; leave them out, or let it learn"
            )
        augment = self.stabilisers.diff_augment
        if augment is not None and augment.recolours and self.critic_input == "mask":
            raise ValueError(
                f"diff_augment brightness {augment.brightness} and contrast {augment.contrast} do nothing with "
                f"critic_input 'mask', whose critic sees no image; give 0 for both, or critic_input concat"
            )
