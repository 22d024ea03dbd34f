"""Headers of NIfTI-1 and -2, single files and pairs, and of Analyze 7.5 pairs."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segan_pl.data.io.consistency import forms_note, shear_note, sizes_note
from segan_pl.data.io.header import Header, in_mm, require_affine, require_numbers, require_spacing, sizes

# Sizeof_hdr of NIfTI-1 and -2 to the first byte that data may start at.
HEADER_BYTES = {348: 352, 540: 544}
HEAD_BYTES = max(HEADER_BYTES.values())
SINGLE, PAIR = (b"n+1", b"n+2"), (b"ni1", b"ni2")
HALVES = (".hdr", ".img")
# Its byte "orient" is set rightly by few programs.
ANALYZE_NOTE = "geometry assumed: Analyze has no reliable orientation; axes taken as RAS, left may be right"


def begins_like(head: bytes) -> bool:
    """Whether the bytes begin with the size of one of the headers, in either byte order."""
    return any(int.from_bytes(head[:4], order) in HEADER_BYTES for order in ("little", "big"))


def read_header(head: bytes, path: Path) -> Header:
    """What the first bytes of a file say.

    Args:
        head: At least HEAD_BYTES of it, uncompressed, or all that there is.
        path: Where it comes from; the other half of a pair lies next to it.

    Raises:
        ValueError: It is no header, or says what cannot be.
    """
    header = native_header(head, path)
    single = isinstance(header, nib.Nifti1Header) and bytes(header["magic"])[:3] in SINGLE
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise ValueError(f"the header has {axes} axes, expected 3; the file is damaged or not NIfTI")
    shape, channels, notes = sizes([int(n) for n in header["dim"][1 : axes + 1]])
    raw, assumed = _affine(header)
    # mm where the header says no unit of length, or one that NIfTI does not know; Analyze has none.
    code = int(header["xyzt_units"]) & 7 if isinstance(header, nib.Nifti1Header) else 0
    affine, converted = in_mm(raw, {1: "metre", 3: "micron"}.get(code, "millimetre"))
    require_affine(affine)
    odd = _contradictions(header, affine, float(np.abs(affine[:3, :3]).max() / np.abs(raw[:3, :3]).max()), shape)
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise ValueError(f"unknown data type {int(header['datatype'])}; convert it to int16 or float32") from error
    require_numbers(dtype)
    slope, intercept = 0.0, 0.0
    if isinstance(header, nib.Nifti1Header):
        slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
        # A slope of 0 means none; then the intercept does not count.
        if not (math.isfinite(slope) and (math.isfinite(intercept) or slope == 0)):
            raise ValueError(
                f"scl_slope {slope}, scl_inter {intercept}, expected finite numbers; export the image again"
            )
    return Header(
        shape=shape,
        channels=channels,
        dtype=dtype,
        affine=affine,
        offset=_offset(header, HEADER_BYTES[int(header["sizeof_hdr"])] if single else 0),
        slope=slope,
        intercept=intercept,
        data=None if single else other_half(path),
        notes=notes + assumed + converted + odd,
    )


def native_header(head: bytes, path: Path) -> AnalyzeHeader:
    """The header at the start of `head`, of either version and byte order, unchecked.

    Raises:
        ValueError: There is none; the message says what there is.
    """
    for kind, size in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        if len(head) >= size and size in (int.from_bytes(head[:4], order) for order in ("little", "big")):
            order = "<" if int.from_bytes(head[:4], "little") == size else ">"
            header = kind(head[:size], endianness=order, check=False)
            magic = bytes(header["magic"])[:3]
            if magic in SINGLE and len(head) >= HEADER_BYTES[size]:
                return header
            if magic in PAIR:
                return header
            if size == 348 and magic not in SINGLE and _stem(path)[1] in HALVES:
                return AnalyzeHeader(head[:size], endianness=order, check=False)
    raise ValueError(f"{_what(head)}; expected NIfTI (.nii or .nii.gz); download or convert it again")


def other_half(path: Path) -> Path:
    """The file that holds the voxels of a header, or the header of the voxels.

    Raises:
        ValueError: It is not there.
    """
    stem, half = _stem(path)
    wanted = ".hdr" if half == ".img" else ".img"
    names = [f"{stem}{suffix}{zipped}" for suffix in (wanted, wanted.upper()) for zipped in ("", ".gz")]
    candidates = [path.with_name(name) for name in names]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    kind = "header" if wanted == ".hdr" else "voxels"
    raise ValueError(f"its other half with the {kind} is missing, expected {candidates[0].name}; restore the pair")


def _stem(path: Path) -> tuple[str, str]:
    """A name without its half's suffix, and that suffix in small letters."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    stem, dot, suffix = name.rpartition(".")
    return (stem, f".{suffix.lower()}") if dot else (name, "")


def is_voxel_half(path: Path) -> bool:
    """Whether the name is that of a pair's voxels."""
    return _stem(path)[1] == ".img"


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


def _offset(header: AnalyzeHeader, least: int) -> int:
    """Where the voxels begin; 0 means the least."""
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset) or (offset != 0 and offset < least):
        raise ValueError(f"the header places the voxels at byte {offset:g}, expected {least} or more; export it again")
    return int(offset) or least


def _affine(header: AnalyzeHeader) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine in the header's unit: sform, else qform, else the spacing alone (NIfTI's method 1), with a note."""
    spacing = [float(mm) for mm in header["pixdim"][1:4]]
    require_spacing(spacing)
    notes: tuple[str, ...] = ()
    if not isinstance(header, nib.Nifti1Header):
        affine, notes = np.diag([*spacing, 1.0]), (ANALYZE_NOTE,)
    elif int(header["sform_code"]) > 0:
        affine = np.asarray(header.get_sform(), np.float64)
    elif int(header["qform_code"]) > 0:
        try:
            affine = np.asarray(header.get_qform(), np.float64)
        except (HeaderDataError, ValueError) as error:
            raise ValueError(f"the qform is not a rotation ({error}); export the image again") from error
    else:
        affine, notes = np.diag([*spacing, 1.0]), ("geometry assumed: neither sform nor qform is set",)
    return affine, notes


def _contradictions(
    header: AnalyzeHeader, affine: NDArray[np.float64], factor: float, shape: tuple[int, int, int]
) -> tuple[str, ...]:
    """Notes where sform, qform and pixdim say different things, and where axes are not at right angles.

    Args:
        header: As read.
        affine: The one that is used, in mm.
        factor: Its unit of length in mm.
        shape: (X, Y, Z), voxels.
    """
    if not isinstance(header, nib.Nifti1Header):
        return ()
    spacing = np.asarray(header["pixdim"][1:4], np.float64) * factor
    notes = (*shear_note(affine), *sizes_note(affine, spacing, "sform" if int(header["sform_code"]) > 0 else "qform"))
    if not (int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0):
        return notes
    try:
        other = np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError):
        return (*notes, "the qform is not a rotation; the sform is used")
    other[:3] *= factor
    return (*notes, *forms_note(affine, other, shape))
