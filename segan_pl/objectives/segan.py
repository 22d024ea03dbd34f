"""SegAN's game (Xue et al. 2017; Giacomello et al. 2020): one gap, which critic widens and segmentor narrows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from segan_pl.errors import require_choice
from segan_pl.losses.features import MultiscaleL1
from segan_pl.losses.overlap import SoftDice
from segan_pl.objectives.base import LossTerms, Phase, StepContext, of_labelled, over_resolutions
from segan_pl.objectives.stabilisers import Stabilisers
from segan_pl.objectives.supervised import LabelLoss, Supervised, require_one_loss

CriticInput = Literal["mask", "concat", "mix"]
Update = Literal["alternating", "simultaneous"]
Clip = Literal["kernels", "all", "none"]


class SegAN(LabelLoss):
    """Multi-scale L1 between the critic's features of prediction and reference, plus Dice (SegAN-CAT, eq. 1 to 3).

    The critic minimises -gap, the segmentor adversarial_weight * gap + dice_weight * dice, both of the labelled samples
    of a batch alone. Real and fake pass the critic apart, in this order: together they would share batch statistics.

    Args:
        critic_input: "mask" is the image times the mask, every modality times every channel (SegAN); "concat" the image
            and the mask (SegAN-CAT); "mix" both, image, mask, product (the CAT authors' code only).
        dice_weight: Of Dice, or of `supervised`; 1 in SegAN-CAT, 0 in SegAN's paper.
        adversarial_weight: On the segmentor's share of the gap, never on the critic's; negative flips its sign (an
            experiment: both networks then widen the gap).
        dice: A loss of (probability, target), an object or a function; default `SoftDice()`.
        supervised: The loss of the labels in place of Dice alone, e.g. Dice and cross-entropy (ours).
        gap: A loss of (fake, real), the critic's layers; default `MultiscaleL1()`.
        update: "alternating" moves the critic, runs it again, then moves the segmentor (the papers' text);
            "simultaneous" moves both on one backward pass at the same parameters (the CAT authors' code).
        clip: What is clamped after the critic's step: convolution "kernels" (the CAT authors' code), "all" parameters
            (SegAN code) or "none".
        clip_value: Bound on the clamped parameters' magnitude; 0.05 in both.
        stabilisers: Of the critic; default none.

    Attributes:
        clamps: The networks whose parameters it clamps, to which spectral norm cannot be given.

    Raises:
        ValueError: An argument is out of range.
    """

    networks = ("segmentor", "critic")

    def __init__(
        self,
        *,
        critic_input: CriticInput = "concat",
        dice_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        dice: SoftDice | Callable[..., Any] | None = None,
        supervised: Supervised | None = None,
        gap: MultiscaleL1 | Callable[..., Any] | None = None,
        update: Update = "alternating",
        clip: Clip = "kernels",
        clip_value: float = 0.05,
        stabilisers: Stabilisers | None = None,
    ) -> None:
        super().__init__()
        require_choice("critic_input", critic_input, CriticInput)
        require_choice("update", update, Update)
        require_choice("clip", clip, Clip)
        if not (isfinite(dice_weight) and dice_weight >= 0):
            raise ValueError(f"dice_weight is {dice_weight}, expected a number of at least 0")
        if not isfinite(adversarial_weight) or adversarial_weight == 0:
            raise ValueError(
                f"adversarial_weight is {adversarial_weight}, expected a number other than 0; without the adversarial "
                f"term, use segan_pl.objectives.supervised.Supervised"
            )
        if not clip_value > 0:
            raise ValueError(
                f"clip_value is {clip_value}, expected a number above 0; to leave the critic alone, clip: none"
            )
        self.critic_input = critic_input
        self.dice_weight = dice_weight
        self.adversarial_weight = adversarial_weight
        self.update = update
        self.clip = clip
        self.clip_value = clip_value
        self.clamps = () if clip == "none" else ("critic",)
        self.dice = dice or SoftDice()
        self.supervised = require_one_loss(supervised, dice, dice_weight)
        self.gap = gap or MultiscaleL1()
        self.stabilisers = stabilisers or Stabilisers()

    def phases(self) -> Sequence[Phase]:
        """Critic, then segmentor; or one phase of both."""
        after = None if self.clip == "none" else self.clip_critic
        if self.update == "simultaneous":
            return [Phase("segmentor", self.joint_loss, after=after, ascending=("critic",))]
        return [Phase("critic", self.critic_loss, after=after), Phase("segmentor", self.segmentor_loss)]

    def channels(self, network: str, modalities: int, classes: int) -> dict[str, int]:
        """Of the critic: mask M * C, concat M + C, mix M + C + M * C."""
        if network != "critic":
            return super().channels(network, modalities, classes)
        product, both = modalities * classes, modalities + classes
        return {"in_channels": {"mask": product, "concat": both, "mix": both + product}[self.critic_input]}

    def inputs(self, network: str, modalities: int, classes: int) -> list[tuple[int | None, int | None]]:
        """Of the critic: channel by channel what `critic_view` shows."""
        if network != "critic":
            return super().inputs(network, modalities, classes)
        images: list[tuple[int | None, int | None]] = [(modality, None) for modality in range(modalities)]
        masks: list[tuple[int | None, int | None]] = [(None, channel) for channel in range(classes)]
        products: list[tuple[int | None, int | None]] = [(m, c) for c in range(classes) for m in range(modalities)]
        return {"mask": products, "concat": images + masks, "mix": images + masks + products}[self.critic_input]

    def critic_view(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image (B, M, *spatial) and mask (B, C, *spatial) to what the critic sees, (B, in_channels, *spatial).

        The products come channel by channel, each with all modalities.
        """
        if self.critic_input == "concat":
            return torch.cat([image, mask], 1)
        products = [image * mask[:, channel : channel + 1] for channel in range(mask.shape[1])]
        return torch.cat(products if self.critic_input == "mask" else [image, mask, *products], 1)

    @of_labelled
    def critic_loss(self, context: StepContext) -> LossTerms:
        """Minus the gap; the segmentor is out of reach. Part "gap" is at least 0."""
        real = self._features(context, context.reference)
        gap = self.gap(self._features(context, context.probability.detach()), real)
        return self._penalised(LossTerms(-gap, {"gap": gap.detach()}), context)

    @of_labelled
    def segmentor_loss(self, context: StepContext) -> LossTerms:
        """Weighted gap and Dice through a critic that does not move; parts "adversarial" (the bare gap) and "dice"."""
        with torch.no_grad():
            real = self._features(context, context.reference)
        gap = self.gap(self._features(context, context.probability), real)
        return self._with_dice(self.adversarial_weight * gap, gap, context)

    @of_labelled
    def joint_loss(self, context: StepContext) -> LossTerms:
        """Gap and Dice with the graph of both networks: the critic's gradient is minus that of the gap, unweighted.

        Dice does not depend on the critic. The adversarial weight acts on the gradient that reaches the segmentor, not
        on the value, so that flipping the segmentor's sign leaves the critic's alone; `total` holds the bare gap, from
        which R1 is subtracted where it is given.
        """
        real = self._features(context, context.reference)
        probability, weight = context.probability, self.adversarial_weight
        # The value stays the same, and its gradient is multiplied by the weight.
        if weight != 1:
            probability = probability.detach() + weight * (probability - probability.detach())
        fake = self._features(context, probability)
        gap = self.gap(fake, real)
        return self._penalised(self._with_dice(gap, gap, context), context, ascends=True)

    @torch.no_grad()
    def clip_critic(self, context: StepContext) -> None:
        """Clamp the critic's parameters to [-clip_value, clip_value]; frozen ones are left alone."""
        for parameter in self._clamped(context.networks["critic"]):
            parameter.clamp_(-self.clip_value, self.clip_value)

    def _clamped(self, critic: nn.Module) -> Iterator[nn.Parameter]:
        for module in critic.modules():
            for name, parameter in module.named_parameters(recurse=False):
                kernel = isinstance(module, _ConvNd) and name == "weight"
                if parameter.requires_grad and (kernel or self.clip == "all"):
                    yield parameter

    def gap_term(self) -> str:
        """That of the critic's phase, or of the one in which both networks move."""
        return "segmentor_adversarial" if self.update == "simultaneous" else "critic_gap"

    @torch.no_grad()
    def at_bound(self, networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Of the critic, where it is clamped."""
        clamped = [] if self.clip == "none" else [*self._clamped(networks["critic"])]
        if not clamped:
            return {}
        at_bound = torch.stack([(parameter.abs() >= self.clip_value).sum() for parameter in clamped]).sum()
        return {"critic": at_bound / sum(parameter.numel() for parameter in clamped)}

    def _features(self, context: StepContext, mask: Tensor) -> list[Tensor]:
        """The critic's layers; in voxels that are not judged it sees 0 of any mask, so that the gap is not theirs."""
        features: list[Tensor] = context.networks["critic"](self._view(context, mask))
        return features

    def _view(self, context: StepContext, mask: Tensor) -> Tensor:
        image, mask = self.stabilisers.pair(context, context.batch.image, context.judged(mask))
        assert image is not None
        return self.critic_view(image, mask)

    def _penalised(self, terms: LossTerms, context: StepContext, *, ascends: bool = False) -> LossTerms:
        """With R1 on the features of the reference, but for the layer that is the critic's input itself."""

        def score(mask: Tensor) -> list[Tensor]:
            view = self._view(context, mask)
            return [layer for layer in context.networks["critic"](view) if layer is not view]

        return self.stabilisers.penalised(terms, context, "critic", score, context.reference, ascends=ascends)

    def _with_dice(self, total: Tensor, gap: Tensor, context: StepContext) -> LossTerms:
        parts = {"adversarial": gap.detach()}
        if self.dice_weight:
            labels = over_resolutions(context, self.validation_loss)
            total = total + labels.total
            parts |= {name: part.detach() for name, part in labels.parts.items()}
        return LossTerms(total, parts)
