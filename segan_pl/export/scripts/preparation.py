"""From volumes to the network's input: turned, resampled, cropped and scaled as in training.

Arrays are (D, H, W) = (z, y, x), in reverse of how NIfTI names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}


@dataclass(frozen=True)
class Place:
    """Where a prepared volume lies in its file.

    Attributes:
        native: (D, H, W) of the file.
        affine: (4, 4) of the file, voxel (x, y, z) to mm.
        order: The file's axis that each axis of the turned volume is.
        flips: Whether each axis runs the other way.
        grid: Shape of the grid that is cropped.
        step: File voxels from one voxel of the grid to the next; None where nothing is resampled.
        start: Of the crop in the grid; negative where it begins with padding.
        shape: Of the crop.
    """

    native: tuple[int, ...]
    affine: NDArray[np.float64]
    order: tuple[int, ...]
    flips: tuple[bool, ...]
    grid: tuple[int, ...]
    step: tuple[float, ...] | None
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def turned(self) -> tuple[int, ...]:
        """Shape of the file's volume after its axes were turned."""
        return tuple(self.native[axis] for axis in self.order)

    @property
    def first(self) -> tuple[float, ...]:
        """Where the grid's first voxel lies, so that the centres of grid and volume are one."""
        sides = zip(self.turned, self.grid, self.step or (1.0, 1.0, 1.0), strict=True)
        return tuple((have - 1 - (new - 1) * step) / 2 for have, new, step in sides)

    def boxes(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What grid and crop share, as slices of either."""
        spans = [
            (max(0, start), max(max(0, start), min(side, start + size)))
            for start, side, size in zip(self.start, self.grid, self.shape, strict=True)
        ]
        inside = tuple(slice(low, high) for low, high in spans)
        return inside, tuple(slice(low - s, high - s) for (low, high), s in zip(spans, self.start, strict=True))

    def to_grid(self, native: NDArray[Any], interpolation: str) -> NDArray[Any]:
        """A file's (D, H, W) on the grid that is cropped."""
        turned = native.transpose(self.order)[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]
        return turned if self.step is None else _resampled(turned, self.grid, self.first, self.step, interpolation)

    def to_native(self, prepared: NDArray[Any], interpolation: str) -> NDArray[Any]:
        """A prepared (D, H, W) on the file's grid, 0 outside the crop."""
        inside, here = self.boxes()
        grid = np.zeros(self.grid, prepared.dtype)
        grid[inside] = prepared[here]
        if self.step is not None:
            first = tuple(-start / step for start, step in zip(self.first, self.step, strict=True))
            grid = _resampled(grid, self.turned, first, tuple(1 / step for step in self.step), interpolation)
        grid = grid[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]
        return np.ascontiguousarray(grid.transpose(np.argsort(self.order)))


class PrepareCased(Transform):
    """Turns, resamples, crops and scales "volumes" to "image" (M, D, H, W); "place" is the way back.

    Args:
        orientation: Where x, y and z lead, e.g. "LPS"; None keeps the file's axes.
        spacing_mm: (x, y, z) to resample to; None keeps the file's.
        interpolation: "nearest", "linear" or "cubic".
        crop: (D, H, W) from the centre; "nonzero" or "scaled" for the box of what is not 0 before or after scaling;
            None for the whole.
        margin: Voxels below and above that such a box gains.
        scaling: "percentile" to `interval`, "zscore" inside the brain, or "none".
        percentiles: Low and high.
        statistics_mask: Which voxels count: those of the "crop", the "nonzero" or "positive" ones of it, the "volume".
        interval: Of percentiles.
    """

    def __init__(
        self,
        *,
        orientation: str | None,
        spacing_mm: Sequence[float] | None,
        interpolation: str,
        crop: Sequence[int] | str | None,
        margin: Sequence[int],
        scaling: str,
        percentiles: Sequence[float],
        statistics_mask: str,
        interval: Sequence[float],
    ) -> None:
        self.orientation, self.spacing_mm, self.interpolation = orientation, spacing_mm, interpolation
        self.crop, self.margin, self.scaling, self.percentiles = crop, margin, scaling, percentiles
        self.statistics_mask, self.interval = statistics_mask, interval

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What `ReadCased` gave to the network's input, rounded to float16 as in training."""
        volumes: list[NDArray[Any]] = data["volumes"]
        place = self._grid(volumes[0].shape, data["affine"])
        brain = place.to_grid(np.logical_or.reduce([volume != 0 for volume in volumes]), "nearest")
        if self.crop == "nonzero":
            place = self._boxed(place, brain)
        elif isinstance(self.crop, Sequence) and not isinstance(self.crop, str):
            # int() cuts towards zero: 155 to 128 starts at 13
            start = tuple(int(n / 2 - c / 2) for n, c in zip(place.grid, self.crop, strict=True))
            place = _moved(place, start, tuple(self.crop))
        inside, here = place.boxes()
        background = self.interval[0] if self.scaling == "percentile" else 0.0
        image = np.full((len(volumes), *place.shape), background, np.float16)
        for row, volume in zip(image, volumes, strict=True):
            whole = place.to_grid(volume, self.interpolation)
            if place.step is not None and self.interpolation == "cubic":
                whole[~place.to_grid(volume != 0, "nearest")] = 0  # cubic interpolation rings
            if whole[inside].size:
                row[here] = self._scaled(whole, inside, brain)
        if self.crop == "scaled":
            place = self._boxed(place, np.logical_or.reduce(image != 0))
            image = np.ascontiguousarray(image[:, *place.boxes()[0]])
        return {**data, "image": torch.from_numpy(image), "place": place}

    def _grid(self, native: tuple[int, ...], affine: NDArray[np.float64]) -> Place:
        """The whole grid, not cropped yet."""
        order, flips = (0, 1, 2), (False, False, False)
        if self.orientation is not None:
            axes = io_orientation(affine)
            wanted = [("RAS".find(c), 1) if c in "RAS" else ("LPI".find(c), -1) for c in reversed(self.orientation)]
            voxels = [int(np.flatnonzero(axes[:, 0] == world)[0]) for world, _ in wanted]
            order = tuple(2 - voxel for voxel in voxels)  # type: ignore[assignment]
            flips = tuple(bool(axes[v, 1] != sign) for v, (_, sign) in zip(voxels, wanted, strict=True))  # type: ignore[assignment]
        turned = tuple(native[axis] for axis in order)
        whole = Place(native, affine, order, flips, turned, None, (0, 0, 0), turned)
        if self.spacing_mm is None:
            return whole
        sizes = np.sqrt((affine[:3, :3] ** 2).sum(0))[::-1]
        step = tuple(float(new / sizes[axis]) for new, axis in zip(self.spacing_mm[::-1], order, strict=True))
        if np.allclose(step, 1, rtol=0, atol=1e-4):
            return whole
        grid = tuple(max(1, round(n / s)) for n, s in zip(turned, step, strict=True))
        return Place(native, affine, order, flips, grid, step, (0, 0, 0), grid)

    def _boxed(self, place: Place, filled: NDArray[np.bool_]) -> Place:
        """Cut to the box of what is true, with the margin; the whole where nothing is."""
        if not filled.any():
            return place
        spans = [np.flatnonzero(filled.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        low = [max(0, int(span[0]) - self.margin[0]) for span in spans]
        high = [min(n, int(span[-1]) + 1 + self.margin[1]) for span, n in zip(spans, filled.shape, strict=True)]
        return _moved(place, tuple(low), tuple(h - f for f, h in zip(low, high, strict=True)))

    def _scaled(self, whole: NDArray[Any], inside: tuple[slice, ...], brain: NDArray[np.bool_]) -> NDArray[Any]:
        """The crop of one modality, scaled, in float64; its own values where the scaling is "none"."""
        region = whole[inside]
        if self.scaling == "none":
            return region
        counted = (whole if self.statistics_mask == "volume" else region).astype(np.float64)
        region = region.astype(np.float64)
        if self.scaling == "percentile":
            chosen = {"nonzero": counted != 0, "positive": counted > 0}.get(self.statistics_mask)
            counted = counted if chosen is None else counted[chosen]
            bottom, top = np.percentile(counted, tuple(self.percentiles)) if counted.size else (0.0, 0.0)
            low, high = self.interval
            if top <= bottom:
                return np.full(region.shape, low)
            unit = (np.clip(region, bottom, top) - bottom) / (top - bottom)
            return unit if (low, high) == (0, 1) else low + unit * (high - low)
        mask = brain[inside]
        chosen = {"nonzero": mask & (region != 0), "positive": mask & (region > 0), "volume": brain}
        values = counted[chosen.get(self.statistics_mask, mask)]
        mean, deviation = (values.mean(), values.std()) if values.size else (0.0, 0.0)
        return np.where(mask, (region - mean) / deviation, 0) if deviation > 0 else np.zeros_like(region)


def _moved(place: Place, start: tuple[int, ...], shape: tuple[int, ...]) -> Place:
    return Place(place.native, place.affine, place.order, place.flips, place.grid, place.step, start, shape)


def _resampled(
    array: NDArray[Any], shape: tuple[int, ...], first: tuple[float, ...], step: tuple[float, ...], interpolation: str
) -> NDArray[Any]:
    """(D, H, W) at `first` + index * `step`; beyond the border, the border's value."""
    dtype = array.dtype if interpolation == "nearest" else np.result_type(array.dtype, np.float32)
    out = np.empty(shape, dtype)
    source = array.astype(dtype, copy=False)
    ndimage.affine_transform(source, step, first, shape, out, ORDERS[interpolation], "nearest")
    return out
