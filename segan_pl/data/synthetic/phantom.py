"""A drawn head: a brain of three tissues with one glioma, as maps and without any scanner.

Shapes are drawn in brain coordinates (0 at the centre, 1 at the surface) and in cells of noise an axis, so a brain
looks the same at every array shape. Nothing is measured on patients; proportions follow what BraTS scans show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Shape

Grade = Literal["HGG", "LGG"]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

OUTSIDE, FLUID, GREY, WHITE = range(4)
# Native BraTS labels.
CORE, OEDEMA, RIM = 1, 2, 4


@dataclass(frozen=True)
class Anatomy:
    """A healthy brain; every array is (D, H, W).

    Attributes:
        tissue: OUTSIDE, FLUID, GREY or WHITE.
        inner: Where a tumour may grow: brain without ventricles and without the fluid at the surface.
        depth: 0 at the surface, 1 at the centre; negative outside.
        bright: Share of age-related change in white matter, in [0, 1]: caps of the ventricles and spots, which are
            bright in FLAIR and T2 but no tumour.
        grid: Brain coordinates (z, y, x), broadcastable.
    """

    tissue: NDArray[np.uint8]
    inner: Bools
    depth: Floats
    bright: Floats
    grid: tuple[Floats, Floats, Floats]


@dataclass(frozen=True)
class Tumour:
    """A glioma; every array is (D, H, W).

    Attributes:
        label: Native labels 0, 1 (core without enhancement), 2 (oedema), 4 (enhancing).
        oedema: Share of the signal that is the tumour's, in [0, 1]; it fades across the border of the label.
        core: The same for the core without enhancement.
        rim: The same for the enhancing part.
    """

    label: NDArray[np.uint8]
    oedema: Floats
    core: Floats
    rim: Floats


def smooth_field(rng: np.random.Generator, shape: Shape, cells: tuple[int, int, int]) -> Floats:
    """Gaussian noise with about `cells` bumps an axis, (D, H, W); every voxel has mean 0 and variance 1."""
    coarse = rng.standard_normal([n + 3 for n in cells])
    for axis, (length, n) in enumerate(zip(shape, cells, strict=True)):
        gap = np.linspace(0, n, length)[:, None] - np.arange(-1, n + 2)
        weight = np.exp(-0.5 * (gap / 0.6) ** 2)
        weight /= np.linalg.norm(weight, axis=1, keepdims=True)
        coarse = np.moveaxis(np.tensordot(weight, coarse, (1, axis)), 0, axis)
    return coarse.astype(np.float32)


def draw_anatomy(rng: np.random.Generator, shape: Shape) -> Anatomy:
    """An irregular ellipsoid with folded cortex, deep grey nuclei, ventricles and a midline fissure."""
    # Brain coordinates of every voxel: size, position and proportions differ from head to head.
    half = np.array([0.46, 0.42, 0.345]) * rng.uniform(0.93, 1.05, 3)
    at = rng.uniform(-0.02, 0.02, 3)
    axes = [((np.arange(n) + 0.5) / n - 0.5 - a) / h for n, a, h in zip(shape, at, half, strict=True)]
    z, y, x = (axis.astype(np.float32) for axis in np.meshgrid(*axes, indexing="ij", sparse=True))
    grid = (z, y, x)
    depth = 1 - np.sqrt(z**2 + y**2 + x**2) + 0.035 * smooth_field(rng, shape, (3, 4, 4))
    # a sulcus runs where the noise changes sign
    crease = np.abs(smooth_field(rng, shape, (11, 16, 13)))
    fissure = np.abs(x + 0.03 * smooth_field(rng, shape, (2, 5, 2)))
    # Below 1 inside the two lateral ventricles; their width differs with age.
    width = rng.uniform(0.07, 0.15)
    off = np.abs(x) - 0.14 - 0.22 * y**2  # the horns diverge
    ventricle = np.sqrt((off / width) ** 2 + (y / 0.5) ** 2 + ((z - 0.1 + 0.25 * y**2) / rng.uniform(0.2, 0.3)) ** 2)
    ventricle = ventricle + 0.06 * smooth_field(rng, shape, (5, 8, 8))
    thalamus = ((np.abs(x) - 0.17) / 0.13) ** 2 + ((y - 0.18) / 0.16) ** 2 + ((z + 0.15) / 0.2) ** 2
    lentiform = ((np.abs(x) - 0.42) / 0.11) ** 2 + ((y + 0.1) / 0.25) ** 2 + ((z + 0.1) / 0.2) ** 2

    tissue = np.full(shape, WHITE, np.uint8)
    folded = np.clip(1.1 - depth / 0.4, 0, 1)  # how far the folds reach down
    tissue[(depth < 0.09) | (crease < 0.75 * folded) | (np.minimum(thalamus, lentiform) < 1)] = GREY
    tissue[(fissure < 0.05) & (depth < 0.5)] = GREY
    inner = (depth > 0.03) & (ventricle > 1)
    outer_fluid = (crease < rng.uniform(0.08, 0.28) * folded) | ((fissure < 0.018) & (depth < 0.45)) | (depth < 0.025)
    tissue[outer_fluid | (ventricle < 1)] = FLUID
    tissue[depth < 0] = OUTSIDE
    burden = rng.uniform(0, 1)
    caps = np.clip(1 - (ventricle - 1) / (0.15 + 0.45 * burden), 0, 1)
    spots = np.clip(2 * (smooth_field(rng, tissue.shape, (9, 13, 13)) - 2.6 + burden), 0, 1)
    return Anatomy(tissue, inner, depth, (np.maximum(caps, spots) * (tissue == WHITE)), grid)


def draw_tumour(rng: np.random.Generator, anatomy: Anatomy, grade: Grade, *, share: float) -> Tumour:
    """One glioma of exactly `share` of the brain; HGG: ring round necrosis in wide oedema, LGG: diffuse core.

    Raises:
        ValueError: `share` is not in (0, 0.5), or the brain has too few voxels for it.
    """
    shape = anatomy.tissue.shape
    brain = int((anatomy.tissue != OUTSIDE).sum())
    size = round(share * brain)
    if not 0 < share < 0.5 or size < 8:
        raise ValueError(f"tumour of {share:g} of a brain of {brain} voxels; take a share below 0.5 or a larger shape")
    high = grade == "HGG"
    # A voxel of white matter away from surface and poles.
    away = (anatomy.tissue == WHITE) & (anatomy.depth > 0.2) & (np.abs(anatomy.grid[0]) < 0.7)
    index = np.unravel_index(int(rng.choice(np.flatnonzero(away))), anatomy.tissue.shape)
    centre = np.array([axis.ravel()[i] for axis, i in zip(anatomy.grid, index, strict=True)])
    spread = _distance(rng, anatomy, centre, ragged=0.22)
    # oedema follows white matter
    spread *= np.where(anatomy.tissue == WHITE, np.float32(1), np.float32(1.25))
    bulk = _distance(rng, anatomy, centre, ragged=0.12 if high else 0.2)
    whole, edge = _smallest(spread, anatomy.inner, size)
    core, core_edge = _smallest(bulk, whole, size * rng.uniform(0.2, 0.55) if high else size * rng.uniform(0.45, 0.8))
    # where the core takes up contrast agent; `relative` is 0 at its centre and 1 at its border
    relative, wobble = bulk / core_edge, smooth_field(rng, shape, (11, 16, 16))
    if high:
        rim = core & (relative > rng.uniform(0.6, 0.88) + 0.12 * wobble)
    else:
        rim = core & (wobble > 1.3) & (relative < 0.7) if rng.random() < 0.35 else np.zeros(shape, bool)

    label = np.zeros(shape, np.uint8)
    label[whole], label[core], label[rim] = OEDEMA, CORE, RIM
    fade = rng.uniform(0.12, 0.25) if high else rng.uniform(0.25, 0.45)
    oedema = np.clip(0.5 + (1 - spread / edge) / fade, 0, 1) * (anatomy.inner | whole)
    core_share = np.clip(0.5 + (1 - bulk / core_edge) / (0.1 if high else 0.5), 0, 1) * whole
    return Tumour(label, oedema.astype(np.float32), core_share.astype(np.float32), rim.astype(np.float32))


def _distance(rng: np.random.Generator, anatomy: Anatomy, centre: NDArray, *, ragged: float) -> Floats:
    """Distance from the centre in brain coordinates, stretched along the axes and made irregular, (D, H, W)."""
    stretch = rng.uniform(0.75, 1.3, 3)
    z, y, x = ((axis - c) * s for axis, c, s in zip(anatomy.grid, centre, stretch, strict=True))
    shape = anatomy.tissue.shape
    bumps = smooth_field(rng, shape, (6, 8, 8)) + 0.7 * smooth_field(rng, shape, (13, 20, 20))
    return (np.sqrt(z**2 + y**2 + x**2) * np.exp(ragged * bumps)).astype(np.float32)


def _smallest(value: Floats, where: Bools, size: float) -> tuple[Bools, float]:
    """The `size` voxels of `where` with the smallest values (all if there are fewer), and the largest of these."""
    inside = value[where]
    last = min(int(size), inside.size) - 1
    edge = float(np.partition(inside, last)[last])
    return where & (value <= edge), edge
