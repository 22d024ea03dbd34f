"""Semi-supervised segmentation by a cycle (after Mondal et al. 2019): what is segmented can be painted again."""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn.functional import l1_loss

from segan_pl.losses.overlap import cross_entropy
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext, of_labelled


class Cycle(Objective):
    """Three networks. Images of all samples are used, labels only of those that `context.labelled` has.

    Args:
        cycle_weight: Of the gap between an image and what the generator paints for its segmentation.
        adversarial_weight: Of the critic's share in the generator's loss.
    """

    networks = ("segmentor", "generator", "critic")

    def __init__(self, *, cycle_weight: float = 0.5, adversarial_weight: float = 0.1) -> None:
        super().__init__()
        self.cycle_weight = cycle_weight
        self.adversarial_weight = adversarial_weight

    def phases(self) -> Sequence[Phase]:
        """The phases of one step, in order."""
        return [
            Phase("critic", self.critic_loss),
            Phase("generator", self.generator_loss),
            Phase("segmentor", self.segmentor_loss),
        ]

    def channels(self, network: str, modalities: int, classes: int) -> dict[str, int]:
        """The generator turns a mask into an image, the critic sees images."""
        if network == "generator":
            return {"in_channels": classes, "out_channels": modalities}
        if network == "critic":
            return {"in_channels": modalities}
        return super().channels(network, modalities, classes)

    def critic_loss(self, context: StepContext) -> LossTerms:
        """1 for every image of the batch, 0 for what is painted for its segmentation."""
        critic, generator = context.networks["critic"], context.networks["generator"]
        real = (critic(context.batch.image) - 1).square().mean() / 2
        fake = critic(generator(context.probability.detach())).square().mean() / 2
        return LossTerms(real + fake, {"real": real.detach(), "fake": fake.detach()})

    @of_labelled
    def generator_loss(self, context: StepContext) -> LossTerms:
        """Paint the image of a labelled sample from its reference, so that the critic takes it for a real one."""
        painted = context.networks["generator"](context.target)
        painting = l1_loss(painted, context.batch.image)
        adversarial = (context.networks["critic"](painted) - 1).square().mean() / 2
        parts = {"painting": painting.detach(), "adversarial": adversarial.detach()}
        return LossTerms(painting + self.adversarial_weight * adversarial, parts)

    def segmentor_loss(self, context: StepContext) -> LossTerms:
        """For all samples the gap of the cycle, and the cross-entropy of the labelled ones, if there are any."""
        cycle = l1_loss(context.networks["generator"](context.probability), context.batch.image)
        total, parts = self.cycle_weight * cycle, {"cycle": cycle.detach()}
        if (labelled := context.labelled) is not None:
            entropy = cross_entropy(labelled.logits, labelled.target, labelled.activation, **labelled.masked)
            total, parts["cross_entropy"] = total + entropy, entropy.detach()
        return LossTerms(total, parts)
