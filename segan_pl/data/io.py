"""Volumes from and to files; with the clinical pipeline the only place that imports nibabel or SimpleITK.

A reader here trusts nothing: the gzip stream is read to its end (so its checksum is compared), and the header is held
against the bytes that are really there before anything of its size is allocated.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import ArrayLike, NDArray

from segan_pl.data.volume import CaseError, Shape

GZIP = b"\x1f\x8b"
HEADER_BYTES = {348: 352, 540: 544}  # sizeof_hdr of NIfTI-1 and -2 to the first byte that data may start at
MAX_INFLATION = 1032  # deflate cannot expand more than this
KINDS = "iuf"  # numpy kinds that a volume may have: integers and reals
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Volume:
    """One file's voxels and their place in space.

    Attributes:
        array: (D, H, W), read-only; the file's own type, or float32 where the header scales it.
        affine: (4, 4) float64, voxel (x, y, z) to mm.
        digest: Of the file's bytes as they lie on disk; equal files have equal digests.
        notes: What was assumed, e.g. that a trailing axis of 1 was dropped.
    """

    array: NDArray
    affine: NDArray[np.float64]
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """(D, H, W), voxels."""
        depth, height, width = self.array.shape
        return depth, height, width


def read_volume(path: Path | str) -> Volume:
    """The whole of one NIfTI file, plain or gzipped, whatever its name ends with.

    Raises:
        CaseError: The file is missing, cut off, damaged, not NIfTI, not one 3-D volume of finite numbers, or has a
            header that does not fit its data or its geometry.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}); expected a file; mend the path") from error
    digest = hashlib.blake2b(raw, digest_size=DIGEST_BYTES).hexdigest()
    try:
        # Here .mha, .mhd and Analyze pairs will be told apart, by magic bytes first and by extension second.
        array, affine, notes = _read_nifti(raw)
    except ValueError as error:
        raise CaseError(f"{path}: {error}") from error
    array.flags.writeable = False
    return Volume(array, affine, digest, notes)


def write_volume(path: Path | str, array: NDArray, affine: ArrayLike, *, compresslevel: int = 6) -> None:
    """Write (D, H, W) voxels as NIfTI-1 with sform and qform, gzipped where `path` ends with .gz.

    Atomic: the file appears whole or not at all. The same input gives the same bytes.
    """
    path = Path(path)
    image = nib.Nifti1Image(array.T, np.asarray(affine, np.float64))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    content = image.to_bytes()
    if path.suffix == ".gz":
        packer = zlib.compressobj(compresslevel, wbits=31)
        content = packer.compress(content) + packer.flush()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether two volumes have one shape and, within 1e-3, one affine."""
    return a.shape == b.shape and same_affine(a.affine, b.affine)


def same_affine(a: NDArray[np.float64], b: NDArray[np.float64], *, tolerance: float = 1e-3) -> bool:
    """Whether two affines differ by at most `tolerance` in every element."""
    return bool(np.abs(a - b).max() <= tolerance)


def _read_nifti(raw: bytes) -> tuple[NDArray, NDArray[np.float64], tuple[str, ...]]:
    """Voxels (D, H, W), affine and notes of a NIfTI file's bytes."""
    gzipped = raw.startswith(GZIP)
    header = _header(_inflate(raw, max(HEADER_BYTES.values())) if gzipped else raw)
    shape, notes = _shape(header)
    dtype = _dtype(header)
    offset, needed = _extent(header, shape, dtype)
    found = len(raw) * MAX_INFLATION if gzipped else len(raw)
    if needed > found:
        raise ValueError(f"the header announces {needed} bytes, the file holds at most {found}; cut off? copy it anew")
    body = _inflate_exactly(raw, needed) if gzipped else raw
    if len(body) != needed:
        size = f"more than {needed}" if len(body) > needed else str(len(body))
        raise ValueError(f"the header announces {needed} bytes, found {size}; cut off or mislabelled: copy it anew")
    affine, assumed = _affine(header)
    # The file's x runs fastest: (x, y, z) in Fortran order is (z, y, x) in C order, so this is a view.
    voxels = np.frombuffer(body, dtype, math.prod(shape), offset).reshape(shape[::-1])
    return _scaled(voxels, header), affine, notes + assumed


def _inflate_exactly(raw: bytes, size: int) -> bytes:
    """All of a gzip stream that should hold `size` bytes, checked to its end.

    Where the stream's own trailer announces that size, it is inflated into one buffer of it, in half the time; a
    crafted stream that lies there could take up to MAX_INFLATION times the file's size before zlib refuses it.
    """
    if int.from_bytes(raw[-4:], "little") == size:
        try:
            return zlib.decompress(raw, wbits=31, bufsize=size)
        except zlib.error as error:
            raise ValueError(f"the gzip stream is damaged ({error}); copy or download the file anew") from error
    return _inflate(raw, size + 1, whole=True)


def _inflate(raw: bytes, limit: int, *, whole: bool = False) -> bytes:
    """At most `limit` bytes out of all members of a gzip stream; with `whole` the end must be reached within them."""
    parts: list[bytes] = []
    size, rest = 0, raw
    try:
        while rest.startswith(GZIP) and size < limit:
            member = zlib.decompressobj(wbits=31)
            parts.append(member.decompress(rest, limit - size))
            size += len(parts[-1])
            if not member.eof:
                if whole and size < limit:
                    raise ValueError(f"the gzip stream breaks off after {size} bytes; copy or download the file anew")
                break
            rest = member.unused_data
    except zlib.error as error:
        raise ValueError(f"the gzip stream is damaged ({error}); copy or download the file anew") from error
    if whole and size < limit and rest.strip(b"\0") and not rest.startswith(GZIP):
        raise ValueError(f"{len(rest)} strange bytes follow the gzip stream; copy or download the file anew")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _header(head: bytes) -> nib.Nifti1Header:
    """The header at the start of `head`, of either version and byte order."""
    for kind, size in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        if len(head) >= HEADER_BYTES[size] and size in (int.from_bytes(head[:4], order) for order in ("little", "big")):
            order = "<" if int.from_bytes(head[:4], "little") == size else ">"
            header = kind(head[:size], endianness=order, check=False)
            if bytes(header["magic"])[:3] in (b"n+1", b"n+2"):
                return header
    raise ValueError(f"{_what(head)}; expected NIfTI (.nii or .nii.gz); download or convert it anew")


def _what(head: bytes) -> str:
    """What a file that is not NIfTI looks like."""
    start = head[:200].lstrip().lower()
    if not head:
        return "empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, the data was never fetched"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not an image"
    if len(head) < min(HEADER_BYTES.values()):
        return f"only {len(head)} bytes, less than a header"
    return f"unknown format, it starts with {head[:8]!r}"


def _shape(header: nib.Nifti1Header) -> tuple[Shape, tuple[str, ...]]:
    """(X, Y, Z) and a note where trailing axes of 1 were dropped."""
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise ValueError(f"the header has {axes} axes, expected 3; the file is damaged or not NIfTI")
    dims = [int(n) for n in header["dim"][1 : axes + 1]]
    if min(dims) < 1:
        raise ValueError(f"the header's dimensions are {dims}, expected at least 1 each; export the image anew")
    if len(dims) < 3 or any(n != 1 for n in dims[3:]):
        raise ValueError(f"the image has {len(dims)} axes {dims}, expected one 3-D volume; split or export it anew")
    note = f"trailing axes of 1 dropped from {dims}"
    return (dims[0], dims[1], dims[2]), (note,) if len(dims) > 3 else ()


def _dtype(header: nib.Nifti1Header) -> np.dtype:
    """The voxels' type, byte order included."""
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise ValueError(f"unknown data type {int(header['datatype'])}; convert it to int16 or float32") from error
    if dtype.kind not in KINDS or dtype.itemsize > 8 or dtype.itemsize == 0:
        raise ValueError(f"data type {dtype.name}, expected integers or floats; convert it to int16 or float32")
    return dtype


def _extent(header: nib.Nifti1Header, shape: Shape, dtype: np.dtype) -> tuple[int, int]:
    """Where the voxels begin, and the bytes that the whole file must have."""
    offset = float(header["vox_offset"])
    least = HEADER_BYTES[int(header["sizeof_hdr"])]
    if not math.isfinite(offset) or offset != int(offset) or (offset != 0 and offset < least):
        raise ValueError(f"the header places the voxels at byte {offset:g}, expected {least} or more; export it anew")
    begin = int(offset) or least
    return begin, begin + math.prod(shape) * dtype.itemsize


def _affine(header: nib.Nifti1Header) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine: sform, else qform, else the spacing alone (NIfTI's method 1), with a note."""
    spacing = np.asarray(header["pixdim"][1:4], np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"spacing {tuple(spacing.tolist())} mm, expected positive numbers; export the image anew")
    notes: tuple[str, ...] = ()
    if int(header["sform_code"]) > 0:
        affine = np.asarray(header.get_sform(), np.float64)
    elif int(header["qform_code"]) > 0:
        try:
            affine = np.asarray(header.get_qform(), np.float64)
        except (HeaderDataError, ValueError) as error:
            raise ValueError(f"the qform is not a rotation ({error}); export the image anew") from error
    else:
        affine, notes = np.diag([*spacing, 1.0]), ("geometry assumed: neither sform nor qform is set",)
    if not np.isfinite(affine).all():
        raise ValueError("the affine holds NaN or Inf; export the image anew")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("the affine is singular, the voxels have no volume; export the image anew")
    return affine, notes


def _scaled(voxels: NDArray, header: nib.Nifti1Header) -> NDArray:
    """The voxels as the header's slope and intercept scale them; a slope of 0 means none (NIfTI-1)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not (math.isfinite(slope) and (math.isfinite(intercept) or slope == 0)):
        raise ValueError(f"scl_slope {slope}, scl_inter {intercept}, expected finite numbers; export the image anew")
    if slope != 0 and (slope, intercept) != (1.0, 0.0):
        with np.errstate(over="ignore", invalid="ignore"):
            voxels = (voxels * np.float64(slope) + intercept).astype(np.float32)
    elif not voxels.dtype.isnative:
        voxels = voxels.astype(voxels.dtype.newbyteorder("="))
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = voxels.size - int(np.isfinite(voxels).sum())
        raise ValueError(f"{count} voxels are NaN or Inf, expected finite numbers; replace them or drop the case")
    return voxels
