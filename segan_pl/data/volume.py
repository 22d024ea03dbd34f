"""A case, its place in space, and its prepared arrays.

Every array here is (D, H, W) = (z, y, x): the axes of the file in reverse, so that a NIfTI volume is a view and an
axial slice is contiguous. Nothing is ever reoriented; the affine is the file's, for voxel indices (x, y, z).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]

_ALL = slice(None)
MODALITIES = ("t1", "t1ce", "t2", "flair")
ABSENT = -1  # in place of a channel's row: the case lacks that modality


class CaseError(ValueError):
    """Input from outside that cannot be used; one line: the case, what was found, what was expected, what to do."""


@dataclass(frozen=True)
class Case:
    """One scan of one patient, as a layout found it; no voxel has been read.

    Attributes:
        name: Unique in the data set, e.g. "BraTS19_CBICA_AAB_1".
        patient: Scans of one patient share it; splits group by it.
        images: Modality ("t1", "t1ce", "t2", "flair") to file.
        mask: File with the native labels, or None.
        grade: "HGG", "LGG" or None where the data set does not say.
        institution: Site, or None where the data set does not say.
        channels: Modality to its volume in a 4-D file; a modality that is not here has a 3-D file of its own.
        extra: Further columns of the case table, as a manifest gave them, e.g. {"scanner": "Skyra"}.
        output: File name of a segmentation of this case in the data set's own naming, e.g. "VSD.Seg.54512.mha"; None
            means the name and .nii.gz.
    """

    name: str
    patient: str
    images: Mapping[str, Path]
    mask: Path | None = None
    grade: str | None = None
    institution: str | None = None
    channels: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None

    def column(self, name: str) -> str | None:
        """The value of one of the case table's columns: "grade", "institution", "patient", or an extra one."""
        if name in ("grade", "institution", "patient"):
            value: str | None = getattr(self, name)
            return value
        return self.extra.get(name) or None


@dataclass(frozen=True)
class Geometry:
    """Where a prepared volume lies in its native grid: a crop, zero padding, or both, one axis at a time.

    Attributes:
        native: Native shape (D, H, W), voxels.
        start: Native index of the first prepared voxel; negative where the prepared volume begins with padding.
        shape: Prepared shape (D, H, W), voxels.
        affine: The native affine, 4 rows of 4, voxel (x, y, z) to mm.
    """

    native: Shape
    start: Shape
    shape: Shape
    affine: tuple[tuple[float, ...], ...] = field(default=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))

    def _overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The shared box, as slices of the native and of the prepared grid."""
        first = [max(0, s) for s in self.start]
        last = [max(f, min(n, s + p)) for f, n, s, p in zip(first, self.native, self.start, self.shape, strict=True)]
        native = tuple(slice(f, e) for f, e in zip(first, last, strict=True))
        prepared = tuple(slice(f - s, e - s) for f, e, s in zip(first, last, self.start, strict=True))
        return native, prepared

    @property
    def native_box(self) -> tuple[slice, ...]:
        """The part of the native grid that the prepared volume holds."""
        return self._overlap()[0]

    @property
    def real_box(self) -> tuple[slice, ...]:
        """The part of the prepared grid that is not padding."""
        return self._overlap()[1]

    def crop(self, native: NDArray, fill: float = 0) -> NDArray:
        """Native (..., D, H, W) to prepared (..., D, H, W), `fill` where the prepared volume is padding."""
        if native.shape[-3:] != self.native:
            raise ValueError(f"native array has shape {native.shape[-3:]}, the geometry says {self.native}")
        source, place = self._overlap()
        if self.start == (0, 0, 0) and self.shape == self.native:
            return native
        out = np.full((*native.shape[:-3], *self.shape), fill, native.dtype)
        out[_last_axes(place)] = native[_last_axes(source)]
        return out

    def restore(self, prepared: NDArray, fill: float = 0) -> NDArray:
        """Prepared (..., D, H, W) to native (..., D, H, W), `fill` outside the crop; exact where they overlap."""
        if prepared.shape[-3:] != self.shape:
            raise ValueError(f"prepared array has shape {prepared.shape[-3:]}, the geometry says {self.shape}")
        place, source = self._overlap()
        out = np.full((*prepared.shape[:-3], *self.native), fill, prepared.dtype)
        out[_last_axes(place)] = prepared[_last_axes(source)]
        return out


def _last_axes(box: tuple[slice, ...]) -> tuple[Any, ...]:
    return (..., *box)


@dataclass(frozen=True)
class PreparedCase:
    """One case as the cache holds it: memory-mapped arrays and what is needed to go back to the native grid.

    Attributes:
        name: The case's name.
        modalities: The modalities that were asked for, in that order.
        image: (K, D, H, W) float16, prepared intensities of all modalities that the case has; see `channels`.
        label: (D, H, W) uint8 native labels, or None where the case has no mask.
        geometry: Way back to the native grid.
        outside: Native label to the number of its voxels that the crop left out (label 0 included), so that scores on
            the native grid need no second reading; empty where the case has no mask.
        channels: Row of `image` for each of `modalities`, so that a subset in any order stays a memory map, and ABSENT
            for a modality that the case lacks; empty means the rows as they are.
        labels: Native labels that occur in the whole native volume; empty where the case has no mask.
    """

    name: str
    modalities: tuple[str, ...]
    image: NDArray[np.float16]
    label: NDArray[np.uint8] | None
    geometry: Geometry
    outside: Mapping[int, int] = field(default_factory=dict)
    channels: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.channels:
            object.__setattr__(self, "channels", tuple(range(len(self.modalities))))

    def pixels(
        self, z: int | slice = _ALL, y: int | slice = _ALL, x: int | slice = _ALL, *, out: NDArray | None = None
    ) -> NDArray[np.float16]:
        """(M, *box) copy of the asked modalities inside a box, 0 for absent ones; only that box's pages are read."""
        zeros = np.zeros_like(self.image[0, z, y, x]) if ABSENT in self.channels else self.image[:0]
        return np.stack([self.image[c, z, y, x] if c != ABSENT else zeros for c in self.channels], out=out)
