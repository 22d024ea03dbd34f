"""A transform of my own, of whole batches on any device: the coil's bias field, a smooth gain over the image."""

from __future__ import annotations

import torch

from segan_pl.batch import Batch
from segan_pl.data.sample.random_numbers import uniform

STREAM = 1000  # of random numbers; those below are the package's own


class BiasField:
    """Multiplies each sample by exp(ramp), of random slopes along its axes, the same for all its modalities.

    Args:
        strength: Largest logarithm of the gain that an axis adds, reached at the patch's faces.
    """

    def __init__(self, strength: float = 0.3) -> None:
        self.strength = strength

    def __call__(self, batch: Batch) -> Batch:
        """Image (B, M, H, W) or (B, M, D, H, W), on any device; all that is drawn follows from `batch.seed`."""
        space = batch.image.shape[2:]
        slopes = (2 * uniform(batch.seed, STREAM, len(space)) - 1) * self.strength  # (B, axes)
        ramp = torch.zeros_like(batch.image[:, :1], dtype=torch.float32)  # (B, 1, *spatial)
        for axis, (slope, size) in enumerate(zip(slopes.unbind(1), space, strict=True)):
            along = torch.linspace(-1, 1, size, device=slope.device).view(-1, *[1] * (len(space) - 1 - axis))
            ramp += slope.view(-1, *[1] * (len(space) + 1)) * along
        return batch._replace(image=batch.image * ramp.exp())
