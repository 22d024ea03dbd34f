"""Reciprocal adversarial learning (Peiris et al. 2022): Dice, a hostile change of the image, and a critic."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from segan_pl.losses.activation import activate
from segan_pl.losses.adversarial import AdversarialForm, check_adversarial_options, critic_loss, deceiving_loss
from segan_pl.losses.overlap import DiceForm, DiceReduction, check_dice_options, soft_dice_loss
from segan_pl.losses.virtual import (
    VirtualNorm,
    check_virtual_options,
    perturbation,
    released_virtual_loss,
    resting_statistics,
    virtual_loss,
)
from segan_pl.objectives.base import LossTerms, Objective, Play, Turn

VirtualForm = Literal["paper", "code", "sound"]
View = Literal["mask", "concat"]


class Reciprocal(Objective):
    """dice_weight * Dice + vat_weight * virtual adversarial loss + adversarial_weight * deceiving the critic (eq. 2).

    Segmentor, then critic, as in the authors' code. Every sample of the batch must be labelled. Virtual adversarial
    training needs two more forward passes of the segmentor a batch (and one for each further iteration); one in form
    "code". A segmentor's batch norm normalises a hostile image by its own statistics and does not remember them, except
    in form "code", whose script took no such care (its segmentor has none).

    Args:
        dice_weight: 1.0 in the paper; above 0.
        vat_weight: 0.2 in the paper; 0 leaves the term and its forward passes out.
        adversarial_weight: 0.3 in the paper; 0 leaves the critic idle, for ablations.
        dice_reduction: See `soft_dice_loss`; "batch" in the authors' code.
        dice_epsilon: See `soft_dice_loss`; 1 in the paper.
        dice_form: See `soft_dice_loss`; "differentiable" is what the authors coded, "printed" their eq. 3.
        virtual: "paper": the labels are the reference, and the direction is a gradient's; "sound": the clean
            prediction is (Miyato et al.); "code": see `released_virtual_loss`.
        virtual_norm: See `unit`.
        virtual_radius: See `perturbation`; the image's units with norm "rms".
        virtual_probe: See `perturbation`.
        virtual_iterations: See `perturbation`.
        adversarial: See `deceiving_loss`. With "code" the critic sees logits beside labels and never moves.
        critic_input: "mask": the mask alone (the paper); "concat": the image beside it.
        smoothing: See `critic_loss`.

    Raises:
        ValueError: An argument is out of range, or other than its default where the form "code" does not read it.
    """

    players = ("segmentor", "critic")

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        vat_weight: float = 0.2,
        adversarial_weight: float = 0.3,
        dice_reduction: DiceReduction = "batch",
        dice_epsilon: float = 1.0,
        dice_form: DiceForm = "differentiable",
        virtual: VirtualForm = "sound",
        virtual_norm: VirtualNorm = "rms",
        virtual_radius: float = 0.1,
        virtual_probe: float = 0.1,
        virtual_iterations: int = 1,
        adversarial: AdversarialForm = "sound",
        critic_input: View = "mask",
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        _require_choice("virtual", virtual, get_args(VirtualForm))
        _require_choice("critic_input", critic_input, get_args(View))
        _require_weights(dice_weight, vat_weight, adversarial_weight)
        check_dice_options(dice_reduction, dice_epsilon, dice_form)
        check_virtual_options(virtual_norm, virtual_radius, virtual_probe, virtual_iterations)
        check_adversarial_options(adversarial, smoothing)
        unread = {
            "virtual_norm": virtual_norm,
            "virtual_radius": virtual_radius,
            "virtual_probe": virtual_probe,
            "virtual_iterations": virtual_iterations,
        }
        if virtual == "code" and vat_weight:
            _require_defaults(unread, "virtual 'code', whose change is random and 2.5 long at every voxel")
        if adversarial == "code" and adversarial_weight:
            _require_defaults({"smoothing": smoothing}, "adversarial 'code', whose critic never learns")
        self.dice_weight = dice_weight
        self.vat_weight = vat_weight
        self.adversarial_weight = adversarial_weight
        self.virtual = virtual
        self.adversarial = adversarial
        self.critic_input = critic_input
        self.smoothing = smoothing
        self.dice = partial(soft_dice_loss, reduction=dice_reduction, epsilon=dice_epsilon, form=dice_form)
        self.perturbation = partial(
            perturbation,
            norm=virtual_norm,
            radius=virtual_radius,
            probe=virtual_probe,
            iterations=virtual_iterations,
        )

    def turns(self) -> Sequence[Turn]:
        """Segmentor, then critic; the segmentor alone where no critic learns."""
        segmentor = Turn("segmentor", self.segmentor_loss)
        idle = self.adversarial == "code" or not self.adversarial_weight
        return [segmentor] if idle else [segmentor, Turn("critic", self.critic_loss)]

    def critic_channels(self, modalities: int, channels: int) -> int:
        """Channels: mask C, concat M + C."""
        return channels + (modalities if self.critic_input == "concat" else 0)

    def critic_inputs(self, modalities: int, channels: int) -> list[tuple[int | None, int | None]]:
        """Channel by channel what `critic_view` shows."""
        images: list[tuple[int | None, int | None]] = [(modality, None) for modality in range(modalities)]
        masks: list[tuple[int | None, int | None]] = [(None, channel) for channel in range(channels)]
        return images + masks if self.critic_input == "concat" else masks

    def critic_view(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image (B, M, *spatial) and mask (B, C, *spatial) to what the critic sees, (B, critic_channels, *spatial)."""
        return torch.cat([image, mask], 1) if self.critic_input == "concat" else mask

    def segmentor_loss(self, play: Play) -> LossTerms:
        """The weighted sum; parts "dice", "virtual" and "adversarial" unweighted, a term of weight 0 left out."""
        dice = self.dice(play.probability, play.batch.target)
        terms, parts = [self.dice_weight * dice], {"dice": dice.detach()}
        if self.vat_weight:
            virtual = self.virtual_loss(play)
            terms.append(self.vat_weight * virtual)
            parts["virtual"] = virtual.detach()
        if self.adversarial_weight:
            adversarial = self.deceiving_loss(play)
            terms.append(self.adversarial_weight * adversarial)
            parts["adversarial"] = adversarial.detach()
        return LossTerms(torch.stack(terms).sum(), parts)

    def virtual_loss(self, play: Play) -> Tensor:
        """Price of the hostile change, scalar of at least 0; see `virtual` above."""
        image, target = play.batch.image, play.batch.target
        if self.virtual == "code":
            return released_virtual_loss(play.segment, image, target, play.activation)
        present = play.batch.present
        reference = target if self.virtual == "paper" else play.probability.detach()
        shown = None if present.all() else present  # a missing modality stays missing in the hostile image
        with resting_statistics(play.players["segmentor"]):
            change = self.perturbation(play.segment, image, reference, play.activation, shown=shown)
            return virtual_loss(play.segment, image, reference, play.activation, change)

    def deceiving_loss(self, play: Play) -> Tensor:
        """The segmentor's adversarial term, through a critic that stands still."""
        if self.adversarial == "code":
            fake = self._map(play, play.logits)
            return deceiving_loss(fake, self._map(play, self._target(play)), form="code")
        return deceiving_loss(self._map(play, play.probability), form=self.adversarial)

    def critic_loss(self, play: Play) -> LossTerms:
        """Cross-entropy of the critic, the segmentor out of reach; parts also "real" and "fake", its mean verdicts.

        The prediction passes the critic anew: in the segmentor's turn the critic stood still, so that pass has no graph
        of its weights, and one graph for both turns would hold its memory over the segmentor's step. The price is 7 %
        of a batch's time in the paper's form at width 16 and 2 x 32 x 32 x 32, 0.5 % with a strided critic.
        """
        fake = self._map(play, play.probability.detach())
        real = self._map(play, self._target(play))
        loss = critic_loss(fake, real, smoothing=self.smoothing)
        verdicts = {name: activate(z.detach(), "sigmoid").mean() for name, z in (("real", real), ("fake", fake))}
        return LossTerms(loss, {"cross_entropy": loss.detach(), **verdicts})

    def _map(self, play: Play, mask: Tensor) -> Tensor:
        """The critic's last layer, its map of logits."""
        return play.players["critic"](self.critic_view(play.batch.image, mask))[-1]

    def _target(self, play: Play) -> Tensor:
        return play.batch.target.to(play.probability.dtype)


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {choices}")


def _require_defaults(options: Mapping[str, Any], form: str) -> None:
    """Refuse what the form does not read: runs that differ in it alone would be the same."""
    parameters = inspect.signature(Reciprocal).parameters
    for name, value in options.items():
        if value != parameters[name].default:
            raise ValueError(f"{name} {value!r} does nothing with {form}; leave it out or choose another form")


def _require_weights(dice_weight: float, vat_weight: float, adversarial_weight: float) -> None:
    weights = {"dice_weight": dice_weight, "vat_weight": vat_weight, "adversarial_weight": adversarial_weight}
    if not all(isfinite(weight) and weight >= 0 for weight in weights.values()) or not dice_weight:
        raise ValueError(f"weights are {weights}, expected numbers of at least 0 and dice_weight above 0")
