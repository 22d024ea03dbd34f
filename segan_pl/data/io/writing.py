"""Volumes to files: whole or not at all, and the same bytes for the same input."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from segan_pl.data.case import CaseError
from segan_pl.data.io import metaimage, nifti
from segan_pl.data.io.reading import read_grid
from segan_pl.data.io.streams import GZIP, gunzip_start
from segan_pl.files import write_whole

META_TYPES = {np.dtype(code).name: name for name, code in metaimage.TYPES.items() if "LONG" not in name or "8" in code}
METAIMAGE = ".mha"
SUFFIXES = (".nii", ".nii.gz", METAIMAGE)
VOXEL_KEYS = (
    "DimSize",
    "BinaryData",
    "BinaryDataByteOrderMSB",
    "ElementByteOrderMSB",
    "CompressedData",
    "CompressedDataSize",
    "ElementNumberOfChannels",
    "ElementType",
    "ElementMin",
    "ElementMax",
    "HeaderSize",
    "ElementDataFile",
)
"""Lines of a MetaImage header that another file's voxels change."""


def write_volume(
    path: Path | str, array: NDArray, affine: ArrayLike, *, compresslevel: int = 6, description: str = ""
) -> None:
    """Write (D, H, W) voxels as NIfTI-1 with sform and qform, or as MetaImage where `path` ends with .mha.

    NIfTI is gzipped where `path` ends with .gz, MetaImage compressed unless `compresslevel` is 0. Atomic: the file
    appears whole or not at all. The same input gives the same bytes.

    Args:
        path: Of the file.
        array: (D, H, W).
        affine: (4, 4), voxel (x, y, z) to mm, RAS.
        compresslevel: Of zlib.
        description: NIfTI's descrip, at most 79 characters, which `write_like` passes on; MetaImage has none.

    Raises:
        CaseError: `path` ends otherwise.
    """
    path = _writable(Path(path))
    affine = np.asarray(affine, np.float64)
    if path.suffix.lower() == METAIMAGE:
        write_whole(path, _metaimage(_meta_geometry(affine), array, compresslevel))
        return
    image = nib.Nifti1Image(array.T, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header["descrip"] = description.encode("ascii")
    write_whole(path, _zipped(image.to_bytes(), path, compresslevel))


def write_analyze(path: Path | str, array: NDArray, spacing_mm: Sequence[float]) -> None:
    """Write (D, H, W) voxels as an Analyze 7.5 pair with a trailing axis of 1, as iSEG's files are.

    The voxels come first and the header, by which a pair is found, last: a kill leaves no pair that is half there.

    Args:
        path: Of the header, x.hdr; x.img lies next to it.
        array: Of int16, uint8, int32 or floats.
        spacing_mm: (x, y, z); Analyze has no orientation, and the axes are the file's.
    """
    path = Path(path)
    header = nib.AnalyzeHeader()
    header.set_data_dtype(array.dtype)
    header.set_data_shape((*array.shape[::-1], 1))
    header.set_zooms((*spacing_mm, 1.0))
    write_whole(path.with_suffix(".img"), array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    write_whole(path, header.binaryblock)


def write_like(reference: Path | str, array: NDArray, path: Path | str, *, compresslevel: int = 6) -> None:
    """Write (D, H, W) voxels on the grid of another file, its header kept to the byte.

    What changes is what must: data type, scaling (none), the range to display, the number of axes of a 4-D file, and
    compression. A header's extensions stay. Where the formats of `reference` and `path` differ, shape and affine are
    kept; of an Analyze pair, which has no orientation, a NIfTI file without sform and qform is made.

    Raises:
        CaseError: The reference cannot be read, or has another shape; or `path` has an ending that is not written.
    """
    reference, path = Path(reference), _writable(Path(path))
    grid = read_grid(reference)
    if grid.shape != array.shape:
        raise CaseError(f"{reference}: has shape {grid.shape[::-1]}, the segmentation {array.shape[::-1]}; not written")
    source = nifti.other_half(reference) if nifti.is_voxel_half(reference) else reference
    raw = source.read_bytes()
    meta, wants_meta = metaimage.begins_like(raw), path.suffix.lower() == METAIMAGE
    if meta and wants_meta:
        fields, _ = metaimage.parse(raw)
        kept = [(key, value) for key, value in fields.items() if key not in VOXEL_KEYS]
        # of a 4-D file the axes' numbers differ
        of_volume = int(fields["NDims"]) == 3
        lines = kept if of_volume else _meta_geometry(grid.affine)
        write_whole(path, _metaimage(lines, array, compresslevel))
    elif meta or wants_meta:
        write_volume(path, array, grid.affine, compresslevel=compresslevel)
    else:
        write_whole(path, _zipped(_nifti_like(raw, array, reference), path, compresslevel))


def _writable(path: Path) -> Path:
    """The path, if its name says a format that is written."""
    if not path.name.lower().endswith(SUFFIXES):
        raise CaseError(
            f"{path}: cannot be written so, expected a name that ends with {', '.join(SUFFIXES)}; rename it"
        )
    return path


def _nifti_like(raw: bytes, array: NDArray, reference: Path) -> bytes:
    """A NIfTI file with the header and the extensions of another one's bytes."""

    def start(size: int) -> bytes:
        return gunzip_start(raw, size) if raw.startswith(GZIP) else raw[:size]

    header = nifti.native_header(start(nifti.HEAD_BYTES), Path("pair.hdr"))
    single = isinstance(header, nib.Nifti1Header) and bytes(header["magic"])[:3] in nifti.SINGLE
    if not isinstance(header, nib.Nifti1Header):
        # An Analyze header's sizes and spacing, and no orientation, as there is none.
        analyze, header = header, nib.Nifti1Header(endianness=header.endianness)
        header["pixdim"] = [1, *analyze["pixdim"][1:4], 0, 0, 0, 0]
    size = int(header["sizeof_hdr"])
    offset = int(header["vox_offset"]) if single else 0
    offset = max(offset, nifti.HEADER_BYTES[size])
    extensions = start(offset)[size:] if single else bytes(offset - size)
    if len(extensions) != offset - size:
        raise CaseError(f"{reference}: the voxels should begin at byte {offset}, the file ends before; copy it again")
    header["magic"] = b"n+1" if size == 348 else b"n+2\0\r\n\x1a\n"
    header["vox_offset"] = offset
    header.set_data_dtype(array.dtype)
    header["dim"] = [3, *array.shape[::-1], 1, 1, 1, 1]
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    voxels = array.astype(array.dtype.newbyteorder(header.endianness), copy=False).tobytes()
    return header.binaryblock + extensions + voxels


def _meta_geometry(affine: NDArray[np.float64]) -> list[tuple[str, str]]:
    """A MetaImage header's lines that say what it is and where it lies; numbers to their last digit."""
    lps = metaimage.LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return [
        ("ObjectType", "Image"),
        ("NDims", "3"),
        ("TransformMatrix", _numbers((lps[:3, :3] / spacing).T.ravel())),
        ("Offset", _numbers(lps[:3, 3])),
        ("CenterOfRotation", "0 0 0"),
        ("ElementSpacing", _numbers(spacing)),
    ]


def _metaimage(lines: Sequence[tuple[str, str]], array: NDArray, compresslevel: int) -> bytes:
    """Header and voxels of a .mha file."""
    if array.dtype.name not in META_TYPES:
        raise CaseError(f"data type {array.dtype.name} cannot be written as MetaImage; convert it to uint8 or float32")
    voxels = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    packed = zlib.compress(voxels, compresslevel) if compresslevel else voxels
    said = [
        *lines,
        ("DimSize", " ".join(map(str, array.shape[::-1]))),
        ("BinaryData", "True"),
        ("BinaryDataByteOrderMSB", "False"),
        ("CompressedData", str(bool(compresslevel))),
        *([("CompressedDataSize", str(len(packed)))] if compresslevel else []),
        ("ElementType", META_TYPES[array.dtype.name]),
        ("ElementDataFile", "LOCAL"),
    ]
    return "".join(f"{key} = {value}\n" for key, value in said).encode("latin-1") + packed


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(value) + 0.0) for value in values)  # + 0.0: no -0.0


def _zipped(content: bytes, path: Path, compresslevel: int) -> bytes:
    if path.suffix.lower() != ".gz":
        return content
    packer = zlib.compressobj(compresslevel, wbits=31)
    return packer.compress(content) + packer.flush()
