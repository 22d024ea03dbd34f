"""Headers of MetaImage (.mha, and .mhd with its file of voxels), which ITK writes and BraTS 2015 came in.

Read here and not by SimpleITK, whose version 2.5 reads a file with one flipped byte as other voxels without a word,
compares no checksum, takes a file that is too long or has a key twice, and does not tell a missing origin from 0.
tests/data/io/test_metaimage.py holds what is read here against it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.io.consistency import shear_note
from segan_pl.data.io.header import Header, in_mm, require_affine, require_spacing, sizes

# A header longer than this is refused.
HEAD_BYTES = 1 << 16
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_START = re.compile(rb"\s*[A-Za-z]\w*\s*=")
# ITK adds keys of its own, e.g. 0010|0010.
_LINE = re.compile(r"\s*([^\s=][^=]*?)\s*=\s*(.*?)\s*")
DIRECTION = ("TransformMatrix", "Orientation", "Rotation")
ORIGIN = ("Offset", "Origin", "Position")
SPACING = ("ElementSpacing", "ElementSize")
"""Names of one thing, the usual one first."""
UNITS = {"?": "millimetre", "um": "micron", "mm": "millimetre", "cm": "centimetre"}


def begins_like(head: bytes) -> bool:
    """Whether the bytes look like the header's first "Key = value" line."""
    return _START.match(head[:200]) is not None and b"ElementDataFile" in head[:HEAD_BYTES]


def read_header(head: bytes, path: Path) -> Header:
    """What the text at the start of a file says.

    Args:
        head: At least HEAD_BYTES of the file, or all that there is.
        path: Where it comes from; the voxels may lie next to it.

    Raises:
        ValueError: A key is missing, or says what cannot be.
    """
    fields, length = parse(head)
    dims = _integers(fields, "DimSize")
    if len(dims) != _integers(fields, "NDims")[0]:
        raise ValueError(f"NDims is {fields['NDims']}, DimSize {fields['DimSize']}; the header is damaged")
    shape, volumes, notes = sizes(dims)
    components = _integers(fields, "ElementNumberOfChannels", "1")[0]
    if components < 1 or (components > 1 and volumes > 1):
        raise ValueError(f"{volumes} volumes of {components} channels; expected one of both at most; split the file")
    if not _flag(fields, "BinaryData", "True"):
        raise ValueError("the voxels are written as text; convert the file to binary")
    affine, assumed = _affine(fields, len(dims))
    if (name := fields["ElementType"]) not in TYPES:
        raise ValueError(f"unknown data type {name}; convert it to MET_SHORT or MET_FLOAT")
    big = _flag(fields, "BinaryDataByteOrderMSB", "False") or _flag(fields, "ElementByteOrderMSB", "False")
    dtype = np.dtype((">" if big else "<") + TYPES[name])
    packed = _flag(fields, "CompressedData", "False")
    data = _data_file(fields["ElementDataFile"], path)
    return Header(
        shape=shape,
        channels=volumes * components,
        dtype=dtype,
        affine=affine,
        offset=_offset(fields, length, data, packed, math.prod(dims) * components * dtype.itemsize),
        interleaved=components > 1,
        packed="zlib" if packed else "no",
        data=data,
        notes=notes + assumed,
    )


def parse(head: bytes) -> tuple[dict[str, str], int]:
    """Keys and values up to ElementDataFile, and the bytes that they take."""
    fields: dict[str, str] = {}
    place = 0
    while place < min(len(head), HEAD_BYTES):
        end = head.find(b"\n", place, HEAD_BYTES)
        end = len(head) if end < 0 else end
        line = head[place:end].decode("latin-1")
        place = end + 1
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] in fields:
            raise ValueError(f"the header's line {line[:40]!r} is no 'Key = value', or is there twice; export it again")
        fields[match[1]] = match[2]
        if match[1] == "ElementDataFile":
            if missing := [key for key in ("NDims", "DimSize", "ElementType") if key not in fields]:
                raise ValueError(f"the header has no {', '.join(missing)}; the file is damaged, export it again")
            return fields, place
    raise ValueError(f"the header has no ElementDataFile in its first {HEAD_BYTES} bytes; it is damaged or cut off")


def _affine(fields: Mapping[str, str], axes: int) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Voxel (x, y, z) to mm, RAS; a note on what the header does not say."""
    spacing = _first(fields, SPACING, [1.0] * axes, axes)[:3]
    require_spacing(spacing)
    # The directions of the axes are rows in the file and columns here; all in LPS mm.
    rows = _first(fields, DIRECTION, np.eye(axes).ravel().tolist(), axes * axes)
    affine = np.eye(4)
    affine[:3, :3] = np.array(rows).reshape(axes, axes)[:3, :3].T * spacing
    affine[:3, 3] = _first(fields, ORIGIN, [0.0] * axes, axes)[:3]
    unit = fields.get("DistanceUnits", "?").lower()
    if unit not in UNITS:
        raise ValueError(f"DistanceUnits = {unit[:40]}, expected {', '.join(UNITS)}; the header is damaged")
    affine, converted = in_mm(affine, UNITS[unit])
    require_affine(affine)
    unsaid = [names[0] for names in (DIRECTION, ORIGIN, SPACING) if not set(names) & set(fields)]
    assumed = (f"geometry assumed: the header has no {', '.join(unsaid)}",) if unsaid else ()
    return LPS_TO_RAS @ affine, assumed + converted + shear_note(affine)


def _offset(fields: Mapping[str, str], length: int, data: Path | None, packed: bool, size: int) -> int:
    """Bytes before the voxels: the header's, or what HeaderSize says of another file (-1: all but the voxels)."""
    if data is None:
        return length
    skipped = _integers(fields, "HeaderSize", "0")[0]
    if skipped < -1 or (skipped == -1 and packed):
        raise ValueError(f"HeaderSize is {skipped}, expected 0 or more, or -1 for voxels that are not compressed")
    if skipped >= 0:
        return skipped
    if (held := data.stat().st_size) < size:
        raise ValueError(
            f"the header announces {size} bytes of voxels, {data.name} holds {held}; cut off? copy it again"
        )
    return held - size


def _data_file(name: str, path: Path) -> Path | None:
    """The file that holds the voxels; None where they follow the header."""
    if name.upper() == "LOCAL":
        return None
    if not name or name.upper().startswith("LIST") or "%" in name:
        raise ValueError(f"ElementDataFile = {name}: voxels in many files are not read; convert it to one .mha")
    data = path.parent / name
    if not data.is_file():
        raise ValueError(f"its other half with the voxels is missing, expected {name}; restore the pair")
    return data


def _flag(fields: Mapping[str, str], key: str, default: str) -> bool:
    value = fields.get(key, default)
    if value.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{key} = {value[:40]}, expected True or False; the header is damaged")
    return value.lower() in ("true", "1")


def _integers(fields: Mapping[str, str], key: str, default: str = "") -> list[int]:
    try:
        found = [int(word) for word in _words(fields.get(key, default))]
    except ValueError as error:
        raise ValueError(f"{key} = {fields[key][:40]}, expected whole numbers; the header is damaged") from error
    if not found:
        raise ValueError(f"{key} is empty, expected whole numbers; the header is damaged")
    return found


def _first(fields: Mapping[str, str], keys: Sequence[str], default: list[float], count: int) -> list[float]:
    """The numbers of the first key that is there."""
    key = next((key for key in keys if key in fields), None)
    if key is None:
        return default
    try:
        found = [float(word) for word in _words(fields[key])]
    except ValueError as error:
        raise ValueError(f"{key} = {fields[key][:40]}, expected numbers; the header is damaged") from error
    if len(found) != count:
        raise ValueError(f"{key} has {len(found)} numbers, expected {count}; the header is damaged")
    return found


def _words(text: str) -> list[str]:
    """What lies between the spaces; Python alone would take 1_0 for a number."""
    if "_" in text:
        raise ValueError("an underscore among numbers")
    return text.split()
