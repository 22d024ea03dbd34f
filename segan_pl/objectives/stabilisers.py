"""What keeps an adversarial game stable, for any objective with a critic: R1, DiffAugment and instance noise.

All are off unless a configuration gives them. Their random numbers follow from the samples' seeds, so that a resumed
run draws the same ones; prediction and reference of a sample get the same draw, as do both phases of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import torch
from torch import Tensor

from segan_pl.data.sample.random_numbers import normal, uniform
from segan_pl.errors import UsageError
from segan_pl.losses.activation import at_least_float32
from segan_pl.losses.gradient_penalty import mean_squared_slope
from segan_pl.losses.vat import frozen_statistics
from segan_pl.objectives.base import LossTerms, StepContext
from segan_pl.objectives.places import drawn_places, moved
from segan_pl.objectives.semi_supervised.views import spread
from segan_pl.recipe import Recorded

# Streams of random numbers, see data/sample/random_numbers.py. The last one is the first of a score's layers.
COLOUR, INSTANCE_NOISE, SIGNS = 500, 503, 510


class R1(Recorded):
    """gamma / 2 * E||grad D(x)||^2 on real samples x (Mescheder, Geiger, Nowozin 2018, eq. 9), for the critic alone.

    The gradient is with respect to what the players differ in: the reference mask, not the image beside it; the image,
    where a generator makes images. Of a critic with many numbers for a sample it is the mean over them, see
    `losses.gradient_penalty.mean_squared_slope` (ours): SegAN's features without the critic's input, Reciprocal's map,
    a segmentor's evidence in each voxel. Computed in float32 under any precision (float64 for float64), in a forward
    pass of its own, which leaves running statistics as they are.

    Args:
        gamma: 10 in the paper, for one number a sample; 0.1 to 10 are usual. Watch the part "r1", which is logged bare.
        every: Steps from one penalty to the next, each then weighted by `every` (StyleGAN2's lazy regularisation,
            which has 16; Karras et al. 2020, appendix B). 1 in Mescheder et al.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, gamma: float = 10.0, every: int = 1) -> None:
        if not (isfinite(gamma) and gamma > 0):
            raise ValueError(f"r1 gamma is {gamma}, expected a number above 0; without the penalty, leave r1 out")
        if every < 1:
            raise ValueError(f"r1 every is {every}, expected a number of steps of at least 1")
        self.gamma = gamma
        self.every = every

    def __call__(self, score: Callable[[Tensor], Sequence[Tensor]], real: Tensor, seed: Tensor) -> Tensor:
        """The bare penalty, E||grad||^2: scalar of at least 0.

        Args:
            score: Real samples to the critic's numbers, one or more tensors (B, ...).
            real: (B, C, *spatial).
            seed: (B,) int64.
        """
        with torch.autocast(real.device.type, enabled=False):
            shown = at_least_float32(real).detach().clone().requires_grad_()
            found = [at_least_float32(layer) for layer in score(shown)]
            signs = [
                2 * uniform(seed, SIGNS + number, layer[0].numel()).to(layer).view(layer.shape).round() - 1
                for number, layer in enumerate(found)
            ]
            return mean_squared_slope(found, shown, signs)


class DiffAugment(Recorded):
    """Random changes of everything that a critic sees, through which gradients flow (Zhao et al. 2020, DiffAugment).

    Real and fake samples are changed alike. Intensities change in the image alone, places in image and mask. A modality
    that is missing stays 0. Saturation, of the paper's colour, means nothing here. With all at 0 nothing would change.

    Args:
        brightness: Largest shift of a modality, up or down, in its standard deviations in the patch (the paper: 0.5 in
            the units of images in [-1, 1]).
        contrast: Largest change of the factor about a modality's mean; 0.5 in the paper.
        translation: Largest shift along each axis, as a share of the side; 1/8 in the paper. What comes in is 0.
        cutout: Side of a box of zeros, as a share of the patch's side; 1/2 in the paper, where it may also stick out.

    Attributes:
        recolours: Whether intensities change.
        moves: Whether voxels change their places or are cut out.

    Raises:
        ValueError: A value is out of range, or all are 0.
    """

    def __init__(
        self, *, brightness: float = 0.5, contrast: float = 0.5, translation: float = 0.125, cutout: float = 0.5
    ) -> None:
        if not (isfinite(brightness) and brightness >= 0):
            raise ValueError(f"diff_augment brightness is {brightness}, expected standard deviations, at least 0")
        for name, share in (("contrast", contrast), ("translation", translation), ("cutout", cutout)):
            if not 0 <= share < 1:
                raise ValueError(f"diff_augment {name} is {share}, expected a share from 0 to below 1")
        self.recolours = bool(brightness or contrast)
        self.moves = bool(translation or cutout)
        if not (self.recolours or self.moves):
            raise ValueError("diff_augment changes nothing, as all its values are 0; leave it out, or give one")
        self.brightness = brightness
        self.contrast = contrast
        self.translation = translation
        self.cutout = cutout

    def __call__(
        self, seed: Tensor, image: Tensor | None, mask: Tensor | None = None, *, shown: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Image and mask, changed, in their dtypes.

        Args:
            seed: (B,) int64.
            image: (B, M, *spatial); None where the critic sees none.
            mask: (B, C, *spatial); None where the critic sees none.
            shown: (B, M) bool, the modalities that are there; None for all.
        """
        places = self.places(seed, next(one.shape[2:] for one in (image, mask) if one is not None))
        if image is not None:
            image = moved(self.recoloured(seed, image, shown), places)
        return image, None if mask is None else moved(mask, places)

    def recoloured(self, seed: Tensor, image: Tensor, shown: Tensor | None = None) -> Tensor:
        """The image with other intensities, see `__call__`; itself where they do not change."""
        if not self.recolours:
            return image
        x = at_least_float32(image)
        axes = tuple(range(2, x.ndim))
        drawn = 2 * uniform(seed, COLOUR, 2 * x.shape[1]).to(x).view(len(x), 2, -1, *[1] * len(axes)) - 1
        shift, factor = drawn.unbind(1)  # (B, M, 1, ...) each, from -1 to 1
        # Without a gradient: that of the deviation of a constant image is NaN.
        deviation = x.detach().std(axes, correction=0, keepdim=True)
        mean = x.mean(axes, keepdim=True)
        changed = (x - mean) * (1 + self.contrast * factor) + mean + self.brightness * shift * deviation
        changed = changed.to(image.dtype)
        return changed if shown is None else torch.where(spread(shown, image), changed, 0)

    def places(self, seed: Tensor, size: Sequence[int]) -> tuple[Tensor, ...]:
        """Where voxels go, for `moved`; nothing where all stay."""
        return drawn_places(seed, size, self.translation, self.cutout) if self.moves else ()


class InstanceNoise(Recorded):
    """Gaussian noise on real and fake samples that fades (Sonderby et al. 2017, section 3.3; Arjovsky, Bottou 2017).

    On what the players differ in: on the mask, and not on the image beside it; on the image, where a generator makes
    images. It hides that a prediction is no mask of 0 and 1. The deviation falls in a straight line from `sigma` at the
    first step to 0.

    Args:
        sigma: Its first standard deviation, in units of what it is added to; 0.1 in Sonderby et al.'s code.
        steps: After how many steps there is none; None for all steps of the run.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, sigma: float = 0.1, steps: int | None = None) -> None:
        if not (isfinite(sigma) and sigma > 0):
            raise ValueError(f"instance_noise sigma is {sigma}, expected a number above 0; without noise, leave it out")
        if steps is not None and steps < 1:
            raise ValueError(f"instance_noise steps are {steps}, expected at least 1, or null for all of the run")
        self.sigma = sigma
        self.steps = steps

    def deviation(self, context: StepContext) -> float:
        """The standard deviation at this step.

        Raises:
            UsageError: It follows a run without an end.
        """
        steps = self.steps or context.steps
        if steps is None:
            raise UsageError(
                "instance_noise: steps null follows the run, which has no end; give --trainer.max_epochs, or "
                "--model.objective.init_args.stabilisers.init_args.instance_noise.init_args.steps"
            )
        return self.sigma * max(0.0, 1 - context.step / steps)

    def __call__(self, context: StepContext, network: str, x: Tensor) -> Tensor:
        """(B, C, *spatial) with this step's noise, drawn once in it; `network` is that which sees it."""
        deviation = self.deviation(context)
        if not deviation:
            return x
        seed = context.batch.seed
        drawn = context.kept(
            "instance_noise", network, lambda: normal(seed, INSTANCE_NOISE, x[0].numel()).view(x.shape)
        )
        return x + deviation * drawn.to(x.dtype)


class Stabilisers(Recorded):
    """Which of them an objective uses; each None for without.

    Two others need no objective: spectral norm is `model.spectral_norm`, two time scales are `model.optimizers`.

    Args:
        r1: Penalty of the critic's slope on real samples.
        diff_augment: Changes of what the critic sees.
        instance_noise: On what the critic sees.

    Attributes:
        change: Whether the critic sees anything else than without them.
    """

    def __init__(
        self,
        *,
        r1: R1 | None = None,
        diff_augment: DiffAugment | None = None,
        instance_noise: InstanceNoise | None = None,
    ) -> None:
        self.r1 = r1
        self.diff_augment = diff_augment
        self.instance_noise = instance_noise
        self.change = bool(diff_augment or instance_noise)

    def __bool__(self) -> bool:
        """Whether any is used."""
        return self.change or self.r1 is not None

    def pair(self, context: StepContext, image: Tensor | None, mask: Tensor) -> tuple[Tensor | None, Tensor]:
        """The image and a mask of it as the critic is to see them.

        A step shows the critic one image next to several masks, so what is done to the image, and where voxels go, is
        kept for the step.

        Args:
            context: Of the step.
            image: That of the context's batch; None where the critic sees the mask alone.
            mask: (B, C, *spatial), a prediction or the reference.
        """
        if self.instance_noise is not None:
            mask = self.instance_noise(context, "critic", mask)
        augment = self.diff_augment
        if augment is None:
            return image, mask
        batch = context.batch
        places = context.all_kept("places", "critic", lambda: augment.places(batch.seed, mask.shape[2:]))
        if image is not None:
            image = context.kept(
                *("changed image", "critic"),
                lambda: moved(augment.recoloured(batch.seed, batch.image, batch.modality_mask), places),
            )
        return image, moved(mask, places)

    def image(self, context: StepContext, image: Tensor) -> Tensor:
        """An image as the segmentor is to see it where it is the critic; a missing modality stays 0."""
        known = context.batch.modality_mask
        if self.instance_noise is not None:
            image = torch.where(spread(known, image), self.instance_noise(context, "segmentor", image), 0)
        if self.diff_augment is not None:
            changed, _ = self.diff_augment(context.batch.seed, image, shown=known)
            assert changed is not None
            return changed
        return image

    def penalised(
        self,
        terms: LossTerms,
        context: StepContext,
        network: str,
        score: Callable[[Tensor], Sequence[Tensor]],
        real: Tensor,
        *,
        ascends: bool = False,
    ) -> LossTerms:
        """A critic's loss with R1 in the steps that have it; part "r1" is the bare E||grad||^2.

        Args:
            terms: The loss without it.
            context: Of the step.
            network: The critic's name; frozen, it is not penalised.
            score: Real samples to the critic's numbers, tensors (B, ...) with their graph to them.
            real: (B, C, *spatial).
            ascends: Whether the critic maximises the loss, from which the penalty is then subtracted.
        """
        if self.r1 is None or context.step % self.r1.every:
            return terms
        critic = context.networks[network]
        if not any(parameter.requires_grad for parameter in critic.parameters()):
            return terms
        with frozen_statistics(critic):
            slope = self.r1(score, real, context.batch.seed)
        weight = self.r1.gamma / 2 * self.r1.every * (-1 if ascends else 1)
        return LossTerms(terms.total + weight * slope, {**terms.parts, "r1": slope.detach()})
