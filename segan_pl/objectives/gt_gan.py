"""GT-GAN (Khaled, Ghaleb 2022, preprints 202208.0192): few-shot segmentation by a GAN that is given labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from segan_pl.data.sample.random_numbers import uniform
from segan_pl.errors import UsageError, require_choice
from segan_pl.losses.activation import activate, at_least_float32
from segan_pl.losses.boundary import boundary_loss, label_boundary
from segan_pl.losses.gan import real_loss
from segan_pl.losses.overlap import cross_entropy
from segan_pl.losses.pseudo_labels import hard_labels
from segan_pl.losses.voxels import masked_mean
from segan_pl.objectives.base import LossTerms, Phase, StepContext
from segan_pl.objectives.gan import Discriminating, Layers, noise_of, require_weights
from segan_pl.objectives.stabilisers import Stabilisers

# The stream of random numbers that pair images with labels, see data/sample/random_numbers.py.
PAIRS = 401
CONFIDENCE = 0.5
BOUNDARY = 1.0


class GTGAN(Discriminating):
    """A segmentor of K logits against G(x, y, z), which gives an unlabelled image x the tissues y of a labelled one.

    Segmentor, then generator. The segmentor's loss is the paper's, eq. 2 to 6 with their misprints repaired. Of the
    generator the paper prints eq. 7 and 8, which are no losses as they stand; ours minimises

    feature_weight * feature matching + adversarial_weight * -log D(G(x, y, z)) + reconstruction_weight *
    |G(x, y_x, z) - x| [+ boundary_weight * boundary loss],

    the first two on pairs of an unlabelled image with labels of the batch, drawn without favour, the others on
    labelled images with their own labels. The decoder gets the exact boundary of the labels that it is given; so no
    network finds boundaries, unless `found_boundary` asks for it. A batch without a labelled sample takes no step.

    Only the segmentor runs in validation and prediction: labels and generator are for training alone.

    Args:
        labelled_weight: 1 in the paper.
        unlabelled_weight: 1 in the paper.
        fake_weight: 2 in the paper.
        cross_entropy: See `Discriminating`; the paper's eq. 3 has no weights.
        layers: Whose features are matched: of the "bottleneck" (the paper's "activation of the last layer", of the
            encoder as in Mondal's code), "all" 14, or "weighted", by their harmonic mean.
        feature_weight: Ours, as all weights of the generator.
        adversarial_weight: Ours.
        reconstruction_weight: Ours.
        found_boundary: Give the decoder, with a labelled image's own labels, the boundary that the paper's boundary
            detection network finds in the image; it needs a generator with `boundary` "found", and a
            reconstruction_weight. Such a decoder knows soft boundaries, and with the exact ones of other labels its
            images may depict them poorly (docs/semi_supervised.md).
        boundary_weight: Ours; of the boundary network's loss, with `found_boundary` alone.
        warm_up: Steps at first in which the segmentor learns from labelled images, and the generator from its last two
            terms alone (ours).
        synthetic_weight: Of the cross-entropy between a generated image's prediction and the labels that it was made
            of; 0, off, in the paper, which promises it in words. It asks which label is likeliest and the GAN how large
            the logits are together, so that the two do not contradict each other. It needs a generator whose images
            depict their labels.
        synthetic_confidence: Of generated images the voxels count in which the segmentor gives their label at least
            this probability.
        pseudo_labels: Let an unlabelled image be given the segmentor's own prediction instead of another's labels
            (ours; no forward pass more).
        stabilisers: See `Discriminating`.

    Raises:
        ValueError: An argument is out of range, or does nothing.
    """

    networks = ("segmentor", "generator")

    def __init__(
        self,
        *,
        labelled_weight: float = 1.0,
        unlabelled_weight: float = 1.0,
        fake_weight: float = 2.0,
        cross_entropy: Callable[..., Any] = cross_entropy,
        layers: Layers = "bottleneck",
        feature_weight: float = 1.0,
        adversarial_weight: float = 0.1,
        reconstruction_weight: float = 10.0,
        found_boundary: bool = False,
        boundary_weight: float = BOUNDARY,
        warm_up: int = 0,
        synthetic_weight: float = 0.0,
        synthetic_confidence: float = CONFIDENCE,
        pseudo_labels: bool = False,
        stabilisers: Stabilisers | None = None,
    ) -> None:
        super().__init__(
            labelled_weight=labelled_weight,
            unlabelled_weight=unlabelled_weight,
            fake_weight=fake_weight,
            cross_entropy=cross_entropy,
            stabilisers=stabilisers,
        )
        require_choice("layers", layers, Layers)
        require_weights(
            feature_weight=feature_weight,
            adversarial_weight=adversarial_weight,
            reconstruction_weight=reconstruction_weight,
            boundary_weight=boundary_weight,
            synthetic_weight=synthetic_weight,
        )
        if not feature_weight and not adversarial_weight:
            raise ValueError("feature_weight and adversarial_weight are both 0: the generator would not play")
        if warm_up < 0 or (warm_up and not reconstruction_weight):
            raise ValueError(
                f"warm_up is {warm_up}, expected a number of steps from 0, and 0 without a reconstruction_weight, as "
                f"the generator learns to reconstruct in them"
            )
        if not 0 <= synthetic_confidence <= 1:
            raise ValueError(f"synthetic_confidence is {synthetic_confidence}, expected a probability")
        # Otherwise runs that differ in such an option alone would be the same.
        if synthetic_confidence != CONFIDENCE and not synthetic_weight:
            raise ValueError(
                f"synthetic_confidence {synthetic_confidence} does nothing with synthetic_weight 0; leave it out, or "
                f"give a weight"
            )
        if layers != "bottleneck" and not feature_weight:
            raise ValueError(f"layers {layers!r} does nothing with feature_weight 0; leave it out, or give a weight")
        if boundary_weight != BOUNDARY and not found_boundary:
            raise ValueError(
                f"boundary_weight {boundary_weight} does nothing with found_boundary false, as nothing reads what the "
                f"boundary network finds; leave it out, or give found_boundary true"
            )
        if found_boundary and not reconstruction_weight:
            raise ValueError(
                "found_boundary true does nothing with reconstruction_weight 0, as found boundaries are read in "
                "reconstructions alone; give found_boundary false, or a reconstruction_weight"
            )
        augment = self.stabilisers.diff_augment
        if synthetic_weight and augment is not None and augment.moves:
            raise ValueError(
                f"synthetic_weight {synthetic_weight} learns labels where they were given, and diff_augment moves or "
                f"cuts out voxels of the images; give it translation 0 and cutout 0, or synthetic_weight 0"
            )
        self.layers: Layers = layers
        self.feature_weight, self.adversarial_weight = feature_weight, adversarial_weight
        self.reconstruction_weight, self.warm_up = reconstruction_weight, warm_up
        self.found_boundary, self.boundary_weight = found_boundary, boundary_weight
        self.synthetic_weight, self.synthetic_confidence = synthetic_weight, synthetic_confidence
        self.pseudo_labels = pseudo_labels

    def phases(self) -> Sequence[Phase]:
        """Segmentor, then generator."""
        return [Phase("segmentor", self.segmentor_loss), Phase("generator", self.generator_loss)]

    def channels(self, network: str, modalities: int, classes: int) -> dict[str, int]:
        """The generator makes M modalities of K label channels, and of an image."""
        if network != "generator":
            return super().channels(network, modalities, classes)
        return {"in_channels": classes, "out_channels": modalities}

    def plays(self, context: StepContext) -> bool:
        """Once the warm-up is over."""
        return context.step >= self.warm_up

    def generated(self, context: StepContext) -> Tensor | None:
        """The images of unlabelled samples with labels that they are given; None without a labelled sample."""
        labelled = context.labelled
        if labelled is None:
            return None
        return self._made(context, labelled)[: len(self.real(context).batch.image)]

    def given(self, context: StepContext) -> Tensor:
        """The labels (N, K, *spatial) that each sample of `real` is given."""
        if self.pseudo_labels:
            real = self.real(context)
            return hard_labels(real.logits, context.activation).to(real.batch.target.dtype)
        assert context.labelled is not None
        return context.labelled.target[self._pairs(context, context.labelled)]

    def _pairs(self, context: StepContext, labelled: StepContext) -> Tensor:
        """(N,), the number of the labelled sample whose labels each sample of `real` is given."""
        real = self.real(context)
        # Labels in random order go round over images in random order: none is given twice before all are given once,
        # and which are given once more is random. Where labelled images are the real ones, the orders still differ.
        image = uniform(real.batch.seed, PAIRS, 1)[:, 0].argsort().argsort()
        label = uniform(labelled.batch.seed, PAIRS, 2)[:, 1].argsort()
        return label[image % len(label)]

    def generator_loss(self, context: StepContext) -> LossTerms:
        """The weighted sum; parts the bare terms, those of weight 0 left out."""
        labelled = context.labelled
        if labelled is None:
            return LossTerms(torch.zeros(()), {})
        terms: dict[str, tuple[float, Tensor]] = {}
        made = self._made(context, labelled)
        if self.plays(context):
            real = self.real(context)
            fake, own = made[: len(real.batch.image)], made[len(real.batch.image) :]
            if self.feature_weight:
                terms["feature_matching"] = self.feature_weight, self.matched(real, fake, self.layers)
            if self.adversarial_weight:
                terms["adversarial"] = self.adversarial_weight, real_loss(self.verdict_on(real, fake))
        else:
            own = made
        if self.reconstruction_weight:
            gap = masked_mean((at_least_float32(own) - labelled.batch.image).abs(), labelled.voxels)
            terms["reconstruction"] = self.reconstruction_weight, gap
        if self.found_boundary and self.boundary_weight:
            found = boundary_loss(self._found(labelled), self._exact(labelled), **labelled.masked)
            terms["boundary"] = self.boundary_weight, found
        total = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return LossTerms(total, {name: term.detach() for name, (_, term) in terms.items()})

    def with_generated(self, context: StepContext, terms: LossTerms, logits: Tensor) -> LossTerms:
        """Synthetic supervision, where it is on; part "synthetic" unweighted."""
        if not self.synthetic_weight:
            return terms
        if not getattr(context.networks["generator"], "depicts_labels", True):
            raise UsageError(
                f"GTGAN: synthetic_weight {self.synthetic_weight}, but the generator's images do not depict the labels "
                f"that they are made of; give it mode tissue, or leave synthetic_weight at 0"
            )
        given = self.given(context)
        sure = (activate(logits.detach(), "softmax") * given).sum(1, keepdim=True) >= self.synthetic_confidence
        mask = sure & (given.sum(1, keepdim=True) > 0)
        synthetic = self.cross_entropy(logits, given, context.activation, mask=mask)
        total = terms.total + self.synthetic_weight * synthetic
        return LossTerms(total, {**terms.parts, "synthetic": synthetic.detach()})

    def _made(self, context: StepContext, labelled: StepContext) -> Tensor:
        """All that the generator makes in a step, in one pass: images of given labels, then labelled images again."""
        return context.kept("generated", "generator", lambda: self._make(context, labelled))

    def _make(self, context: StepContext, labelled: StepContext) -> Tensor:
        generator: Any = context.networks["generator"]
        if self.found_boundary and generator.boundary is None:
            raise UsageError(
                "GTGAN: found_boundary true, but the generator has no boundary network; give the generator boundary "
                "found, or leave found_boundary false"
            )
        if generator.boundary is not None and not self.found_boundary:
            raise UsageError(
                "GTGAN: the generator has a boundary network, but nothing reads it with found_boundary false; give the "
                "generator boundary given, or found_boundary true"
            )
        parts: list[tuple[StepContext, Tensor]] = []
        boundaries: list[Tensor] = []
        if self.plays(context):
            given = self.given(context)
            parts.append((self.real(context), given))
            if generator.bordered and self.pseudo_labels:
                boundaries.append(label_boundary(given))
            elif generator.bordered:
                boundaries.append(self._exact(labelled)[self._pairs(context, labelled)])
        if self.reconstruction_weight:
            parts.append((labelled, labelled.target))
            if self.found_boundary:
                boundaries.append(self._found(labelled).sigmoid())
            elif generator.bordered:
                boundaries.append(self._exact(labelled))
        images = torch.cat([part.batch.image for part, _ in parts])
        labels = torch.cat([labels for _, labels in parts])
        noise = torch.cat([noise_of(part, generator) for part, _ in parts])
        made: Tensor = generator(images, labels, noise, torch.cat(boundaries) if boundaries else None)
        return made

    def _exact(self, labelled: StepContext) -> Tensor:
        """The boundary (B, 1, *spatial) of labelled samples' labels."""
        return labelled.kept("exact_boundaries", "generator", lambda: label_boundary(labelled.target))

    def _found(self, labelled: StepContext) -> Tensor:
        """The boundary network's logits of labelled images."""
        generator: Any = labelled.networks["generator"]
        return labelled.kept("found_boundaries", "generator", lambda: generator.boundaries(labelled.batch.image))
