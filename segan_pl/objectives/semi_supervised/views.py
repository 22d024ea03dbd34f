"""Changed images of a batch whose voxels stay where they are, and boxes in it, as functions of the samples' seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from segan_pl.batch import Batch
from segan_pl.data.sample.random_numbers import normal, uniform
from segan_pl.losses.activation import at_least_float32
from segan_pl.recipe import Recorded

# Streams of random numbers, see data/sample/random_numbers.py: of the strong view, and of the boxes that are pasted.
STRONG, STRONG_NOISE, CUTOUT, PASTED = 200, 201, 202, 203
# The first of the streams of a teacher's noise, one for each draw.
TEACHERS_NOISE = 300


class StrongView(Recorded):
    """Strong changes of intensity and a cutout: brightness, contrast, gamma, noise, then the box (all values ours).

    FixMatch's own changes are those of photographs (RandAugment, CTAugment, then Cutout); these are their kinds for
    images of any units: every length is in the standard deviations of a modality in the patch. Each sample and modality
    is changed by numbers of its own, uniform in their ranges, the exponent in its logarithm.

    Args:
        brightness: Largest shift, up or down.
        contrast: Range of the factor about the mean.
        gamma: Range of the exponent of intensities between the least and the largest.
        noise: Largest standard deviation of Gaussian noise.
        cutout: Side of the box that shows the mean alone, as a share of the patch's; 0 for none.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.5,
        contrast: tuple[float, float] = (0.5, 1.5),
        gamma: tuple[float, float] = (0.5, 2.0),
        noise: float = 0.2,
        cutout: float = 1 / 3,
    ) -> None:
        for name, most in (("brightness", brightness), ("noise", noise)):
            if not (math.isfinite(most) and most >= 0):
                raise ValueError(f"{name} is {most}, expected a number of standard deviations, at least 0")
        for name, limits in (("contrast", contrast), ("gamma", gamma)):
            if len(limits) != 2 or not 0 < limits[0] <= limits[1] < math.inf:
                raise ValueError(f"{name} is {list(limits)}, expected two numbers above 0, the smaller first")
        if not 0 <= cutout < 1:
            raise ValueError(f"cutout is {cutout}, expected a share of the patch's side from 0 to below 1")
        self.brightness = brightness
        self.contrast = contrast
        self.gamma = gamma
        self.noise = noise
        self.cutout = cutout

    def __call__(self, batch: Batch) -> Tensor:
        """The strong view (B, M, *spatial) of a batch's images, in their dtype; missing modalities stay 0."""
        image = at_least_float32(batch.image)
        axes = tuple(range(2, image.ndim))
        deviation, mean = torch.std_mean(image, axes, correction=0, keepdim=True)
        drawn = uniform(batch.seed, STRONG, 4 * image.shape[1]).to(image).view(len(image), 4, -1, *[1] * len(axes))
        shift, factor, exponent, sigma = drawn.unbind(1)  # (B, M, 1, ...) each
        low, high = self.contrast
        changed = (image - mean) * (low + (high - low) * factor) + mean + self.brightness * (2 * shift - 1) * deviation
        least, most = changed.amin(axes, keepdim=True), changed.amax(axes, keepdim=True)
        low, high = (math.log(limit) for limit in self.gamma)
        share = (changed - least) / (most - least).clamp_min(1e-7)
        changed = share.pow(torch.exp(low + (high - low) * exponent)) * (most - least) + least
        if self.noise:
            noise = normal(batch.seed, STRONG_NOISE, image[0].numel()).to(image).view(image.shape)
            changed = changed + self.noise * sigma * deviation * noise
        if self.cutout:
            inside = boxes(batch.seed, CUTOUT, image.shape[2:], self.cutout)
            changed = torch.where(inside, mean, changed)
        return torch.where(spread(batch.modality_mask, image), changed, 0).to(batch.image.dtype)


def boxes(seed: Tensor, stream: int, size: Sequence[int], share: float) -> Tensor:
    """A box in each sample, anywhere within it: (B, 1, *size) bool, True inside.

    Args:
        seed: (B,) int64.
        stream: Of the places.
        size: Voxels along each axis.
        share: Of each side, rounded down.
    """
    inside = torch.ones(len(seed), 1, *size, dtype=torch.bool, device=seed.device)
    places = uniform(seed, stream, len(size))  # (B, axes)
    for axis, (side, place) in enumerate(zip(size, places.unbind(1), strict=True)):
        length = int(side * share)
        first = (place * (side - length + 1)).int()[:, None]
        position = torch.arange(side, dtype=torch.int32, device=seed.device)
        within = (position >= first) & (position < first + length)  # (B, side)
        inside &= within.view(len(seed), 1, *[side if other == axis else 1 for other in range(len(size))])
    return inside


def spread(modality_mask: Tensor, image: Tensor) -> Tensor:
    """(B, M) bool as (B, M, 1, ...), to go with an image (B, M, *spatial)."""
    return modality_mask.reshape(*modality_mask.shape, *[1] * (image.ndim - 2))
