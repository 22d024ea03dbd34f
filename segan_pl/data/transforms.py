"""Augmentation of 3-D patches: one generator a sample, spatial changes first, then intensities.

A spatial change asks for source coordinates; the reader then takes as large a box of the volume as they need, so that a
turned patch has no empty corner where the volume has voxels. (A crop of the patch's own size turned afterwards loses
its corners, and a patch of depth 1 turned out of its plane is mostly empty: 27 % of the samples in AlbuNet's 2-D runs.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class PatchAugmentation:
    """What is varied in 3-D patches; the default varies nothing.

    Every plain number is the chance for a sample; ranges are uniform. AlbuNet's values (Wacker et al. 2019, the
    authors' code) are in configs/augmentation/albunet_augmentation.yaml.

    Attributes:
        elastic: Of a smooth displacement.
        elastic_scale: Its Gaussian's sigma, as a share of the patch; the largest displacement of an axis is between an
            eighth and a half of sigma.
        rotation: Of a rotation about each axis (about z only where the patch has depth 1).
        rotation_deg: Uniform in +-this, an axis each.
        scaling: Of a change of size, the same along all axes (in the plane only where the patch has depth 1).
        scale_range: Of the field of view: above 1 the patch shows more. Below and above 1 are equally likely.
        mirror: Of a mirror image along z, y, x.
        brightness: Of a factor, a modality each.
        brightness_range: Of that factor.
        gamma: Of an exponent on intensities scaled to [0, 1] and back, a modality each.
        inverted_gamma: The same on the negative image.
        gamma_range: Of both exponents. Below and above 1 are equally likely.
        noise: Of Gaussian noise.
        noise_range: Of its standard deviation.
        blur: Of a Gaussian blur.
        blur_range: Of its sigma in voxels, a modality each.
        blur_modality: Chance of each modality, where the sample is blurred.
    """

    elastic: float = 0.0
    elastic_scale: tuple[float, float] = (0.0, 0.25)
    rotation: float = 0.0
    rotation_deg: float = 15.0
    scaling: float = 0.0
    scale_range: tuple[float, float] = (0.75, 1.25)
    mirror: tuple[float, float, float] = (0.0, 0.0, 0.0)
    brightness: float = 0.0
    brightness_range: tuple[float, float] = (0.7, 1.5)
    gamma: float = 0.0
    inverted_gamma: float = 0.0
    gamma_range: tuple[float, float] = (0.5, 2.0)
    noise: float = 0.0
    noise_range: tuple[float, float] = (0.0, 0.05)
    blur: float = 0.0
    blur_range: tuple[float, float] = (0.5, 1.5)
    blur_modality: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_range", "_scale")):
                if not 0 <= value[0] <= value[1]:
                    raise ValueError(f"augmentation {field.name} is {value}, expected two numbers, the smaller first")
            elif field.name != "rotation_deg" and not all(0 <= chance <= 1 for chance in np.atleast_1d(value)):
                raise ValueError(f"augmentation {field.name} is {value}, expected chances from 0 to 1")
        for name in ("scale_range", "gamma_range"):
            if not 0 < getattr(self, name)[0] <= 1 <= getattr(self, name)[1]:
                raise ValueError(f"augmentation {name} is {getattr(self, name)}, expected a range around 1")

    @property
    def varies_intensities(self) -> bool:
        """Whether intensities may change, interpolation included; a patch is float32 then."""
        chances = (self.elastic, self.rotation, self.scaling, self.brightness, self.gamma, self.inverted_gamma)
        return any((*chances, self.noise, self.blur))


# -- space -------------------------------------------------------------------------------------------------------------


def source_coordinates(
    augmentation: PatchAugmentation, patch: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """Where each voxel comes from, relative to the patch's centre: (3, D, H, W) in voxels; None where nothing moves.

    Displacement, then rotation, then scale, as AlbuNet's authors do. Every random number is drawn whatever happens, so
    that options do not shift each other.
    """
    happens = rng.random(3) < (augmentation.elastic, augmentation.rotation, augmentation.scaling)
    share = rng.uniform(*augmentation.elastic_scale)
    strength = rng.uniform(1 / 8, 1 / 2, 3)
    seed = int(rng.integers(2**63))
    angles = np.deg2rad(rng.uniform(-augmentation.rotation_deg, augmentation.rotation_deg, 3))
    scale = _around_one(augmentation.scale_range, rng)
    if not happens.any():
        return None
    flat = patch[0] == 1
    coordinates = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in patch), indexing="ij"))
    if happens[0]:
        coordinates += _displacement(patch, share, strength, np.random.default_rng(seed))
    if happens[1]:
        turn = _rotation(np.array([angles[0], 0, 0]) if flat else angles)
        coordinates = np.tensordot(turn, coordinates, 1)
    if happens[2]:
        coordinates *= np.array([1 if flat else scale, scale, scale])[:, None, None, None]
    return coordinates.astype(np.float32)


def _around_one(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Below 1 or above it, equally likely, uniform on either side."""
    low, high = rng.uniform(limits[0], 1), rng.uniform(1, limits[1])
    return float(low if rng.random() < 0.5 else high)


def _displacement(
    patch: tuple[int, int, int], share: float, strength: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(3, *patch) smooth noise whose largest value along an axis is `strength` of sigma; none along a depth of 1.

    Smoothed in Fourier space: a sigma of a quarter of the patch would need a kernel as long as the patch.
    """
    sigma = [share * n for n in patch]
    field = np.zeros((3, *patch))
    for axis in range(3):
        if patch[axis] == 1 or sigma[axis] == 0:
            continue
        spectrum = ndimage.fourier_gaussian(fft.rfftn(rng.uniform(-1, 1, patch)), sigma, n=patch[2])
        smooth = fft.irfftn(spectrum, patch)
        field[axis] = smooth / (np.abs(smooth).max() + 1e-8) * strength[axis] * sigma[axis]
    return field


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn about z, then y, then x; acts on (z, y, x)."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [other for other in range(3) if other != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = math.cos(angle)
        one[a, b], one[b, a] = -math.sin(angle), math.sin(angle)
        turn = one @ turn
    return turn


def extents(coordinates: NDArray[np.float32] | None, patch: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    """(below, above) each axis: how many voxels a box needs on either side of a patch's first and last voxel."""
    if coordinates is None:
        return ((0, 0),) * 3
    out = []
    for axis, n in enumerate(patch):
        reach = (n - 1) / 2
        low, high = float(coordinates[axis].min()), float(coordinates[axis].max())
        out.append((max(0, math.ceil(-low - reach)), max(0, math.ceil(high - reach))))
    return tuple(out)


def resample(box: Tensor, coordinates: Tensor, centre: tuple[float, float, float], mode: str) -> Tensor:
    """Read a box (N, *box) at centre + coordinates (3, D, H, W), both in its voxels: (N, D, H, W); 0 outside it.

    Args:
        box: float32.
        coordinates: Relative to `centre`.
        centre: In the box.
        mode: "bilinear" (trilinear) for images, "nearest" for masks.
    """
    axes = [
        (2 * (coordinates[axis] + centre[axis]) + 1) / box.shape[1 + axis] - 1 for axis in (2, 1, 0)
    ]  # grid_sample wants x, y, z
    return functional.grid_sample(box[None], torch.stack(axes, -1)[None], mode=mode, align_corners=False)[0]


# -- intensities -------------------------------------------------------------------------------------------------------


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
    exponents = [[_around_one(augmentation.gamma_range, rng) for _ in rows] for _ in range(2)]
    deviation, seed = rng.uniform(*augmentation.noise_range), int(rng.integers(2**63))
    sigmas = [rng.uniform(*augmentation.blur_range) for _ in rows]
    blurred = rng.random(len(image)) < augmentation.blur_modality
    if happens[0]:
        image = image * torch.tensor(factors, dtype=image.dtype)[:, None, None, None]
    for inverted in (False, True):
        if happens[1 + inverted]:
            image = torch.stack([_gamma(one, g, inverted) for one, g in zip(image, exponents[inverted], strict=True)])
    if happens[3]:
        noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
        image = image + deviation * torch.from_numpy(noise)
    if happens[4]:
        image = torch.stack([_blur(image[row], sigmas[row]) if blurred[row] else image[row] for row in rows])
    return image


def _gamma(volume: Tensor, exponent: float, inverted: bool) -> Tensor:
    """((v - min) / (max - min)) ** exponent, scaled back (MONAI's)."""
    from monai.transforms import AdjustContrast  # heavy: only where it is used

    return _plain(AdjustContrast(exponent, invert_image=inverted)(volume[None]))[0]


def _blur(volume: Tensor, sigma: float) -> Tensor:
    """Along the axes that have more than one voxel (MONAI's); zero outside."""
    from monai.transforms import GaussianSmooth

    smooth = GaussianSmooth(sigma, approx="sampled")
    return _plain(smooth(volume)) if volume.shape[0] == 1 else _plain(smooth(volume[None]))[0]


def _plain(image: Any) -> Tensor:
    """A tensor without MONAI's bookkeeping."""
    from monai.utils import convert_to_tensor

    return convert_to_tensor(image, track_meta=False)
