"""Intensities of augmented 3-D patches: brightness, gamma, noise and blur, one generator a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from segan_pl.data.transforms import PatchAugmentation, around_one


def shaded(image: Tensor, augmentation: PatchAugmentation, rng: np.random.Generator) -> Tensor:
    """Brightness, gamma, inverted gamma, noise, blur on (M, D, H, W) float32, in this order.

    Random numbers are drawn whatever happens; noise has a generator of its own.
    """
    happens = rng.random(5) < (
        *(augmentation.brightness, augmentation.gamma, augmentation.inverted_gamma),
        *(augmentation.noise, augmentation.blur),
    )
    rows = range(len(image))
    factors = [rng.uniform(*augmentation.brightness_range) for _ in rows]
    exponents = [[around_one(augmentation.gamma_range, rng) for _ in rows] for _ in range(2)]
    deviation, seed = rng.uniform(*augmentation.noise_range), int(rng.integers(2**63))
    sigmas = [rng.uniform(*augmentation.blur_range) for _ in rows]
    blurred = rng.random(len(image)) < augmentation.blur_modality
    if happens[0]:
        image = image * torch.tensor(factors, dtype=image.dtype)[:, None, None, None]
    for inverted in (False, True):
        if happens[1 + inverted]:
            image = torch.stack([_gamma(one, g, inverted) for one, g in zip(image, exponents[inverted], strict=True)])
    if happens[3]:
        image = image + deviation * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    if happens[4]:
        image = torch.stack([_blur(image[row], sigmas[row]) if blurred[row] else image[row] for row in rows])
    return image


def _gamma(volume: Tensor, exponent: float, inverted: bool) -> Tensor:
    """((v - min) / (max - min)) ** exponent, scaled back (MONAI's)."""
    from monai.transforms import AdjustContrast  # heavy: only where it is used

    return _plain(AdjustContrast(exponent, invert_image=inverted)(volume[None]))[0]


def _blur(volume: Tensor, sigma: float) -> Tensor:
    """SciPy's Gaussian, mirrored at the faces as the authors'; in the plane only where the depth is 1."""
    axes = (0.0 if volume.shape[0] == 1 else sigma, sigma, sigma)
    return torch.from_numpy(ndimage.gaussian_filter(volume.numpy(), axes, mode="reflect"))


def _plain(image: Any) -> Tensor:
    """A tensor without MONAI's bookkeeping."""
    from monai.utils import convert_to_tensor

    return convert_to_tensor(image, track_meta=False)
