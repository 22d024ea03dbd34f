"""Area of the surface inside each cube of eight voxel centres, by marching cubes with vertices at the edges' middles.

A facet is given by what it covers when looked at along each axis: the size of its normal's three parts. On voxels of
a x b x c mm those parts grow by b*c, a*c and a*b, which makes the same table serve any spacing. It is the surface that
DeepMind's surface-distance, and so the script of BraTS 2023, measures with; its table, as MONAI carries it (both
Apache-2.0), is what the 13 base shapes below were read off and what the tests compare all 256 cubes with.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

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
