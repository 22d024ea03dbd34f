"""Semi-supervised segmentation by a GAN whose discriminator is the segmentor (Mondal et al. 2018, and their code)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from segan_pl.data.sample.random_numbers import uniform
from segan_pl.errors import UsageError, require_choice
from segan_pl.losses.gan import evidence, fake_loss, feature_matching, noise_nll, real_loss, verdict
from segan_pl.losses.overlap import cross_entropy
from segan_pl.losses.vat import frozen_statistics
from segan_pl.nets.modality_mask import with_modality_mask
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext, over_resolutions
from segan_pl.objectives.semi_supervised.views import spread
from segan_pl.objectives.stabilisers import Stabilisers

Layers = Literal["bottleneck", "all", "weighted"]
GeneratorLoss = Literal["adversarial", "feature_matching", "all_layers", "weighted"]
# The stream of random numbers of a sample's noise, see data/sample/random_numbers.py.
NOISE = 400


class Discriminating(Objective):
    """What such objectives share: the segmentor's phase.

    The segmentor minimises labelled_weight * cross-entropy of labelled images + unlabelled_weight * cross-entropy of
    unlabelled images against "real" + fake_weight * that of generated images against "fake". Where a batch has no
    unlabelled image, the labelled ones stand in for them. Voxels that are not judged have no share in the first term.

    A step runs the generator once, for both phases. The segmentor sees labelled and unlabelled images in one forward
    pass, and generated ones in one for each phase, since it moves in between; no layer of `nets.few_shot.Segmentor`
    mixes samples, so that passes may be joined. Real images alone move the statistics of a batch norm, once in a step.

    Args:
        labelled_weight: Above 0.
        unlabelled_weight: Above 0.
        fake_weight: Above 0.
        cross_entropy: Of labelled images: a loss of (logits, target, activation), an object or a function; default the
            plain mean over voxels.
        stabilisers: Of the segmentor as a critic; default none. Where they change what it sees, unlabelled images pass
            it changed, and labelled ones as they are; unlabelled ones as they are, too, for pseudo-labels and for batch
            norm, whose statistics are those of all real images.

    Attributes:
        equilibrium: Where `real` and `fake`, the mean verdicts that training logs, meet when images cannot be told
            apart: unlabelled_weight / (unlabelled_weight + fake_weight). So 1/3 is no fault with weights of 1 and 2.

    Raises:
        ValueError: A weight is out of range.
    """

    exclusive_labels = True
    pseudo_labels = False  # whether generated images are of labels that the segmentor finds

    def __init__(
        self,
        *,
        labelled_weight: float,
        unlabelled_weight: float,
        fake_weight: float,
        cross_entropy: Callable[..., Any],
        stabilisers: Stabilisers | None = None,
    ) -> None:
        super().__init__()
        weights = {"unlabelled_weight": unlabelled_weight, "fake_weight": fake_weight}
        require_weights(above=True, labelled_weight=labelled_weight, **weights)
        self.labelled_weight = labelled_weight
        self.unlabelled_weight = unlabelled_weight
        self.fake_weight = fake_weight
        self.cross_entropy = cross_entropy
        self.stabilisers = stabilisers or Stabilisers()
        self.equilibrium = unlabelled_weight / (unlabelled_weight + fake_weight)

    def supervises_deeply(self) -> bool:
        """By the cross-entropy of labelled images, which is then a mean over resolutions."""
        return True

    def validation_parts(self) -> tuple[str, ...]:
        """Cross-entropy."""
        return ("cross_entropy",)

    def validation_loss(self, context: StepContext) -> LossTerms:
        """labelled_weight * cross-entropy; part "cross_entropy" unweighted."""
        entropy = self.cross_entropy(context.logits, context.target, context.activation, **context.masked)
        return LossTerms(self.labelled_weight * entropy, {"cross_entropy": entropy})

    def generated(self, context: StepContext) -> Tensor | None:
        """The step's generated images (N, M, *spatial), one for each sample of `real`; None where none can be."""
        raise TypeError(f"{type(self).__name__} must define generated()")

    def real(self, context: StepContext) -> StepContext:
        """The samples that count as real: those without a label; all where there are none."""
        return context.unlabelled or context

    def segmentor_loss(self, context: StepContext) -> LossTerms:
        """The weighted sum; parts the bare terms, and "real" and "fake", the mean verdicts on both."""
        if not self.plays(context):
            part = context.labelled
            return LossTerms(torch.zeros(()), {}) if part is None else self.labelled_loss(part)
        # Run before parts of the batch are asked for, one pass serves both.
        _ = context.logits if self.sees_all(context) else None
        part, real = context.labelled, self.real(context)
        total, parts = (context.batch.image.new_zeros(()), {}) if part is None else self.labelled_loss(part)
        made = self.generated(context)
        if made is None:
            return LossTerms(torch.zeros(()), {})
        logits = self.verdict_on(real, made.detach())
        seen = self.verdict_on(real, real.batch.image) if self.stabilisers.change else real.logits
        unlabelled, fake = real_loss(seen), fake_loss(logits)
        total = total + self.unlabelled_weight * unlabelled + self.fake_weight * fake
        verdicts = {"real": verdict(seen), "fake": verdict(logits)}
        parts = {**parts, "unlabelled_loss": unlabelled.detach(), "fake_loss": fake.detach(), **verdicts}
        terms = self.with_generated(context, LossTerms(total, parts), logits)
        return self.stabilisers.penalised(
            terms, real, "segmentor", lambda image: [evidence(self.verdict_on(real, image))], real.batch.image
        )

    def labelled_loss(self, context: StepContext) -> LossTerms:
        """labelled_weight * cross-entropy of a context of labelled samples; part "cross_entropy" unweighted."""
        total, parts = over_resolutions(context, self.validation_loss)
        return LossTerms(total, {name: part.detach() for name, part in parts.items()})

    def pictures(self, context: StepContext) -> dict[str, Tensor]:
        """Of a step that has been taken: real images and as many generated ones, to be drawn next to each other."""
        made = self.generated(context) if self.plays(context) else None
        return {} if made is None else {"real": self.real(context).batch.image[: len(made)], "generated": made}

    def plays(self, context: StepContext) -> bool:
        """Whether images are generated in this step."""
        return True

    def sees_all(self, context: StepContext) -> bool:
        """Whether the segmentor sees unlabelled images as they are, not only as the stabilisers change them."""
        normed = any(isinstance(one, _BatchNorm) for one in context.networks["segmentor"].modules())
        return normed or self.pseudo_labels or not self.stabilisers.change

    def with_generated(self, context: StepContext, terms: LossTerms, logits: Tensor) -> LossTerms:
        """The segmentor's loss with what else it learns from generated images, whose logits are given; here nothing."""
        return terms

    def verdict_on(self, real: StepContext, images: Tensor) -> Tensor:
        """The segmentor's logits of images that it judges, one for each sample of `real`, without what that lacks.

        A batch norm's running statistics stay: they are of real images, and a phase moves its own network alone.
        """
        with frozen_statistics(real.networks["segmentor"]):
            return real.segment(self.stabilisers.image(real, like(real, images)))

    def matched(self, real: StepContext, made: Tensor, layers: Layers) -> Tensor:
        """Feature matching between generated images and the samples of `real`, the segmentor standing still.

        With "bottleneck" (the authors' code) only the encoder runs, and not on labelled images.

        Raises:
            UsageError: The segmentor is none that shows its features.
        """
        segmentor: Any = real.networks["segmentor"]
        if not hasattr(segmentor, "features"):
            raise UsageError(
                f"{type(self).__name__}: features are matched, but the segmentor {type(segmentor).__name__} does not "
                f"show its own; use segan_pl.nets.few_shot.Segmentor"
            )

        def features(image: Tensor) -> list[Tensor]:
            if layers == "bottleneck":
                return [with_modality_mask(segmentor.bottleneck, real.batch.modality_mask, real.modality_mask)(image)]
            run: Any = with_modality_mask(segmentor.features, real.batch.modality_mask, real.modality_mask)
            found: list[Tensor] = run(image)[1]
            return found

        average: Any = "harmonic" if layers == "weighted" else "arithmetic"
        with frozen_statistics(segmentor):
            with torch.no_grad():
                wanted = features(self.stabilisers.image(real, real.batch.image))
            found = features(self.stabilisers.image(real, like(real, made)))
            return feature_matching(found, wanted, average=average)


class SemiSupervisedGAN(Discriminating):
    """Mondal's few-shot GAN: a generator of noise alone; segmentor, then generator (their agents normal, fm and bad).

    Of labelled images the segmentor learns their labels, of unlabelled ones that they are real, of generated ones that
    they are not.

    Args:
        generator_loss: "adversarial": the segmentor's verdict shall be "real" (the authors' normal GAN, and the
            "standard GAN" of GT-GAN's tables as we read them); "feature_matching" of the segmentor's bottleneck
            (FM-GAN); "all_layers": of the mean over its 14 layers; "weighted": of their harmonic mean (the authors'
            option).
        encoder_weight: Of the noise's likelihood under an encoder that finds it again in the image, so that the images
            vary (bad-GAN, 0.01 in the authors' code); 0 for no such network. The authors move generator and encoder on
            one backward pass; here the encoder's phase is last, on the same images and by the same gradient.
        labelled_weight: 1 in the code.
        unlabelled_weight: 0.5 in the code.
        fake_weight: 0.5 in the code.
        cross_entropy: See `Discriminating`; the code weights background, CSF, grey and white matter by 0.33, 1.5, 0.83
            and 1.33 (`losses.overlap.WeightedCrossEntropy`).
        stabilisers: See `Discriminating`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        generator_loss: GeneratorLoss = "feature_matching",
        encoder_weight: float = 0.0,
        labelled_weight: float = 1.0,
        unlabelled_weight: float = 0.5,
        fake_weight: float = 0.5,
        cross_entropy: Callable[..., Any] = cross_entropy,
        stabilisers: Stabilisers | None = None,
    ) -> None:
        super().__init__(
            labelled_weight=labelled_weight,
            unlabelled_weight=unlabelled_weight,
            fake_weight=fake_weight,
            cross_entropy=cross_entropy,
            stabilisers=stabilisers,
        )
        require_choice("generator_loss", generator_loss, GeneratorLoss)
        require_weights(encoder_weight=encoder_weight)
        self.deceives_by = generator_loss
        self.encoder_weight = encoder_weight
        self.networks = ("segmentor", "generator", *(["encoder"] if encoder_weight else []))

    def phases(self) -> Sequence[Phase]:
        """Segmentor, generator, and the encoder where there is one."""
        phases = [Phase("segmentor", self.segmentor_loss), Phase("generator", self.generator_loss)]
        return [*phases, *([Phase("encoder", self.encoder_loss)] if self.encoder_weight else [])]

    def channels(self, network: str, modalities: int, classes: int) -> dict[str, int]:
        """The generator makes M modalities of noise; the encoder sees them."""
        own = {"generator": {"out_channels": modalities}, "encoder": {"in_channels": modalities}}
        return own.get(network) or super().channels(network, modalities, classes)

    def inputs(self, network: str, modalities: int, classes: int) -> list[tuple[int | None, int | None]]:
        """Of the encoder: the modalities."""
        if network != "encoder":
            return super().inputs(network, modalities, classes)
        return [(modality, None) for modality in range(modalities)]

    def generated(self, context: StepContext) -> Tensor:
        """The step's generated images, of each real sample's noise."""
        real, generator = self.real(context), context.networks["generator"]
        return context.kept("generated", "generator", lambda: generator(noise_of(real, generator)))

    def generator_loss(self, context: StepContext) -> LossTerms:
        """What the generator minimises; parts "adversarial" or "feature_matching", and "noise_nll" with an encoder."""
        real, made = self.real(context), self.generated(context)
        if self.deceives_by == "adversarial":
            loss, name = real_loss(self.verdict_on(real, made)), "adversarial"
        else:
            layers: dict[str, Layers] = {"feature_matching": "bottleneck", "all_layers": "all", "weighted": "weighted"}
            loss, name = self.matched(real, made, layers[self.deceives_by]), "feature_matching"
        total, parts = loss, {name: loss.detach()}
        if self.encoder_weight:
            nll = self._noise_nll(context, made)
            total, parts["noise_nll"] = total + self.encoder_weight * nll, nll.detach()
        return LossTerms(total, parts)

    def encoder_loss(self, context: StepContext) -> LossTerms:
        """encoder_weight * the noise's negative log-likelihood; part "noise_nll" unweighted."""
        nll = self._noise_nll(context, self.generated(context).detach())
        return LossTerms(self.encoder_weight * nll, {"noise_nll": nll.detach()})

    def _noise_nll(self, context: StepContext, made: Tensor) -> Tensor:
        mean, log_sigma = context.networks["encoder"](made)
        return noise_nll(mean, log_sigma, noise_of(self.real(context), context.networks["generator"]))


def noise_of(context: StepContext, generator: Any) -> Tensor:
    """(B, N) in the image's dtype, uniform in [-1, 1) as in Mondal's code.

    It follows from the samples' seeds, so that each rank has its own, and a resumed run the same.
    """
    return (2 * uniform(context.batch.seed, NOISE, generator.noise) - 1).to(context.batch.image.dtype)


def like(context: StepContext, images: Tensor) -> Tensor:
    """Images (B, M, *spatial) with zeros for the modalities that the context's samples lack."""
    return images * spread(context.batch.modality_mask, images).to(images.dtype)


def require_weights(*, above: bool = False, **weights: float) -> None:
    """Refuse weights that are no number of at least 0, or above 0.

    Raises:
        ValueError: One is not.
    """
    for name, weight in weights.items():
        if not (isfinite(weight) and weight >= 0 and (weight or not above)):
            raise ValueError(f"{name} is {weight}, expected a number {'above' if above else 'of at least'} 0")
