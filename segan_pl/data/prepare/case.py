"""One case, prepared in memory: read, checked, oriented, resampled, cropped or padded, and scaled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Case, CaseError, Geometry, Shape
from segan_pl.data.case_files import MASK, duplicates, labels_of, read_case
from segan_pl.data.check.voxels import label_counts, two_values
from segan_pl.data.io import Volume
from segan_pl.data.prepare.preparation import FLOAT16_MAX, Preparation
from segan_pl.data.prepare.scaling import (
    Bounds,
    box_of,
    moments,
    percentile_bounds,
    scale_between,
    standardise,
    table_range,
)
from segan_pl.data.scan import zero_share


@dataclass(frozen=True)
class Prepared:
    """One case, prepared, in memory.

    Attributes:
        modalities: Names of the first axis of `image`.
        image: (M, D, H, W) float16.
        label: (D, H, W) uint8 native labels, 0 in the padding, or None.
        native: (D, H, W) uint8 native labels on the native grid, as the file has them, or None.
        geometry: Way back to the native grid.
        labels: Native label to its voxels in the whole volume, oriented and resampled; empty without a mask.
        outside: The same, of the voxels that the crop left out.
        bounds: Modality to what its scaling was.
        zeros: Modality to the share of its file's voxels that are exactly 0.
        digests: Modality, or "mask", to the digest of its file.
        notes: What a user should know: assumed geometry, a constant modality, one file used twice.
        absent: Of the modalities, those that the case lacks; zeros in `image`.
    """

    modalities: tuple[str, ...]
    image: NDArray[np.float16]
    label: NDArray[np.uint8] | None
    geometry: Geometry
    labels: Mapping[int, int]
    outside: Mapping[int, int]
    bounds: Mapping[str, Bounds]
    zeros: Mapping[str, float]
    digests: Mapping[str, str]
    notes: tuple[str, ...]
    absent: tuple[str, ...] = ()
    native: NDArray[np.uint8] | None = None

    @property
    def there(self) -> list[bool]:
        """Which of the modalities the case has."""
        return [modality not in self.absent for modality in self.modalities]


def prepare(case: Case, preparation: Preparation, *, held: Mapping[str, Volume] | None = None) -> Prepared:
    """Read, check, crop and scale one case, a file at a time.

    Args:
        case: Its files.
        preparation: What is done to them.
        held: Modality to its volume where that is in memory; its file is not read.

    Raises:
        CaseError: A file cannot be used, files disagree, or a value does not fit float16 (scaling "none" only).
    """
    parts: Iterable[tuple[str, Volume]] = read_case(case, nonfinite=preparation.nonfinite, held=held)
    brain = None
    if preparation.scaling == "zscore" or preparation.crop == "nonzero":
        # All modalities must be read before the first can be prepared.
        parts = list(parts)
        filled = reduce(np.logical_or, (volume.array != 0 for part, volume in parts if part != MASK))
        grid = parts[0][1]
        target = preparation.target_grid(case.name, grid.shape, grid.affine)
        brain = np.ascontiguousarray(target.to_target_grid(filled))
    work: _Work | None = None
    for part, volume in parts:
        if work is None:
            target = preparation.target_grid(case.name, volume.shape, volume.affine)
            geometry = cropped(target, preparation, brain)
            work = _Work(case.name, preparation, geometry, len(case.images), brain)
        work.add(part, volume)
        del volume
    assert work is not None  # read_case yields at least one image
    return work.finish()


class _Work:
    """A case while its files come in: images in the order of their channels, the mask last."""

    def __init__(
        self, name: str, preparation: Preparation, geometry: Geometry, channels: int, brain: NDArray[np.bool_] | None
    ) -> None:
        self.name, self.preparation, self.geometry, self.brain = name, preparation, geometry, brain
        padded = geometry.real_box != tuple(slice(0, n) for n in geometry.shape)
        self.image = np.empty((channels, *geometry.shape), np.float16)
        if padded:
            self.image[...] = preparation.background
        self.label: NDArray[np.uint8] | None = None
        self.native: NDArray[np.uint8] | None = None
        self.labels: dict[int, int] = {}
        self.outside: dict[int, int] = {}
        self.bounds: dict[str, Bounds] = {}
        self.zeros: dict[str, float] = {}
        self.digests: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, part: str, volume: Volume) -> None:
        """Take one file's voxels."""
        self.digests[part] = volume.digest
        self.notes += [f"{part}: {note}" for note in volume.notes]
        if part == MASK:
            self.native = labels_of(volume, self.name)
            label = np.ascontiguousarray(self.geometry.to_target_grid(self.native))
            self.label = np.ascontiguousarray(self.geometry.boxed(label))
            self._count_labels(label)
            return
        self.zeros[part] = zero_share(volume.array)
        out = self.image[len(self.bounds)][self.geometry.real_box]
        image = self._on_target_grid(volume.array)
        self.bounds[part] = bounds = _scale(image, self.geometry, self.preparation, self.brain, out)
        if out.size and (found := two_values(out)):
            self.notes.append(f"{part} has only two values once prepared, {found[0]:g} and {found[1]:g}; is it a mask?")
        if self.preparation.scaling == "none" and max(map(abs, bounds)) > FLOAT16_MAX:
            raise CaseError(
                f"{self.name}: {part} has values from {bounds.low:g} to {bounds.high:g}, expected at most "
                f"{FLOAT16_MAX:g} (float16); choose another scaling than 'none'"
            )

    def _on_target_grid(self, native: NDArray) -> NDArray:
        """An image on the grid that is cropped; the file's own voxels unless axes are turned or it is resampled."""
        geometry, interpolation = self.geometry, self.preparation.interpolation
        if not geometry.resampled:
            # One copy along the new axes costs less than every later walk across the old ones.
            return np.ascontiguousarray(geometry.to_target_grid(native))
        image = geometry.to_target_grid(native, interpolation)
        if interpolation == "cubic":
            image[~geometry.to_target_grid(native != 0)] = 0
        return image

    def _count_labels(self, label: NDArray[np.uint8]) -> None:
        """Count a mask's labels on the target grid: in the whole of it, and outside the crop."""
        self.labels, inside = label_counts(label), label_counts(label[self.geometry.native_box])
        self.outside = {value: count - inside.get(value, 0) for value, count in self.labels.items()}

    def finish(self) -> Prepared:
        """All of it, with what a user should know."""
        if self.preparation.crop == "scaled":
            # bits but the sign's: NumPy compares float16 seven times slower
            filled = np.bitwise_or.reduce(self.image.view(np.uint16)) & 0x7FFF != 0
            start, shape = bounding_box(filled, self.preparation.margin)
            self.geometry = replace(self.geometry, start=start, shape=shape)
            box = self.geometry.native_box
            self.image = np.ascontiguousarray(self.image[:, *box])
            if self.label is not None:
                self._count_labels(self.label)
                self.label = np.ascontiguousarray(self.label[box])
        zscore = self.preparation.scaling == "zscore"
        flat = [part for part, (low, high) in self.bounds.items() if high <= (0 if zscore else low)]
        became = "" if self.preparation.scaling == "none" else f", all {self.preparation.background:g} now"
        over = f"no contrast over the {self.preparation.statistics_mask}{became}"
        notes = [*self.notes, *duplicates(self.digests), *(f"{part} has {over}" for part in flat)]
        if self.label is not None and set(self.labels) <= {0}:
            notes.append("the mask is all background")
        return Prepared(
            modalities=tuple(self.bounds),
            image=self.image,
            label=self.label,
            native=self.native,
            geometry=self.geometry,
            labels=self.labels,
            outside=self.outside,
            bounds=self.bounds,
            zeros=self.zeros,
            digests=self.digests,
            notes=tuple(f"{self.name}: {note}" for note in notes),
        )


def _scale(
    native: NDArray, geometry: Geometry, preparation: Preparation, brain: NDArray[np.bool_] | None, out: NDArray
) -> Bounds:
    """Scale the native volume's crop into `out`; the bounds that it took."""
    region = native[geometry.native_box]
    counted = native if preparation.statistics_mask == "volume" else region
    if region.size == 0:
        return Bounds(0.0, 0.0)
    if preparation.scaling == "percentile":
        values = table_range(counted)
        nonzero, positive = preparation.statistics_mask == "nonzero", preparation.statistics_mask == "positive"
        bounds = percentile_bounds(counted, preparation.percentiles, values, nonzero=nonzero, positive=positive)
        scale_between(region, bounds, values, out, preparation.interval)
    elif preparation.scaling == "zscore" and brain is not None:
        inside = brain[geometry.native_box]
        where = {"nonzero": inside & (region != 0), "positive": inside & (region > 0), "volume": brain}.get(
            preparation.statistics_mask, inside
        )
        voxels = region[inside]
        bounds = moments(voxels if where is inside else counted[where])
        standardise(voxels, bounds, inside, table_range(voxels), out)
    else:
        bounds = Bounds(float(region.min()), float(region.max()))
        if max(map(abs, bounds)) <= FLOAT16_MAX:
            out[...] = region
    return bounds


def cropped(target: Geometry, preparation: Preparation, brain: NDArray[np.bool_] | None) -> Geometry:
    """Where the prepared volume lies in the target grid.

    Args:
        target: Not cropped.
        preparation: Says how.
        brain: (D, H, W) of the target grid, where any modality is not 0; needed for crop "nonzero" alone.
    """
    # The box of "scaled" is found last.
    if preparation.crop is None or preparation.crop == "scaled":
        return target
    if preparation.crop == "nonzero":
        assert brain is not None
        start, shape = bounding_box(brain, preparation.margin)
        return replace(target, start=start, shape=shape)
    # int() cuts towards zero, as the authors' code does: 155 to 128 starts at 13.
    z, y, x = (int(n / 2 - c / 2) for n, c in zip(target.target_shape, preparation.crop, strict=True))
    depth, height, width = preparation.crop
    return replace(target, start=(z, y, x), shape=(depth, height, width))


def bounding_box(mask: NDArray[np.bool_], margin: tuple[int, int]) -> tuple[Shape, Shape]:
    """Start and shape of the smallest box around what is true, with a margin; of everything where nothing is."""
    box = box_of(mask)
    if box[0].stop == 0:
        depth, height, width = mask.shape
        return (0, 0, 0), (depth, height, width)
    below, above = margin
    first = [max(0, side.start - below) for side in box]
    last = [min(n, side.stop + above) for side, n in zip(box, mask.shape, strict=True)]
    z, y, x = ((f, e - f) for f, e in zip(first, last, strict=True))
    return (z[0], y[0], x[0]), (z[1], y[1], x[1])
