"""Distances between the surfaces of two masks, in mm.

Three definitions of HD95 are in use and differ by up to millimetres, so every result says which it is:

- "monai": boundary voxels (foreground with a background neighbour across a face); the larger of the two directions'
  95th percentiles, interpolated. MONAI's default, and ours.
- "medpy": the same voxels; the percentile of both directions' distances put together.
- "deepmind": cubes between voxel centres that the surface passes, each weighted by its area in mm2; the larger of the
  two directions' percentiles, not interpolated. DeepMind's surface-distance, the script of BraTS 2023.

The mean distance (both directions' distances together) and the surface Dice are over boundary voxels, as in MONAI; the
surface Dice by area, on request, is over those cubes, as in DeepMind's code (Nikolov et al. 2018).
What lies beyond the volume counts as background, but for the two sides of a single slice.

MONAI has the first definition too, and the tests compare with it. It is not used here: it loads PyTorch, which
`evaluate` does without, it measures by the distance transform of a whole box, and it has neither of the other two HD95.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import permutations, product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

Definition = Literal["monai", "medpy", "deepmind"]
DEFINITIONS: Mapping[str, str] = {
    "monai": "boundary voxels; the larger of the two directed 95th percentiles (MONAI)",
    "medpy": "boundary voxels; the 95th percentile of both directions' distances together (medpy)",
    "deepmind": "surface elements weighted by area; the larger of the two directed 95th percentiles (BraTS 2023)",
}
PERCENT = 95
# Files hold affines in single precision: 1 mm may read 1.00000012.
TOUCH_MM = 1e-4
# Points in a leaf of a tree: each tree serves one query or two, so it is built quickly rather than well.
LEAF = 32
# A tree looks so many voxels far at first. Where the box has fewer voxels than DENSE for each place, or than SPARSE for
# each place that is farther than NEAR, the transform is quicker than a tree.
NEAR = 8
DENSE = 6
SPARSE = 200

Places = NDArray[np.intp]


class Surface(NamedTuple):
    """Where a mask's surface is.

    Attributes:
        places: (n, 3) int, (z, y, x): voxels, or cubes by their first corner in a mask padded by one.
        weight: (n,) mm2, or ones.
    """

    places: Places
    weight: NDArray[np.float64]


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
    return weighted_percentile_mm((a, b), directed_mm(a, b, spacing))


def weighted_percentile_mm(surfaces: Sequence[Surface], apart: Sequence[NDArray[np.float64]]) -> float:
    """HD95 as "deepmind" defines it: the larger of the two directed percentiles by area.

    Args:
        surfaces: Two, weighted by mm2.
        apart: Of `directed_mm`.
    """
    found = []
    for distance, surface in zip(apart, surfaces, strict=True):
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


CORNERS = np.array(list(product((0, 1), repeat=3)))  # (8, 3); corner 4z + 2y + x is bit 4z + 2y + x of a code
FLAT = ((1, 1, 1),)  # the triangle that cuts off one corner, in eighths of a face
STEEP = ((0, 2, 2), (0, 2, 2))  # the rectangle that cuts off an edge along z
_SHAPES: tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...] = (  # corners inside (zyx), facets in eighths
    ("000", FLAT),
    ("000 100", STEEP),
    ("000 011", FLAT * 2),
    ("000 111", FLAT * 2),
    ("000 001 010", (*FLAT, (2, 2, 2), (4, 0, 0))),
    ("000 100 011", (*STEEP, *FLAT)),
    ("001 010 100", FLAT * 3),
    ("000 001 010 011", ((4, 0, 0), (4, 0, 0))),
    ("000 001 010 100", (*FLAT * 2, (2, 2, 2), (2, 2, 2))),
    ("000 001 010 111", (*FLAT * 2, (2, 2, 2), (4, 0, 0))),
    ("000 100 110 111", ((0, 2, 2), (1, 1, 1), (2, 2, 0), (3, 3, 3))),
    ("000 100 011 111", STEEP * 2),
    ("000 011 101 110", FLAT * 4),
)


@cache
def facets() -> NDArray[np.float64]:
    """(256, 4, 3): the facets' parts along z, y, x for each code, in shares of a face; rows of 0 where there are fewer.

    A shape turned, mirrored or with inside and outside exchanged has the same facets, turned with it.
    """
    table = np.zeros((256, 4, 3))
    for corners, parts in _SHAPES:
        inside = np.array([[int(digit) for digit in corner] for corner in corners.split()])
        for axes, flip in product(permutations(range(3)), product((0, 1), repeat=3)):
            code = int(sum(1 << int(bit) for bit in (inside[:, axes] ^ np.array(flip)) @ (4, 2, 1)))
            turned = np.array(parts)[:, axes] / 8
            table[code] = table[255 - code] = 0
            table[code, : len(parts)] = table[255 - code, : len(parts)] = turned
    return table


def areas_mm2(spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """(256,) mm2 for each code.

    Args:
        spacing: (z, y, x), mm.
    """
    z, y, x = spacing
    parts = facets() * (y * x, z * x, z * y)
    areas: NDArray[np.float64] = np.linalg.norm(parts, axis=-1).sum(-1)
    return areas
