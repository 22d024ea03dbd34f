"""SegAN's game (Xue et al. 2017; Giacomello et al. 2020): one gap, which critic widens and segmentor narrows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isfinite
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from segan_pl.losses.features import L1Reduction, check_l1_options, multiscale_l1
from segan_pl.losses.overlap import DiceForm, DiceReduction, check_dice_options, soft_dice_loss
from segan_pl.objectives.base import LossTerms, Objective, Play, Turn

CriticInput = Literal["mask", "concat", "mix"]
Update = Literal["alternating", "simultaneous"]
Clip = Literal["kernels", "all", "none"]


class SegAN(Objective):
    """Multi-scale L1 between the critic's features of prediction and reference, plus Dice (SegAN-CAT, eq. 1 to 3).

    The critic minimises -gap, the segmentor adversarial_weight * gap + dice_weight * dice. Every slice of the batch
    must be labelled. Real and fake pass the critic apart, in this order: together they would share batch statistics.

    Args:
        critic_input: "mask" is the image times the mask, every modality times every channel (SegAN); "concat" the image
            beside the mask (SegAN-CAT); "mix" both, image, mask, product (the CAT authors' code only).
        dice_weight: 1 in SegAN-CAT, 0 in SegAN's paper.
        adversarial_weight: On the segmentor's share of the gap, never on the critic's; negative flips its sign (an
            experiment: both players then widen the gap).
        dice_reduction: See `soft_dice_loss`.
        dice_epsilon: See `soft_dice_loss`.
        dice_form: See `soft_dice_loss`.
        l1_reduction: See `multiscale_l1`.
        layer_weights: See `multiscale_l1`; one a layer of the critic, its input included.
        update: "alternating" moves the critic, runs it again, then moves the segmentor (the papers' text);
            "simultaneous" moves both on one backward pass at the same parameters (the CAT authors' code).
        clip: What is clamped after the critic's step: convolution "kernels" (the CAT authors' code), "all" parameters
            (SegAN code) or "none".
        clip_value: Bound on the clamped parameters' magnitude; 0.05 in both.

    Raises:
        ValueError: An argument is out of range.
    """

    players = ("segmentor", "critic")

    def __init__(
        self,
        *,
        critic_input: CriticInput = "concat",
        dice_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        dice_reduction: DiceReduction = "slice",
        dice_epsilon: float = 1e-6,
        dice_form: DiceForm = "differentiable",
        l1_reduction: L1Reduction = "global_mean",
        layer_weights: list[float] | None = None,
        update: Update = "alternating",
        clip: Clip = "kernels",
        clip_value: float = 0.05,
    ) -> None:
        super().__init__()
        _require_choice("critic_input", critic_input, get_args(CriticInput))
        _require_choice("update", update, get_args(Update))
        _require_choice("clip", clip, get_args(Clip))
        _require_weights(dice_weight, adversarial_weight, clip_value)
        check_dice_options(dice_reduction, dice_epsilon, dice_form)
        check_l1_options(layer_weights, l1_reduction)
        self.critic_input = critic_input
        self.dice_weight = dice_weight
        self.adversarial_weight = adversarial_weight
        self.update = update
        self.clip = clip
        self.clip_value = clip_value
        self.dice = partial(soft_dice_loss, reduction=dice_reduction, epsilon=dice_epsilon, form=dice_form)
        self.gap = partial(multiscale_l1, layer_weights=layer_weights, reduction=l1_reduction)

    def turns(self) -> Sequence[Turn]:
        """Critic, then segmentor; or one turn of both."""
        after = None if self.clip == "none" else self.clip_critic
        if self.update == "simultaneous":
            return [Turn("segmentor", self.joint_loss, after=after, opponents=("critic",))]
        return [Turn("critic", self.critic_loss, after=after), Turn("segmentor", self.segmentor_loss)]

    def critic_channels(self, modalities: int, channels: int) -> int:
        """Channels: mask M * C, concat M + C, mix M + C + M * C."""
        product, beside = modalities * channels, modalities + channels
        return {"mask": product, "concat": beside, "mix": beside + product}[self.critic_input]

    def critic_inputs(self, modalities: int, channels: int) -> list[tuple[int | None, int | None]]:
        """Channel by channel what `critic_view` shows."""
        images: list[tuple[int | None, int | None]] = [(modality, None) for modality in range(modalities)]
        masks: list[tuple[int | None, int | None]] = [(None, channel) for channel in range(channels)]
        products: list[tuple[int | None, int | None]] = [(m, c) for c in range(channels) for m in range(modalities)]
        return {"mask": products, "concat": images + masks, "mix": images + masks + products}[self.critic_input]

    def critic_view(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image (B, M, *spatial) and mask (B, C, *spatial) to what the critic sees, (B, critic_channels, *spatial).

        The products stand channel by channel, each with all modalities.
        """
        if self.critic_input == "concat":
            return torch.cat([image, mask], 1)
        products = [image * mask[:, channel : channel + 1] for channel in range(mask.shape[1])]
        return torch.cat(products if self.critic_input == "mask" else [image, mask, *products], 1)

    def critic_loss(self, play: Play) -> LossTerms:
        """Minus the gap; the segmentor is out of reach. Part "gap" is at least 0."""
        real = self._features(play, self._target(play))
        gap = self.gap(self._features(play, play.probability.detach()), real)
        return LossTerms(-gap, {"gap": gap.detach()})

    def segmentor_loss(self, play: Play) -> LossTerms:
        """Weighted gap and Dice through a critic that stands still; parts "adversarial" (the bare gap) and "dice"."""
        with torch.no_grad():
            real = self._features(play, self._target(play))
        gap = self.gap(self._features(play, play.probability), real)
        return self._with_dice(self.adversarial_weight * gap, gap, play)

    def joint_loss(self, play: Play) -> LossTerms:
        """Gap and Dice with the graph of both players: the critic's gradient is minus that of the gap, unweighted.

        Dice does not depend on the critic. The adversarial weight acts on the gradient that reaches the segmentor, not
        on the value, so that flipping the segmentor's sign leaves the critic's alone; `total` holds the bare gap.
        """
        real = self._features(play, self._target(play))
        fake = self._features(play, _scale_gradient(play.probability, self.adversarial_weight))
        gap = self.gap(fake, real)
        return self._with_dice(gap, gap, play)

    @torch.no_grad()
    def clip_critic(self, play: Play) -> None:
        """Clamp the critic's parameters to [-clip_value, clip_value]; frozen ones are left alone."""
        for module in play.players["critic"].modules():
            for name, parameter in module.named_parameters(recurse=False):
                kernel = isinstance(module, _ConvNd) and name == "weight"
                if parameter.requires_grad and (kernel or self.clip == "all"):
                    parameter.clamp_(-self.clip_value, self.clip_value)

    def _features(self, play: Play, mask: Tensor) -> list[Tensor]:
        critic: nn.Module = play.players["critic"]
        return critic(self.critic_view(play.batch.image, mask))

    def _target(self, play: Play) -> Tensor:
        return play.batch.target.to(play.probability.dtype)

    def _with_dice(self, total: Tensor, gap: Tensor, play: Play) -> LossTerms:
        parts = {"adversarial": gap.detach()}
        if self.dice_weight:
            dice = self.dice(play.probability, play.batch.target)
            total = total + self.dice_weight * dice
            parts["dice"] = dice.detach()
        return LossTerms(total, parts)


def _scale_gradient(value: Tensor, factor: float) -> Tensor:
    """The value, whose gradient is multiplied by the factor."""
    return value if factor == 1 else value.detach() + factor * (value - value.detach())


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {choices}")


def _require_weights(dice_weight: float, adversarial_weight: float, clip_value: float) -> None:
    if not (isfinite(dice_weight) and dice_weight >= 0):
        raise ValueError(f"dice_weight is {dice_weight}, expected a number of at least 0")
    if not isfinite(adversarial_weight) or adversarial_weight == 0:
        raise ValueError(
            f"adversarial_weight is {adversarial_weight}, expected a number other than 0; "
            f"without the adversarial term, use segan_pl.objectives.supervised.Supervised"
        )
    if not clip_value > 0:
        raise ValueError(
            f"clip_value is {clip_value}, expected a number above 0; to leave the critic alone, clip: none"
        )
