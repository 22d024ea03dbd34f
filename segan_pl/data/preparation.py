"""What is done to a case once, before training: orient, resample, crop or pad, and scale; a frozen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.checks import MASK, duplicates, labels_of, read_case
from segan_pl.data.framing import bounding_box, cropped, require_frame
from segan_pl.data.geometry import Interpolation
from segan_pl.data.io import Nonfinite, Volume
from segan_pl.data.scaling import Bounds, moments, percentile_bounds, scale_between, standardise, table_range
from segan_pl.data.volume import Case, CaseError, Geometry

FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Preparation:
    """How native volumes become network input; the defaults are SegAN-CAT's (section IV; specs 3.3).

    Attributes:
        crop: (D, H, W) of a centre crop, with zero padding where a volume is smaller; "nonzero" for the box that
            holds every voxel that is not 0 in some modality, "scaled" for the same after scaling; None for the whole.
        scaling: "percentile" clips each modality to `percentiles` and scales it to `interval`; "zscore" is mean 0 and
            deviation 1 inside the brain (where any modality is not 0) and 0 outside; "none" keeps the values.
        percentiles: Of the voxels that `over` names, linearly interpolated, 0 to 100.
        over: Which voxels the percentiles, or mean and deviation, count: those of the crop, the non-zero ones of the
            crop, the positive ones of the crop, or the whole volume. Padding never counts.
        interval: What "percentile" scales to; a constant modality and padding become its low end.
        margin: Voxels (below, above) that a "nonzero" or "scaled" box gains on each axis, as far as the volume goes.
        spacing_mm: (x, y, z) to resample to, after orienting and before all else; None keeps the file's.
        interpolation: Of images when resampling; masks take the nearest voxel, and so does the brain. Label counts are
            of the resampled grid. "cubic" rings, so there a voxel stays 0 whose nearest native voxel is 0.
        orientation: Where x, y and z lead, e.g. "LPS"; None keeps the file's axes.
        nonfinite: NaN and Inf voxels of an image: "refuse" the case, or make them "zero", with a note.
        version: Of this arithmetic; a change of results changes it, and with it every cache entry's key.
    """

    crop: tuple[int, int, int] | Literal["nonzero", "scaled"] | None = (128, 180, 180)
    scaling: Literal["percentile", "zscore", "none"] = "percentile"
    percentiles: tuple[float, float] = (2.0, 98.0)
    over: Literal["crop", "nonzero", "positive", "volume"] = "crop"
    interval: tuple[float, float] = (0.0, 1.0)
    margin: tuple[int, int] = (0, 0)
    spacing_mm: tuple[float, float, float] | None = None
    interpolation: Interpolation = "linear"
    orientation: str | None = None
    nonfinite: Nonfinite = "refuse"
    version: int = 1

    def __post_init__(self) -> None:
        self._require_scaling()
        self._require_box()
        self._require_grid()
        if self.version != 1:
            raise ValueError(f"preparation version {self.version}; this release knows 1")

    def _require_scaling(self) -> None:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles are {self.percentiles}; expected 0 <= low < high <= 100")
        if self.scaling != "percentile" and tuple(self.interval) != (0, 1):
            raise ValueError(
                f"interval is {self.interval}; expected it with scaling 'percentile' only, not {self.scaling!r}"
            )
        if not -FLOAT16_MAX <= self.interval[0] < self.interval[1] <= FLOAT16_MAX:
            raise ValueError(f"interval is {self.interval}; expected low < high")

    def _require_grid(self) -> None:
        if self.spacing_mm is not None and not (min(self.spacing_mm) > 0 and max(self.spacing_mm) < np.inf):
            raise ValueError(f"spacing_mm is {self.spacing_mm}; expected positive sizes (x, y, z)")
        axes = [{"L": "R", "P": "A", "I": "S"}.get(letter, letter) for letter in self.orientation or "RAS"]
        if sorted(axes) != ["A", "R", "S"]:
            raise ValueError(
                f"orientation is {self.orientation!r}; expected one letter each of L/R, P/A, I/S, as 'LPS'"
            )

    def _require_box(self) -> None:
        """Refuse a margin without a box, and a box after scaling where it could not be found."""
        if isinstance(self.crop, tuple | list) and min(self.crop) < 1:
            raise ValueError(f"crop is {self.crop}; expected positive sizes (D, H, W)")
        boxed = self.crop in ("nonzero", "scaled")
        if min(self.margin) < 0 or (max(self.margin) > 0 and not boxed):
            raise ValueError(f"margin is {self.margin}; expected voxels >= 0, with crop 'nonzero' or 'scaled' only")
        if self.crop == "scaled" and (self.over == "crop" or (self.scaling == "percentile" and self.interval[0] != 0)):
            raise ValueError(
                "crop 'scaled' is found after scaling; expected another `over` than 'crop', interval from 0"
            )

    @property
    def background(self) -> float:
        """The prepared value of padding."""
        return float(self.interval[0]) if self.scaling == "percentile" else 0.0

    @property
    def needs_brain(self) -> bool:
        """Whether all modalities must be read before the first can be prepared."""
        return self.scaling == "zscore" or self.crop == "nonzero"

    def as_dict(self) -> dict[str, object]:
        """The fields as JSON holds them; equal for equal preparations, however they were typed."""
        crop = [int(n) for n in self.crop] if isinstance(self.crop, tuple | list) else self.crop
        spacing = None if self.spacing_mm is None else [float(size) for size in self.spacing_mm]
        floats = {name: [float(p) for p in getattr(self, name)] for name in ("percentiles", "interval")}
        margin = [int(n) for n in self.margin]
        return {**asdict(self), "crop": crop, "margin": margin, "spacing_mm": spacing, **floats}

    def digest(self) -> str:
        """12 hexadecimal digits that differ whenever a field does."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """One case, prepared, in memory.

    Attributes:
        modalities: Names of the first axis of `image`.
        image: (M, D, H, W) float16.
        label: (D, H, W) uint8 native labels, 0 in the padding, or None.
        geometry: Way back to the native grid.
        labels: Native label to its voxels in the whole volume, oriented and resampled; empty without a mask.
        outside: The same, of the voxels that the crop left out.
        bounds: Modality to what its scaling was.
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
    digests: Mapping[str, str]
    notes: tuple[str, ...]
    absent: tuple[str, ...] = ()


def prepare(case: Case, preparation: Preparation) -> Prepared:
    """Read, check, crop and scale one case, a file at a time.

    Raises:
        CaseError: A file cannot be used, files disagree, or a value does not fit float16 (scaling "none" only).
    """
    parts: Iterable[tuple[str, Volume]] = read_case(case, nonfinite=preparation.nonfinite)
    brain = None
    if preparation.needs_brain:  # all modalities at once
        parts = list(parts)
        filled = reduce(np.logical_or, (volume.array != 0 for part, volume in parts if part != MASK))
        brain = _frame(case.name, parts[0][1], preparation).framed(filled)
    work: _Work | None = None
    for part, volume in parts:
        if work is None:
            geometry = cropped(_frame(case.name, volume, preparation), preparation, brain)
            work = _Work(case.name, preparation, geometry, len(case.images), brain)
        work.add(part, volume)
        del volume
    assert work is not None  # read_case yields at least one image
    return work.finish()


def _frame(case: str, grid: Volume, preparation: Preparation) -> Geometry:
    return require_frame(case, grid.shape, grid.affine, preparation)


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
        self.labels: dict[int, int] = {}
        self.outside: dict[int, int] = {}
        self.bounds: dict[str, Bounds] = {}
        self.digests: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, part: str, volume: Volume) -> None:
        """Take one file's voxels."""
        self.digests[part] = volume.digest
        self.notes += [f"{part}: {note}" for note in volume.notes]
        if part == MASK:
            label = labels_of(volume, self.name)
            self.label = np.ascontiguousarray(self.geometry.crop(label))
            self.labels, self.outside = _count(self.geometry.framed(label), self.geometry)
            return
        out = self.image[len(self.bounds)][self.geometry.real_box]
        self.bounds[part] = bounds = _scale(self._framed(volume), self.geometry, self.preparation, self.brain, out)
        if self.preparation.scaling == "none" and max(map(abs, bounds)) > FLOAT16_MAX:
            raise CaseError(
                f"{self.name}: {part} has values from {bounds.low:g} to {bounds.high:g}, expected at most "
                f"{FLOAT16_MAX:g} (float16); choose another scaling than 'none'"
            )

    def _framed(self, volume: Volume) -> NDArray:
        """An image on the grid that is cropped; the file's voxels unless it is resampled."""
        if not self.geometry.resampled:
            return self.geometry.framed(volume.array)
        image = self.geometry.framed(volume.array, self.preparation.interpolation)
        if self.preparation.interpolation == "cubic":
            image[~self.geometry.framed(volume.array != 0)] = 0
        return image

    def _crop_scaled(self) -> None:
        """Cut everything to the box of what is not 0 after scaling."""
        start, shape = bounding_box(np.logical_or.reduce(self.image != 0), self.preparation.margin)
        self.geometry = replace(self.geometry, start=start, shape=shape)
        box = self.geometry.native_box
        self.image = np.ascontiguousarray(self.image[:, *box])
        if self.label is not None:
            self.labels, self.outside = _count(self.label, self.geometry)
            self.label = np.ascontiguousarray(self.label[box])

    def finish(self) -> Prepared:
        """All of it, with what a user should know."""
        if self.preparation.crop == "scaled":
            self._crop_scaled()
        notes = [*self.notes, *duplicates(self.digests), *self._flat()]
        if self.label is not None and set(self.labels) <= {0}:
            notes.append("the mask is all background")
        return Prepared(
            modalities=tuple(self.bounds),
            image=self.image,
            label=self.label,
            geometry=self.geometry,
            labels=self.labels,
            outside=self.outside,
            bounds=self.bounds,
            digests=self.digests,
            notes=tuple(f"{self.name}: {note}" for note in notes),
        )

    def _flat(self) -> list[str]:
        """A note for each modality without contrast."""
        zscore = self.preparation.scaling == "zscore"
        flat = [part for part, (low, high) in self.bounds.items() if high <= (0 if zscore else low)]
        became = "" if self.preparation.scaling == "none" else f", all {self.preparation.background:g} now"
        return [f"{part} has no contrast over the {self.preparation.over}{became}" for part in flat]


def _scale(
    native: NDArray, geometry: Geometry, preparation: Preparation, brain: NDArray[np.bool_] | None, out: NDArray
) -> Bounds:
    """Scale the native volume's crop into `out`; the bounds that it took."""
    region = native[geometry.native_box]
    counted = native if preparation.over == "volume" else region
    if region.size == 0:
        return Bounds(0.0, 0.0)
    if preparation.scaling == "percentile":
        values = table_range(counted)
        nonzero, positive = preparation.over == "nonzero", preparation.over == "positive"
        bounds = percentile_bounds(counted, preparation.percentiles, values, nonzero=nonzero, positive=positive)
        scale_between(region, bounds, values, out, preparation.interval)
    elif preparation.scaling == "zscore" and brain is not None:
        inside = brain[geometry.native_box]
        where = {"nonzero": inside & (region != 0), "positive": inside & (region > 0), "volume": brain}.get(
            preparation.over, inside
        )
        bounds = moments(counted, where)
        standardise(region, bounds, inside, out)
    else:
        bounds = Bounds(float(region.min()), float(region.max()))
        if max(map(abs, bounds)) <= FLOAT16_MAX:
            out[...] = region
    return bounds


def _count(label: NDArray[np.uint8], geometry: Geometry) -> tuple[dict[int, int], dict[int, int]]:
    """Native label to voxels: in the whole volume, and outside the crop."""
    total, inside = _histogram(label), _histogram(label[geometry.native_box])
    return total, {value: count - inside.get(value, 0) for value, count in total.items()}


def _histogram(label: NDArray[np.uint8]) -> dict[int, int]:
    """Label to voxels; background is what remains, since counting it one by one would cost most of the time."""
    counts = np.bincount(label[label != 0])
    return {0: label.size - int(counts.sum()), **{int(v): int(counts[v]) for v in np.flatnonzero(counts)}}
