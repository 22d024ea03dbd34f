"""A case, its place in space, and its prepared arrays.

Every array here is (D, H, W) = (z, y, x): the axes of the file in reverse, so that a NIfTI volume is a view and an
axial slice is contiguous. What is prepared was turned to LPS unless its preparation says otherwise; see `Geometry`
(geometry.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.geometry import Geometry as Geometry
from segan_pl.data.geometry import Shape as Shape
from segan_pl.data.scan import Scan

_ALL = slice(None)
# Of BraTS: the default, and first in every order; any other name is a modality too.
MODALITIES = ("t1", "t1ce", "t2", "flair")
# In pictures; most of a tumour is seen in the first.
PREFERRED = ("flair", "t2", "t1ce", "t1")
# Of files' first voxels, along each axis: programs round origins to a few decimals.
ORIGIN_TOLERANCE_MM = 0.01
# In place of a channel's row: the case lacks that modality.
ABSENT = -1
# What becomes of a case with NaN or Inf voxels: none, or zeros in their place, with a note.
Nonfinite = Literal["refuse", "zero"]


class CaseError(ValueError):
    """Input from outside that cannot be used; one line: the case, what was found, what was expected, what to do."""


def ordered(modalities: Iterable[str]) -> tuple[str, ...]:
    """Each modality once: those of BraTS in their usual order, then the others by name."""
    held = set(modalities)
    return (*(one for one in MODALITIES if one in held), *sorted(held - set(MODALITIES)))


def pictured(modalities: Iterable[str]) -> str | None:
    """The modality that pictures show: the first of PREFERRED, else the first by name; None of none."""
    held = ordered(modalities)
    return next((one for one in (*PREFERRED, *held) if one in held), None)


@dataclass(frozen=True)
class Case:
    """One scan of one patient, as a layout found it; no voxel has been read.

    Attributes:
        name: Unique in the data set, e.g. "BraTS19_CBICA_AAB_1".
        patient: Scans of one patient share it; splits group by it.
        images: Modality, e.g. "t1", "flair" or "t1_ir", to file.
        mask: File with the native labels, or None.
        grade: "HGG", "LGG" or None where the data set does not say.
        institution: Site, or None where the data set does not say.
        channels: Modality to its volume in a 4-D file; a modality that is not here has a 3-D file of its own.
        extra: Further columns of the case table, as a manifest gave them, e.g. {"scanner": "Skyra"}.
        output: File name of a segmentation of this case in the data set's own naming, e.g. "VSD.Seg.54512.mha"; None
            means the name and .nii.gz.
        origin_tolerance_mm: How far apart the first voxels of its files may lie along each axis.
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
    origin_tolerance_mm: float = ORIGIN_TOLERANCE_MM

    def column(self, name: str) -> str | None:
        """The value of one of the case table's columns: "grade", "institution", "patient", or an extra one."""
        if name in ("grade", "institution", "patient"):
            value: str | None = getattr(self, name)
            return value
        return self.extra.get(name) or None


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
            the grid that was cropped (the native one unless resampled) need no second reading; empty without a mask.
        channels: Row of `image` for each of `modalities`, so that a subset in any order stays a memory map, and ABSENT
            for a modality that the case lacks; empty means the rows as they are.
        labels: Native labels that occur in the whole volume, resampled or not; empty where the case has no mask.
        scan: What its files were like.
        native: File of the mask on its own grid (`cache_entry.native_labels` reads it), or None without a mask.
    """

    name: str
    modalities: tuple[str, ...]
    image: NDArray[np.float16]
    label: NDArray[np.uint8] | None
    geometry: Geometry
    outside: Mapping[int, int] = field(default_factory=dict)
    channels: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    scan: Scan | None = None
    native: Path | None = None

    def __post_init__(self) -> None:
        if not self.channels:
            object.__setattr__(self, "channels", tuple(range(len(self.modalities))))

    def pixels(
        self, z: int | slice = _ALL, y: int | slice = _ALL, x: int | slice = _ALL, *, out: NDArray | None = None
    ) -> NDArray[np.float16]:
        """(M, *box) copy of the asked modalities inside a box, 0 for absent ones; only that box's pages are read."""
        zeros = np.zeros_like(self.image[0, z, y, x]) if ABSENT in self.channels else self.image[:0]
        return np.stack([self.image[c, z, y, x] if c != ABSENT else zeros for c in self.channels], out=out)
