"""Augmentation of 3-D patches: its options, and where the voxels of a changed patch come from.

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
from torch import Tensor
from torch.nn import functional

from segan_pl.errors import UsageError

Patch = tuple[int, int, int]


@dataclass(frozen=True)
class PatchAugmentation:
    """What is varied in 3-D patches; the default varies nothing.

    Every plain number is the chance for a sample; ranges are uniform. AlbuNet's values (Wacker et al. 2019, the
    authors' code) are in configs/augmentation/albunet_augmentation.yaml.

    Attributes:
        elastic: Of a smooth displacement.
        elastic_scale: Its Gaussian's sigma, as a share of the patch; the largest displacement of an axis is between an
            eighth and a half of sigma.
        rotation: Of a rotation about each axis (about z only in the plane, see `source_coordinates`).
        rotation_deg: Uniform in +-this, an axis each.
        scaling: Of a change of size, the same along all axes (along y and x in the plane).
        scale_range: Of the field of view: above 1 the patch shows more. Below and above 1 are equally likely.
        mirror: Of a mirror image along z, y, x.
        brightness: Of a factor, a modality each.
        brightness_range: Of that factor.
        gamma: Of an exponent on intensities scaled to [0, 1] and back, a modality each.
        inverted_gamma: The same on the negative image.
        gamma_range: Of both exponents. Below and above 1 are equally likely.
        noise: Of Gaussian noise.
        noise_range: Of its standard deviation.
        blur: Of a Gaussian blur, mirrored at the patch's faces.
        blur_range: Of its sigma in voxels, a modality each.
        blur_modality: Chance of each modality, where the sample is blurred.

    Raises:
        UsageError: A value out of its range.
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
            expected = _expected(field.name, value)
            if expected:
                shown = list(value) if isinstance(value, tuple) else value
                raise UsageError(f"--data.patch_augmentation.{field.name} {shown}: expected {expected}")

    @property
    def varies_intensities(self) -> bool:
        """Whether intensities may change, interpolation included; a patch is float32 then."""
        chances = (self.elastic, self.rotation, self.scaling, self.brightness, self.gamma, self.inverted_gamma)
        return any((*chances, self.noise, self.blur))


def _expected(name: str, value: Any) -> str:
    """What an option of `PatchAugmentation` should be, where it is not that; else nothing."""
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    finite = bool(np.isfinite(numbers).all())
    if name == "rotation_deg":
        return "" if finite and len(numbers) == 1 and numbers[0] >= 0 else "degrees, at least 0"
    if not name.endswith(("_range", "_scale")):
        count = 3 if name == "mirror" else 1
        right = len(numbers) == count and bool(((numbers >= 0) & (numbers <= 1)).all())
        return "" if right else "three chances from 0 to 1 (z, y, x)" if count == 3 else "a chance from 0 to 1"
    if not finite or len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
        return "two numbers from 0 on, the smaller first"
    if name in ("scale_range", "gamma_range") and not 0 < numbers[0] <= 1 <= numbers[1]:
        return "a range around 1, above 0"
    return "voxels above 0" if name == "blur_range" and numbers[0] == 0 else ""


# -- space -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    """What is drawn for the spatial change of a sample; what does not happen is neutral.

    Attributes:
        share: Sigma of the displacement as a share of the patch; 0 for none.
        strength: (3,) largest displacement in sigma.
        seed: Of the displacement.
        angles: (3,) radians about z, y, x.
        scale: Of the field of view.
    """

    share: float
    strength: NDArray[np.float64]
    seed: int
    angles: NDArray[np.float64]
    scale: float


def source_coordinates(
    augmentation: PatchAugmentation, patch: Patch, rng: np.random.Generator, *, depth: int | None = None
) -> NDArray[np.float32] | None:
    """Where each voxel comes from, relative to the patch's centre: (3, D, H, W) in voxels; None where nothing moves.

    Displacement, then rotation, then scale, as AlbuNet's authors do. In the plane only where the patch has depth 1, and
    (ours) where it is a slab, thinner than it is wide, and needs more slices than the volume has: turned out of its
    plane, it would be blank in good part. The drawn numbers are the same either way.

    Args:
        augmentation: What is varied.
        patch: (D, H, W).
        rng: Every random number is drawn whatever happens, so that options do not shift each other.
        depth: Slices of the volume; without it there is always room.
    """
    change = _drawn(augmentation, rng)
    if change is None:
        return None
    field = _displacement(patch, change.share, change.strength, np.random.default_rng(change.seed))
    coordinates = _coordinates(field, change, patch, flat=patch[0] == 1)
    if depth is not None and 1 < patch[0] < max(patch[1:]):
        below, above = extents(coordinates, patch)[0]
        if below + patch[0] + above > depth:
            coordinates = _coordinates(field, change, patch, flat=True)
    return coordinates


def _drawn(augmentation: PatchAugmentation, rng: np.random.Generator) -> _Change | None:
    """The random numbers of one sample; None where nothing moves."""
    elastic, rotation, scaling = rng.random(3) < (augmentation.elastic, augmentation.rotation, augmentation.scaling)
    share = rng.uniform(*augmentation.elastic_scale)
    strength = rng.uniform(1 / 8, 1 / 2, 3)
    seed = int(rng.integers(2**63))
    angles = np.deg2rad(rng.uniform(-augmentation.rotation_deg, augmentation.rotation_deg, 3))
    scale = around_one(augmentation.scale_range, rng)
    if not (elastic or rotation or scaling):
        return None
    return _Change(share * elastic, strength, seed, angles * rotation, scale if scaling else 1.0)


def around_one(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Below 1 or above it, equally likely, uniform on either side."""
    low, high = rng.uniform(limits[0], 1), rng.uniform(1, limits[1])
    return float(low if rng.random() < 0.5 else high)


def _coordinates(
    field: NDArray[np.float32] | None, change: _Change, patch: Patch, *, flat: bool
) -> NDArray[np.float32]:
    """(3, *patch) displaced, turned and scaled; `flat`: slices keep their place."""
    axes = [np.linspace(-(n - 1) / 2, (n - 1) / 2, n, dtype=np.float32) for n in patch]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij"))
    if field is not None:
        coordinates[flat:] += field[flat:]
    angles, scales = (change.angles * (1, 0, 0), (1, *2 * [change.scale])) if flat else (change.angles, change.scale)
    matrix = np.diag(np.broadcast_to(scales, 3)) @ _rotation(angles)
    return np.tensordot(matrix.astype(np.float32), coordinates, 1)


def _displacement(
    patch: Patch, share: float, strength: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """(3, *patch) smooth noise whose largest value along an axis is `strength` of sigma; none along a depth of 1.

    Uniform noise in the patch, nothing outside it, under a Gaussian of sigma `share` of the patch, as the authors'
    (SciPy's with mode "constant"). Ours: a matrix an axis instead of a kernel as long as the patch, and noise no finer
    than half a sigma, of which the Gaussian leaves nothing that could be told from finer noise.
    """
    if share == 0:
        return None
    smooth = [_gaussian(n, share) for n in patch]
    field = np.zeros((3, *patch), np.float32)
    for axis, n in enumerate(patch):
        if n > 1:
            noise = 2 * rng.random([one.shape[1] for one in smooth], np.float32) - 1
            wave = np.tensordot(smooth[0], smooth[1] @ (noise @ smooth[2].T), 1)  # (D, H, W)
            field[axis] = wave * np.float32(strength[axis] * share * n / (np.abs(wave).max() + 1e-8))
    return field


def _gaussian(n: int, share: float) -> NDArray[np.float32]:
    """(n, cells) weights of noise in equal cells at n voxels: a Gaussian of sigma `share * n` voxels, not truncated."""
    cells = min(n, math.ceil(2 / share))
    centres = (np.arange(cells) + 0.5) * n / cells - 0.5
    away = (np.arange(n)[:, None] - centres) / max(share * n, 0.01)  # of a smaller sigma nothing reaches a neighbour
    return np.exp(-(away**2) / 2).astype(np.float32)


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


def extents(coordinates: NDArray[np.float32] | None, patch: Patch) -> tuple[tuple[int, int], ...]:
    """(below, above) each axis: how many voxels a box needs on either side of a patch's first and last voxel.

    Negative where the box is smaller than the patch: a magnified patch needs few voxels, and may lie further out.
    """
    if coordinates is None:
        return ((0, 0),) * 3
    out = []
    for axis, n in enumerate(patch):
        reach = (n - 1) / 2 + 1e-4  # float32's rounding asks for no voxel
        low, high = float(coordinates[axis].min()), float(coordinates[axis].max())
        out.append((math.ceil(-low - reach), math.ceil(high - reach)))
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
