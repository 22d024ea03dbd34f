"""What a header says, whatever the format, and the checks that all formats share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

KINDS = "iuf"  # numpy kinds that a volume may have: integers and reals


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
        raise ValueError(f"the header's dimensions are {list(dims)}, expected at least 1 each; export the image anew")
    if len(dims) < 3 or any(n != 1 for n in dims[4:]):
        raise ValueError(f"the image has {len(dims)} axes {list(dims)}, expected one 3-D volume; export it anew")
    channels = dims[3] if len(dims) > 3 else 1
    dropped = len(dims) > 3 and channels == 1
    note = f"trailing axes of 1 dropped from {list(dims)}"
    return (dims[0], dims[1], dims[2]), channels, (note,) if dropped else ()


def require_spacing(spacing: Sequence[float]) -> None:
    """Refuse what is no voxel size."""
    if not all(math.isfinite(mm) and mm > 0 for mm in spacing):
        raise ValueError(f"spacing {tuple(spacing)} mm, expected positive numbers; export the image anew")


def require_affine(affine: NDArray[np.float64]) -> None:
    """Refuse an affine that places no volume."""
    if not np.isfinite(affine).all():
        raise ValueError("the affine holds NaN or Inf; export the image anew")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("the affine is singular, the voxels have no volume; export the image anew")


def require_numbers(dtype: np.dtype) -> None:
    """Refuse voxels that are no plain numbers."""
    if dtype.kind not in KINDS or dtype.itemsize > 8 or dtype.itemsize == 0:
        raise ValueError(f"data type {dtype.name}, expected integers or floats; convert it to int16 or float32")
