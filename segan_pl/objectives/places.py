"""Translation and cutout of images and masks alike, drawn for each sample (Zhao et al. 2020, DiffAugment)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segan_pl.data.sample.random_numbers import uniform
from segan_pl.objectives.semi_supervised.views import boxes

# Streams of random numbers, see data/sample/random_numbers.py; between those of stabilisers.py.
PLACE, CUTOUT = 501, 502


def drawn_places(seed: Tensor, size: Sequence[int], translation: float, cutout: float) -> tuple[Tensor, ...]:
    """Where voxels go: (B, 1, *size) bool, where something is seen, then by axis whence each position comes, (B, side).

    Args:
        seed: (B,) int64.
        size: (H, W) or (D, H, W).
        translation: Largest shift along each axis, as a share of the side.
        cutout: Side of the box where nothing is seen, as a share of the side; 0 for none.
    """
    ones = [1] * len(size)
    inside = torch.ones(len(seed), 1, *size, dtype=torch.bool, device=seed.device)
    sources = []
    for axis, (side, place) in enumerate(zip(size, uniform(seed, PLACE, len(size)).unbind(1), strict=True)):
        most = round(side * translation)
        shift = (place * (2 * most + 1)).floor().long()[:, None] - most
        source = torch.arange(side, device=seed.device) - shift
        # Round the corner, so that no voxel is read twice and the gradient is the same in any order of its sums.
        sources.append(source % side)
        inside &= (source == sources[-1]).view(len(seed), 1, *ones[:axis], side, *ones[axis + 1 :])
    if cutout:
        inside &= ~boxes(seed, CUTOUT, size, cutout)
    return inside, *sources


def moved(x: Tensor, places: Sequence[Tensor]) -> Tensor:
    """(B, C, *spatial) with each voxel from where `places` say; 0 where nothing is seen. Without any, itself."""
    if not places:
        return x
    inside, *sources = places
    for axis, source in enumerate(sources, start=2):
        index = source.view(len(x), *[source.shape[1] if one == axis else 1 for one in range(1, x.ndim)])
        x = x.gather(axis, index.expand(x.shape))
    return x.masked_fill(~inside, 0)
