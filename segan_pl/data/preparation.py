"""What is done to a case once, before training: crop or pad, and scale; a frozen, versioned value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.checks import MASK, duplicates, labels_of, read_case
from segan_pl.data.io import Volume
from segan_pl.data.scaling import Bounds, moments, percentile_bounds, scale_between, standardise, table_range
from segan_pl.data.volume import Case, CaseError, Geometry, Shape

FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Preparation:
    """How native volumes become network input; the defaults are SegAN-CAT's (section IV; specs 3.3).

    Attributes:
        crop: (D, H, W) of a centre crop, with zero padding where a volume is smaller; "nonzero" for the box that
            holds every voxel that is not 0 in some modality; None for the whole volume.
        scaling: "percentile" clips each modality to `percentiles` and scales it to [0, 1]; "zscore" is mean 0 and
            deviation 1 inside the brain (where any modality is not 0) and 0 outside; "none" keeps the values.
        percentiles: Of the voxels that `over` names, linearly interpolated, 0 to 100.
        over: Which voxels the percentiles, or mean and deviation, count: those of the crop, the non-zero ones of the
            crop, or the whole native volume. Padding never counts.
        version: Of this arithmetic; a change of results changes it, and with it every cache entry's key.
    """

    crop: tuple[int, int, int] | Literal["nonzero"] | None = (128, 180, 180)
    scaling: Literal["percentile", "zscore", "none"] = "percentile"
    percentiles: tuple[float, float] = (2.0, 98.0)
    over: Literal["crop", "nonzero", "volume"] = "crop"
    version: int = 1

    def __post_init__(self) -> None:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles are {self.percentiles}; expected 0 <= low < high <= 100")
        if isinstance(self.crop, tuple | list) and min(self.crop) < 1:
            raise ValueError(f"crop is {self.crop}; expected positive sizes (D, H, W)")
        if self.version != 1:
            raise ValueError(f"preparation version {self.version}; this release knows 1")

    @property
    def needs_brain(self) -> bool:
        """Whether all modalities must be read before the first can be prepared."""
        return self.scaling == "zscore" or self.crop == "nonzero"

    def as_dict(self) -> dict[str, object]:
        """The fields as JSON holds them; equal for equal preparations, however they were typed."""
        crop = [int(n) for n in self.crop] if isinstance(self.crop, tuple | list) else self.crop
        return {**asdict(self), "crop": crop, "percentiles": [float(p) for p in self.percentiles]}

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
        labels: Native label to its voxels in the whole native volume; empty without a mask.
        outside: The same, of the voxels that the crop left out.
        bounds: Modality to what its scaling was.
        digests: Modality, or "mask", to the digest of its file.
        notes: What a user should know: assumed geometry, a constant modality, one file used twice.
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


def prepare(case: Case, preparation: Preparation) -> Prepared:
    """Read, check, crop and scale one case, a file at a time.

    Raises:
        CaseError: A file cannot be used, files disagree, or a value does not fit float16 (scaling "none" only).
    """
    parts: Iterable[tuple[str, Volume]] = read_case(case)
    brain = None
    if preparation.needs_brain:  # all modalities at once
        parts = list(parts)
        brain = np.logical_or.reduce([volume.array != 0 for part, volume in parts if part != MASK])
    work: _Work | None = None
    for part, volume in parts:
        work = work or _Work(case.name, preparation, _geometry(volume, preparation, brain), len(case.images), brain)
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
        self.image = (np.zeros if padded else np.empty)((channels, *geometry.shape), np.float16)
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
            self.labels, self.outside = _count(label, self.geometry)
            return
        out = self.image[len(self.bounds)][self.geometry.real_box]
        self.bounds[part] = bounds = _scale(volume.array, self.geometry, self.preparation, self.brain, out)
        if self.preparation.scaling == "none" and max(map(abs, bounds)) > FLOAT16_MAX:
            raise CaseError(
                f"{self.name}: {part} has values from {bounds.low:g} to {bounds.high:g}, expected at most "
                f"{FLOAT16_MAX:g} (float16); choose another scaling than 'none'"
            )

    def finish(self) -> Prepared:
        """All of it, with what a user should know."""
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
        became = "" if self.preparation.scaling == "none" else ", all 0 now"
        return [f"{part} has no contrast over the {self.preparation.over}{became}" for part in flat]


def _geometry(grid: Volume, preparation: Preparation, brain: NDArray[np.bool_] | None) -> Geometry:
    """Where the prepared volume lies in the native one."""
    native = grid.shape
    affine = tuple(tuple(float(v) for v in row) for row in grid.affine)
    if preparation.crop is None:
        return Geometry(native, (0, 0, 0), native, affine)
    if preparation.crop == "nonzero":
        assert brain is not None
        start, shape = _bounding_box(brain)
        return Geometry(native, start, shape, affine)
    # int() cuts towards zero, as the authors' code does: 155 to 128 starts at 13.
    z, y, x = (int(n / 2 - c / 2) for n, c in zip(native, preparation.crop, strict=True))
    depth, height, width = preparation.crop
    return Geometry(native, (z, y, x), (depth, height, width), affine)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[Shape, Shape]:
    """Start and shape of the smallest box around what is true; of everything where nothing is."""
    if not mask.any():
        depth, height, width = mask.shape
        return (0, 0, 0), (depth, height, width)
    spans = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    z, y, x = ((int(span[0]), int(span[-1]) - int(span[0]) + 1) for span in spans)
    return (z[0], y[0], x[0]), (z[1], y[1], x[1])


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
        bounds = percentile_bounds(counted, preparation.percentiles, values, nonzero=preparation.over == "nonzero")
        scale_between(region, bounds, values, out)
    elif preparation.scaling == "zscore" and brain is not None:
        inside = brain[geometry.native_box]
        where = {"crop": inside, "nonzero": inside & (region != 0), "volume": brain}[preparation.over]
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
