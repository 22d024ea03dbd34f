"""From a file's bytes to voxels and their place in space, of whatever format."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import ArrayLike, NDArray

from segan_pl.data.case import ORIGIN_TOLERANCE_MM, CaseError, Nonfinite, Shape
from segan_pl.data.io import metaimage, nifti
from segan_pl.data.io.header import Header, require_affine, require_numbers
from segan_pl.data.io.streams import GZIP, MAX_INFLATION, gunzip, gunzip_start, unzlib

DIGEST_BYTES = 16
# A gzip stream's own header may take half.
START_BYTES = 2 * metaimage.HEAD_BYTES
# Mm a voxel that an element of two affines may differ by and still be one grid.
AXES_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Volume:
    """One volume's voxels and their place in space.

    Attributes:
        array: (D, H, W), read-only; the file's own type, or float32 where the header scales it.
        affine: (4, 4) float64, voxel (x, y, z) to mm, RAS.
        digest: Of the file's bytes as they lie on disk; equal files have equal digests.
        notes: What was assumed or replaced, e.g. that a trailing axis of 1 was dropped.
        dtype_on_disk: NumPy's name of the stored type, e.g. "int16".
    """

    array: NDArray
    affine: NDArray[np.float64]
    digest: str
    notes: tuple[str, ...] = ()
    dtype_on_disk: str = ""

    @property
    def shape(self) -> Shape:
        """(D, H, W), voxels."""
        depth, height, width = self.array.shape
        return depth, height, width

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbours along (x, y, z)."""
        x, y, z = (float(mm) for mm in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z

    @property
    def orientation(self) -> str:
        """Where x, y and z run to, e.g. "LPS"."""
        return "".join(aff2axcodes(self.affine))


@dataclass(frozen=True)
class Grid:
    """What a header says of a file's volumes; no voxel was read.

    Attributes:
        shape: (D, H, W), voxels.
        affine: (4, 4) float64, voxel (x, y, z) to mm, RAS.
        channels: Volumes in the file.
        dtype: NumPy's name of the stored type.
        notes: What was assumed.
    """

    shape: Shape
    affine: NDArray[np.float64]
    channels: int
    dtype: str
    notes: tuple[str, ...] = ()


def read_volume(path: Path | str, *, nonfinite: Nonfinite = "refuse") -> Volume:
    """The whole of one 3-D file: NIfTI, MetaImage or Analyze, compressed or not, whatever its name ends with.

    Args:
        path: Of a pair of files, either half.
        nonfinite: Voxels that are NaN or Inf: "refuse" the file, or set them to "zero" with a note.

    Raises:
        CaseError: The file is missing, cut off, damaged, of no known format, not one 3-D volume of finite numbers, or
            has a header that does not fit its data or its geometry.
    """
    volumes = _read(Path(path), nonfinite, single=True)
    return volumes[0]


def read_channels(path: Path | str, *, nonfinite: Nonfinite = "refuse") -> tuple[Volume, ...]:
    """Every volume of a 4-D file, inflated once; one of a 3-D file. Their digests differ.

    Raises:
        CaseError: As `read_volume`.
    """
    return _read(Path(path), nonfinite, single=False)


def read_grid(path: Path | str) -> Grid:
    """What the header says; reads a few kB.

    Raises:
        CaseError: There is no such file, or its header says what cannot be.
    """
    path = Path(path)
    try:
        with _file(path).open("rb") as file:
            header = _header(file.read(START_BYTES), path)
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}); expected a file; fix the path") from error
    except ValueError as error:
        raise CaseError(f"{path}: {error}") from error
    x, y, z = header.shape
    return Grid((z, y, x), header.affine, header.channels, header.dtype.name, header.notes)


def read_description(path: Path) -> str:
    """What a NIfTI file calls itself (descrip); empty where it is none, or cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
        head = gunzip_start(start, nifti.HEAD_BYTES) if start.startswith(GZIP) else start[: nifti.HEAD_BYTES]
        return bytes(nifti.native_header(head, path)["descrip"]).rstrip(b"\0").decode("latin-1")
    except (OSError, ValueError):
        return ""


def held_volume(array: ArrayLike, affine: ArrayLike) -> Volume:
    """An array as `read_volume` returns a file that holds it; its numbers are not looked at, see `finite`.

    Args:
        array: (D, H, W) integers or floats.
        affine: (4, 4), voxel (x, y, z) to mm, RAS.

    Raises:
        ValueError: It is no volume of numbers, or the affine places none.
    """
    voxels, place = np.asarray(array), np.asarray(affine, np.float64)
    if voxels.ndim != 3 or 0 in voxels.shape:
        raise ValueError(f"an array of shape {voxels.shape}, expected one volume (D, H, W)")
    if place.shape != (4, 4):
        raise ValueError(f"an affine of shape {place.shape}, expected (4, 4)")
    require_numbers(voxels.dtype)
    require_affine(place)
    wanted = np.dtype(np.float32) if voxels.dtype.itemsize < 4 and voxels.dtype.kind == "f" else voxels.dtype
    # no file holds float16
    voxels = np.ascontiguousarray(voxels, wanted.newbyteorder("="))
    digest = hashlib.blake2b(voxels.data, digest_size=DIGEST_BYTES).hexdigest()
    voxels = voxels.view()
    # the view, not the caller's own array
    voxels.flags.writeable = False
    return Volume(voxels, place, digest, dtype_on_disk=voxels.dtype.name)


def finite(volume: Volume, nonfinite: Nonfinite) -> Volume:
    """A volume without NaN and Inf, as `read_volume` returns it.

    Raises:
        ValueError: It has some, and they are to be refused.
    """
    array, notes = _finite(volume.array, nonfinite)
    return replace(volume, array=array, notes=volume.notes + notes)


def same_grid(a: Volume, b: Volume, *, origin_mm: float = ORIGIN_TOLERANCE_MM) -> bool:
    """Whether two volumes have one shape and, within the tolerances, one affine."""
    return a.shape == b.shape and same_affine(a.affine, b.affine, origin_mm=origin_mm)


def same_affine(a: NDArray[np.float64], b: NDArray[np.float64], *, origin_mm: float = ORIGIN_TOLERANCE_MM) -> bool:
    """Whether two affines agree: axes within AXES_TOLERANCE, the first voxel's place within `origin_mm` an axis."""
    gap = np.abs(a - b)
    return bool(gap[:3, :3].max() <= AXES_TOLERANCE and gap[:3, 3].max() <= origin_mm)


def _read(path: Path, nonfinite: Nonfinite, *, single: bool) -> tuple[Volume, ...]:
    try:
        raw = _file(path).read_bytes()
        header = _header(raw[:START_BYTES], path)
        if single and header.channels > 1:
            axes = [*header.shape, header.channels]
            raise ValueError(
                f"the image has 4 axes {axes}, expected one 3-D volume; split it, or name the layout whose files hold "
                f"all modalities (--data.layout msd)"
            )
        voxels = raw if header.data is None else header.data.read_bytes()
        digest = hashlib.blake2b(raw, digest_size=DIGEST_BYTES)
        if header.data is not None:
            digest.update(voxels)
        packed = header.packed
        needed = header.offset + header.size
        if header.data is not None and packed == "no" and voxels.startswith(GZIP):
            # voxels that happen to begin so
            plain = len(voxels) == needed and header.data.suffix.lower() != ".gz"
            packed = "no" if plain else "gzip"
        most = len(voxels) * (1 if packed == "no" else MAX_INFLATION)
        if needed > most:
            raise ValueError(
                f"the header announces {needed} bytes, the file holds at most {most}; cut off? copy it again"
            )
        start = header.offset
        if packed == "zlib":
            body, start = unzlib(memoryview(voxels)[start:], header.size), 0
        else:
            body = gunzip(voxels, needed) if packed == "gzip" else voxels
        if len(body) != (expected := start + header.size):
            size = f"more than {expected}" if len(body) > expected else str(len(body))
            raise ValueError(
                f"the header announces {expected} bytes, found {size}; cut off or mislabelled: copy it again"
            )
        return _volumes(memoryview(body)[start:], header, digest.hexdigest(), nonfinite)
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}); expected a file; fix the path") from error
    except ValueError as error:
        raise CaseError(f"{path}: {error}") from error


def _file(path: Path) -> Path:
    """Where the header is: of a pair named by its voxels, the other half. What would never end is not opened."""
    if not path.is_file() and not path.is_dir() and path.exists():
        raise ValueError("it is a pipe or a device, expected a file; fix the path")
    return nifti.other_half(path) if nifti.is_voxel_half(path) else path


def _header(start: bytes, path: Path) -> Header:
    """The header at the start of a file, by its magic bytes."""
    if start.startswith(GZIP):
        inflated = gunzip_start(start, nifti.HEAD_BYTES)
        header = nifti.read_header(inflated, _file(path))
        return header if header.data is not None else replace(header, packed="gzip")
    if metaimage.begins_like(start):
        return metaimage.read_header(start, path)
    return nifti.read_header(start[: nifti.HEAD_BYTES], _file(path))


def _volumes(body: memoryview, header: Header, digest: str, nonfinite: Nonfinite) -> tuple[Volume, ...]:
    """The voxels as arrays: the file's x runs fastest, so that (x, y, z) there is (z, y, x) here, a view."""
    voxels = np.frombuffer(body, header.dtype, math.prod(header.shape) * header.channels)
    spatial = header.shape[::-1]
    stack = (
        np.moveaxis(voxels.reshape(*spatial, header.channels), -1, 0)
        if header.interleaved
        else voxels.reshape(header.channels, *spatial)
    )
    volumes = []
    for number, array in enumerate(stack):
        if header.slope != 0 and (header.slope, header.intercept) != (1.0, 0.0):
            with np.errstate(over="ignore", invalid="ignore"):
                array = (array * np.float64(header.slope) + header.intercept).astype(np.float32)
        # In the machine's byte order, slices contiguous.
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        scaled, notes = _finite(array, nonfinite)
        scaled.flags.writeable = False
        own = digest if header.channels == 1 else f"{digest}#{number}"
        volumes.append(Volume(scaled, header.affine, own, header.notes + notes, header.dtype.name))
    return tuple(volumes)


def _finite(voxels: NDArray, nonfinite: Nonfinite) -> tuple[NDArray, tuple[str, ...]]:
    """The voxels without NaN and Inf, and a note where there were any."""
    if voxels.dtype.kind != "f" or np.isfinite(voxels).all():
        return voxels, ()
    finite_ones = np.isfinite(voxels)
    count = voxels.size - int(finite_ones.sum())
    if nonfinite == "refuse":
        raise ValueError(f"{count} voxels are NaN or Inf, expected finite numbers; replace them or drop the case")
    return np.where(finite_ones, voxels, voxels.dtype.type(0)), (f"{count} voxels were NaN or Inf and are 0 now",)
