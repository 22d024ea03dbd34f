"""Native intensities to network intensities: the arithmetic of preparation, without files or geometry.

Integer volumes, which nearly all are, go through a histogram and a look-up table: exact, and without a float64 copy.
Blocks of one slice keep the temporaries in the processor's cache. Of a stripped head most voxels are 0: those around
the box of the others are counted, and scaled, all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# More distinct integer values than this are treated as floats.
TABLE_LIMIT = 1 << 20


class Bounds(NamedTuple):
    """What a volume's scaling was: (low, high) for percentiles, (mean, deviation) for z-scores."""

    low: float
    high: float


def table_range(volume: NDArray) -> range | None:
    """All integers from a volume's least value to its largest, or None where a table of them would not pay."""
    if volume.dtype.kind not in "iu" or volume.size == 0:
        return None
    values = range(int(volume.min()), int(volume.max()) + 1)
    return values if values.stop - values.start <= TABLE_LIMIT else None


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box (D, H, W) that holds all that is true; an empty one where nothing is."""
    flat = np.logical_or.reduce(mask, axis=0)
    lines = mask.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0)
    spans = [np.flatnonzero(line) for line in lines]
    z, y, x = (slice(int(span[0]), int(span[-1]) + 1) if span.size else slice(0, 0) for span in spans)
    return z, y, x


def percentile_bounds(
    region: NDArray,
    percentiles: tuple[float, float],
    values: range | None,
    *,
    nonzero: bool = False,
    positive: bool = False,
) -> Bounds:
    """Percentiles of (D, H, W) voxels, equal to `np.percentile(region, percentiles)` (linear).

    Args:
        region: The voxels that count; with `nonzero` only those of them that are not 0.
        percentiles: Low and high, 0 to 100.
        values: `table_range(region)`.
        nonzero: (0, 0) comes back where nothing is left to count.
        positive: Only those above 0 count; the same.
    """
    if values is None:
        counted = region[region > 0] if positive else region[region != 0] if nonzero else region
        low, high = np.percentile(counted.astype(np.float64), percentiles) if counted.size else (0.0, 0.0)
        return Bounds(float(low), float(high))
    counts = np.zeros(len(values), np.int64)
    filled = region[box_of(region != 0)]
    for index in _indices(filled, values.start):
        found = np.bincount(index.ravel())
        counts[: found.size] += found
    if region.size > filled.size:
        counts[values.index(0)] += region.size - filled.size
    if positive:
        counts[: max(0, 1 - values.start)] = 0
    elif nonzero and 0 in values:
        counts[values.index(0)] = 0
    total = int(counts.sum())
    if total == 0:
        return Bounds(0.0, 0.0)
    ends = np.cumsum(counts)
    low, high = (_interpolate(ends, total, q, values.start) for q in percentiles)
    return Bounds(low, high)


def scale_between(
    region: NDArray,
    bounds: Bounds,
    values: range | None,
    out: NDArray[np.float16],
    interval: tuple[float, float] = (0.0, 1.0),
) -> None:
    """(D, H, W) voxels clipped to `bounds` and scaled to `interval` into `out`; its low end where the bounds are equal.

    `values` is `table_range(region)`, or of a volume that holds the region.
    """
    if bounds.high <= bounds.low:
        out[...] = interval[0]
    elif values is not None:
        table = _unit(_all(values), bounds, interval).astype(np.float16)
        box = box_of(region != 0)
        if region.size > region[box].size:
            out[...] = table[values.index(0)]
        for index, section in zip(_indices(region[box], values.start), out[box], strict=True):
            # "clip" spares the buffering that the default needs in order to raise; every index is inside.
            section[...] = np.take(table, index, mode="clip")
    else:
        for source, section in zip(region, out, strict=True):
            section[...] = _unit(source.astype(np.float64), bounds, interval)


def moments(counted: NDArray) -> Bounds:
    """Mean and standard deviation of these voxels; (0, 0) where there is none."""
    values = counted.astype(np.float64)
    return Bounds(float(values.mean()), float(values.std())) if values.size else Bounds(0.0, 0.0)


def standardise(
    voxels: NDArray, moment: Bounds, inside: NDArray[np.bool_], values: range | None, out: NDArray[np.float16]
) -> None:
    """The `voxels` that a (D, H, W) volume has `inside`, as z-scores into `out`; 0 elsewhere, and without deviation.

    `values` is `table_range(voxels)`, or of a volume that holds them.
    """
    out[...] = 0
    if moment.high <= 0:
        return
    if values is None:
        out[inside] = (voxels.astype(np.float64) - moment.low) / moment.high
    else:
        table = ((_all(values) - moment.low) / moment.high).astype(np.float16)
        (index,) = _indices(voxels[None], values.start)
        out[inside] = np.take(table, index, mode="clip")


def _all(values: range) -> NDArray[np.float64]:
    return np.arange(values.start, values.stop, dtype=np.float64)


def _unit(values: NDArray[np.float64], bounds: Bounds, interval: tuple[float, float]) -> NDArray[np.float64]:
    """Clipped before scaling, so that an outlier of 1e300 cannot overflow."""
    unit = (np.clip(values, bounds.low, bounds.high) - bounds.low) / (bounds.high - bounds.low)
    low, high = interval
    return unit if (low, high) == (0, 1) else low + unit * (high - low)


def _indices(region: NDArray, first: int) -> Iterator[NDArray[np.intp]]:
    """One slice after another, as rows of a table whose first entry is for the value `first`."""
    for section in region:
        index = section.astype(np.intp)
        if first != 0:
            index -= first
        yield index


def _interpolate(ends: NDArray[np.int64], total: int, percentile: float, first: int) -> float:
    """NumPy's linear percentile, step by step as NumPy rounds it, from a cumulated histogram."""
    position = (total - 1) * (percentile / 100)
    below = int(np.floor(position))
    ranks = np.array([below, min(below + 1, total - 1)])
    left, right = (float(v) for v in np.searchsorted(ends, ranks, side="right") + first)
    step = position - below
    return right - (right - left) * (1 - step) if step >= 0.5 else left + (right - left) * step
