"""What my paper optimises: cross-entropy, and a critic by least squares (Mao et al. 2017, eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segan_pl.losses.overlap import cross_entropy
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext, of_labelled


class LeastSquares(Objective):
    """The critic moves first, then the segmentor, both by the labelled samples of a batch alone.

    Args:
        adversarial_weight: Of the critic's share in the segmentor's loss.
    """

    networks = ("segmentor", "critic")

    def __init__(self, *, adversarial_weight: float = 0.1) -> None:
        super().__init__()
        self.adversarial_weight = adversarial_weight

    def phases(self) -> Sequence[Phase]:
        """The phases of one step, in order."""
        return [Phase("critic", self.critic_loss), Phase("segmentor", self.segmentor_loss)]

    def channels(self, network: str, modalities: int, classes: int) -> dict[str, int]:
        """What the critic sees: the image and a mask."""
        if network == "critic":
            return {"in_channels": modalities + classes}
        return super().channels(network, modalities, classes)

    @of_labelled
    def critic_loss(self, context: StepContext) -> LossTerms:
        """1 for the reference, 0 for the prediction, which is detached: the segmentor does not move here."""
        real = (self._verdict(context, context.target) - 1).square().mean() / 2
        fake = self._verdict(context, context.probability.detach()).square().mean() / 2
        return LossTerms(real + fake, {"real": real.detach(), "fake": fake.detach()})

    @of_labelled
    def segmentor_loss(self, context: StepContext) -> LossTerms:
        """Cross-entropy, and a verdict of 1 for the prediction."""
        entropy = cross_entropy(context.logits, context.target, context.activation, **context.masked)
        adversarial = (self._verdict(context, context.probability) - 1).square().mean() / 2
        parts = {"cross_entropy": entropy.detach(), "adversarial": adversarial.detach()}
        return LossTerms(entropy + self.adversarial_weight * adversarial, parts)

    def _verdict(self, context: StepContext, mask: Tensor) -> Tensor:
        view = torch.cat([context.batch.image, context.judged(mask)], 1)  # (B, M + C, H, W)
        return context.networks["critic"](view)
