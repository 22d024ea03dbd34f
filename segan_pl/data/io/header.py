"""What a header says, whatever the format, and the checks that all formats share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Numpy kinds that a volume may have: integers and reals.
KINDS = "iuf"
UNITS_MM = {"metre": 1000.0, "centimetre": 10.0, "millimetre": 1.0, "micron": 0.001}
# Of a voxel's edge: finer than any scanner's, and as large as a head.
PLAUSIBLE_MM = (0.005, 100.0)


@dataclass(frozen=True)
class Header:
    """One image's header.

    Attributes:
        shape: (X, Y, Z).
        channels: Volumes in the file.
        interleaved: Whether the channels of a voxel lie together, rather than volume after volume.
        dtype: Of the stored voxels, byte order included.
        affine: (4, 4), voxel (x, y, z) to mm, RAS.
        slope: The voxels are to be multiplied by it; 0 means no scaling.
        intercept: And this added.
        offset: Bytes before the first voxel.
        packed: Of what the voxels lie in: "gzip" is the whole file, header included; "zlib" is what follows the header.
        data: The file that holds the voxels where it is not the header's.
        notes: What was assumed.
    """

    shape: tuple[int, int, int]
    channels: int
    dtype: np.dtype
    affine: NDArray[np.float64]
    offset: int
    slope: float = 0.0
    intercept: float = 0.0
    interleaved: bool = False
    packed: Literal["no", "gzip", "zlib"] = "no"
    data: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that all voxels take."""
        return math.prod(self.shape) * self.channels * self.dtype.itemsize


def sizes(dims: Sequence[int]) -> tuple[tuple[int, int, int], int, tuple[str, ...]]:
    """(X, Y, Z), the number of volumes, and a note where trailing axes of 1 were dropped.

    Raises:
        ValueError: Not 3-D, nor volumes along a fourth axis.
    """
    if min(dims) < 1:
        raise ValueError(f"the header's dimensions are {list(dims)}, expected at least 1 each; export the image again")
    if len(dims) < 3 or any(n != 1 for n in dims[4:]):
        raise ValueError(f"the image has {len(dims)} axes {list(dims)}, expected one 3-D volume; export it again")
    channels = dims[3] if len(dims) > 3 else 1
    dropped = len(dims) > 3 and channels == 1
    note = f"trailing axes of 1 dropped from {list(dims)}"
    return (dims[0], dims[1], dims[2]), channels, (note,) if dropped else ()


def require_spacing(spacing: Sequence[float]) -> None:
    """Refuse what is no voxel size."""
    if not all(math.isfinite(mm) and mm > 0 for mm in spacing):
        raise ValueError(f"spacing {tuple(spacing)} mm, expected positive numbers; export the image again")


def in_mm(affine: NDArray[np.float64], unit: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """An affine whose unit of length is a header's, in mm; a note where that is another unit.

    A unit that makes voxels of no plausible size is a mistake of the header: its numbers are mm then, with a note.

    Args:
        affine: (4, 4), voxel (x, y, z) to that unit.
        unit: A key of `UNITS_MM`.
    """
    if (factor := UNITS_MM[unit]) == 1:
        return affine, ()
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0) * factor
    found = " x ".join(f"{size:g}" for size in sizes_mm)
    if not all(PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1] for size in sizes_mm):
        return affine, (f"the header's unit is {unit}, which makes voxels of {found} mm; its numbers are taken as mm",)
    converted = affine.copy()
    converted[:3] *= factor
    return converted, (f"the header's unit is {unit}: voxels of {found} mm",)


def require_affine(affine: NDArray[np.float64]) -> None:
    """Refuse an affine that places no volume."""
    if not np.isfinite(affine).all():
        raise ValueError("the affine holds NaN or Inf; export the image again")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("the affine is singular, the voxels have no volume; export the image again")


def require_numbers(dtype: np.dtype) -> None:
    """Refuse voxels that are no plain numbers."""
    if dtype.kind not in KINDS or dtype.itemsize > 8 or dtype.itemsize == 0:
        raise ValueError(f"data type {dtype.name}, expected integers or floats; convert it to int16 or float32")
