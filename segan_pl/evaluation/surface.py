"""Distances between the surfaces of two masks, in mm.

Three definitions of HD95 are in use and differ by up to millimetres, so every result says which it is:

- "monai": boundary voxels (foreground with a background neighbour across a face); the larger of the two directions'
  95th percentiles, interpolated. MONAI's default, and ours.
- "medpy": the same voxels; the percentile of both directions' distances put together.
- "deepmind": cubes between voxel centres that the surface passes, each weighted by its area in mm2; the larger of the
  two directions' percentiles, not interpolated. DeepMind's surface-distance, the script of BraTS 2023.

The mean distance (both directions' distances together) and the surface Dice are over boundary voxels, as in MONAI.
What lies beyond the volume counts as background, but for the two sides of a single slice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from segan_pl.evaluation.surface_area import areas_mm2

Definition = Literal["monai", "medpy", "deepmind"]
DEFINITIONS: Mapping[str, str] = {
    "monai": "boundary voxels; the larger of the two directed 95th percentiles (MONAI)",
    "medpy": "boundary voxels; the 95th percentile of both directions' distances together (medpy)",
    "deepmind": "surface elements weighted by area; the larger of the two directed 95th percentiles (BraTS 2023)",
}
PERCENT = 95
TOUCH_MM = 1e-4  # files hold affines in single precision: 1 mm may read 1.00000012
LEAF = 32  # points in a leaf of a tree: each tree serves one query or two
NEAR = 8  # voxels that a tree looks at first
DENSE = 6  # voxels of the box for each place, below which the transform is quicker than a tree
SPARSE = 200  # the same for each place that is farther than NEAR

Places = NDArray[np.intp]


class Surface(NamedTuple):
    """Where a mask's surface is.

    Attributes:
        places: (n, 3) int, (z, y, x): voxels, or cubes by their first corner in a mask padded by one.
        weight: (n,) mm2, or ones.
    """

    places: Places
    weight: NDArray[np.float64]


class SurfaceScores(NamedTuple):
    """How far two surfaces lie apart.

    Attributes:
        hd95_mm: By the definition asked for.
        mean_mm: Average symmetric surface distance.
        dice: Share of both surfaces within the tolerance of the other.
    """

    hd95_mm: float
    mean_mm: float
    dice: float


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box that holds a (D, H, W) mask; one voxel where it is empty."""
    box = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 1))
        mask = mask[(*[slice(None)] * axis, box[-1])]
    z, y, x = box
    return z, y, x


def boundary(mask: NDArray[np.bool_], flat: Collection[int] = ()) -> Surface:
    """The voxels of a (D, H, W) mask with a face on the background; faces across `flat` axes do not count."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in (axis for axis in range(3) if axis not in flat):
        for start in (0, 2):
            place = [slice(1, -1)] * 3
            place[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(place)]
    index = np.argwhere(mask & ~inner)
    return Surface(index, np.ones(len(index)))


def elements(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> Surface:
    """The cubes of eight voxel centres that the surface of a (D, H, W) mask passes, with its area in each."""
    padded = np.pad(mask, 1).view(np.uint8)
    depth, height, width = (size - 1 for size in padded.shape)
    code = np.zeros((depth, height, width), np.uint8)
    for bit in range(8):
        z, y, x = bit >> 2 & 1, bit >> 1 & 1, bit & 1
        code |= padded[z : z + depth, y : y + height, x : x + width] << bit
    index = np.argwhere((code != 0) & (code != 255))
    return Surface(index, areas_mm2(spacing)[code[tuple(index.T)]])


def surface_scores(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    *,
    tolerance_mm: float = 1.0,
    definition: Definition = "monai",
    flat: Collection[int] = (),
) -> SurfaceScores:
    """Surface distances of two masks of which neither is empty.

    Args:
        prediction: (D, H, W).
        reference: The same shape.
        spacing: (z, y, x), mm.
        tolerance_mm: Of the surface Dice; a distance equal to it is within.
        definition: Of HD95.
        flat: Axes along which the whole volume is one voxel: a slice has a contour, not a front and a back. Elements
            ("deepmind") take it for a slab.

    Raises:
        ValueError: A mask is empty; what it scores is the policy's to say.
    """
    there, back = directed_mm(boundary(prediction, flat), boundary(reference, flat), spacing)
    both = np.concatenate([there, back])
    if definition == "deepmind":
        hd95 = weighted_hd95_mm(elements(prediction, spacing), elements(reference, spacing), spacing)
    elif definition == "medpy":
        hd95 = float(np.percentile(both, PERCENT))
    else:
        hd95 = float(max(np.percentile(there, PERCENT), np.percentile(back, PERCENT)))
    return SurfaceScores(hd95, float(both.mean()), float(np.mean(both <= tolerance_mm + TOUCH_MM)))


def directed_mm(
    a: Surface, b: Surface, spacing: tuple[float, float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From each place of `a` to the nearest of `b`, (n,), and from each of `b` to `a`, (m,).

    Raises:
        ValueError: One of them has no place.
    """
    if not len(a.places) or not len(b.places):
        raise ValueError("an empty mask has no surface")
    return nearest_mm(a.places, b.places, spacing), nearest_mm(b.places, a.places, spacing)


def weighted_hd95_mm(a: Surface, b: Surface, spacing: tuple[float, float, float]) -> float:
    """The larger of the two directed percentiles by area, as "deepmind" defines them."""
    found = []
    for distance, surface in zip(directed_mm(a, b, spacing), (a, b), strict=True):
        order = np.lexsort((surface.weight, distance))
        share = np.cumsum(surface.weight[order]) / surface.weight.sum()
        place = min(int(np.searchsorted(share, PERCENT / 100)), len(order) - 1)
        found.append(float(distance[order[place]]))
    return max(found)


def nearest_mm(places: Places, others: Places, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """From each of `places` to the nearest of `others`, (n,) mm.

    Surfaces of a tumour and its prediction lie close to each other: a search tree is quickest. Where they are many or
    far apart a tree takes minutes, and the distance transform of their box, which does not care, seconds.
    """
    lowest = np.minimum(places.min(0), others.min(0))
    shape = np.maximum(places.max(0), others.max(0)) - lowest + 1
    voxels = int(np.prod(shape))
    if len(places) + len(others) > voxels / DENSE:
        return by_transform(places - lowest, others - lowest, shape, spacing)
    near = by_tree(places, others, spacing, within_mm=NEAR * max(spacing))
    far = np.isinf(near)
    if not far.any():
        return near
    if np.count_nonzero(far) > voxels / SPARSE:
        return by_transform(places - lowest, others - lowest, shape, spacing)
    near[far] = by_tree(places[far], others, spacing)
    return near


def by_tree(
    places: Places, others: Places, spacing: tuple[float, float, float], within_mm: float = np.inf
) -> NDArray[np.float64]:
    """Distances by a search tree; infinite beyond `within_mm`."""
    tree = KDTree(others * np.array(spacing), leafsize=LEAF, compact_nodes=False, balanced_tree=False)
    distance: NDArray[np.float64] = tree.query(places * np.array(spacing), distance_upper_bound=within_mm)[0]
    return distance


def by_transform(
    places: Places, others: Places, shape: Places, spacing: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Distances by the distance transform of a box of `shape` voxels that holds all places."""
    away = np.ones(shape, bool)
    away[tuple(others.T)] = False
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(away, sampling=spacing)[tuple(places.T)]
    return distance
