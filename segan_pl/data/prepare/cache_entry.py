"""One entry of the cache on disk: arrays and a sidecar with a checksum of each, itself included.

Checksums are CRC-32: 5.4 GB/s a thread here, the 11 GB of 300 cases in 2 s, three times as fast as SHA-256. They guard
against accident (torn, flipped, mixed-up files), not against somebody who forges an entry.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import ABSENT, ORIGIN_TOLERANCE_MM, Case, CaseError, Geometry, PreparedCase
from segan_pl.data.io import read_grid, same_affine
from segan_pl.data.io.streams import deflate
from segan_pl.data.scan import scan_of

# Of the entry; another number means another layout on disk.
FORMAT = 3
# Of files; 2 converts lengths to mm. A sidecar without it is of before, and right where files count in mm.
READER = 2
SIDECAR = "entry.json"
IMAGE, LABEL, NATIVE = "image.npy", "label.npy", "native.npy"
# The level: 240 x 240 x 155 labels become about 100 kB; more levels take longer for a few kB.
FAST = 1
# Stays in the processor's cache between the copy and the checksum.
CHUNK_BYTES = 1 << 18
# Of a MetaImage file, more than its header may have.
HEAD_BYTES = 1 << 16

# Files that this process has read to the end.
_verified: set[tuple[str, int, int, int, int]] = set()


class DamagedError(ValueError):
    """What is wrong with an entry that should be whole."""


class UnreadableError(DamagedError):
    """An entry that the operating system does not let us read; perhaps another user's."""


def sources(case: Case) -> list[tuple[str, Path, int | None]]:
    """(modality or "mask", absolute file, its volume in a 4-D file or None)."""
    files = [*case.images.items(), *([("mask", case.mask)] if case.mask else [])]
    return [(part, path.absolute(), case.channels.get(part)) for part, path in files]


def entry_name(
    case: str, files: Sequence[tuple[str, Path, int | None]], origin_tolerance_mm: float = ORIGIN_TOLERANCE_MM
) -> str:
    """The name of a case's entry: of the sources' paths, sizes and times; no byte is read.

    Whole paths, since copies may keep their times. Another tolerance than the default makes another entry: what one
    allows to lie together, the other may refuse.

    Raises:
        CaseError: A source is gone.
    """
    facts: list[object] = [case]
    if origin_tolerance_mm != ORIGIN_TOLERANCE_MM:
        facts.append(("origin_tolerance_mm", float(origin_tolerance_mm)))
    for part, path, channel in files:
        try:
            seen = [(str(half), stat.st_size, stat.st_mtime_ns) for half in halves(path) if (stat := half.stat())]
        except OSError as error:
            raise CaseError(f"{case}: {error.filename} cannot be read ({error.strerror}); restore the file") from error
        facts.append((part, channel, *seen))
    safe = re.sub(r"[^\w.-]", "_", case)[:80].lstrip(".")
    return f"{safe}-{hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()}"


def halves(path: Path) -> list[Path]:
    """A file, and where it exists the one next to it that holds its voxels (MetaImage) or its header (.img)."""
    others: list[str] = []
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    stem, _, suffix = name.rpartition(".")
    if suffix.lower() in ("mhd", "mha"):
        with path.open("rb") as stream:
            named = re.search(rb"ElementDataFile\s*=\s*([^\r\n]+)", stream.read(HEAD_BYTES))
        others = [os.fsdecode(named[1].strip())] if named else []
    if suffix.lower() in ("hdr", "img"):
        others = [f"{stem}.{end}" for end in ("hdr", "img", "img.gz", "HDR", "IMG", "IMG.gz")]
    return [path, *(half for other in others if (half := path.parent / other) != path and half.exists())]


def write_entry(place: Path, record: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> None:
    """The arrays, then the sidecar with their sizes and checksums, and READER.

    Nothing is flushed to the disk here: what a power failure takes, the checksums find.

    Args:
        place: An empty folder.
        record: Of the case; "format", "reader", "files" and "digest" are added.
        arrays: File name to C-contiguous array.
    """
    files = {name: _write_array(place / name, array) for name, array in arrays.items()}
    content = {"format": FORMAT, "reader": READER, **record, "files": files}
    text = json.dumps({**content, "digest": _digest(content)}, indent=1)
    (place / SIDECAR).write_text(text, encoding="utf-8")


def read_sidecar(place: Path) -> dict[str, Any] | None:
    """An entry's sidecar, its files there and of the right sizes; None where there is no entry.

    Raises:
        DamagedError: There is something else; UnreadableError where nobody can say.
    """
    try:
        record = json.loads((place / SIDECAR).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise DamagedError(f"{SIDECAR} holds no record")
        if record.get("format") != FORMAT:
            raise DamagedError(f"it has format {record.get('format')!r}, this release writes {FORMAT}")
        if record.get("digest") != _digest({key: value for key, value in record.items() if key != "digest"}):
            raise DamagedError(f"{SIDECAR} was changed")
        if record["key"] != place.name:
            raise DamagedError(f"it was made as {record['key']}")
        for name, file in record["files"].items():
            if (size := (place / name).stat().st_size) != file["bytes"]:
                raise DamagedError(f"{name} has {size} bytes, expected {file['bytes']}")
    except (FileNotFoundError, NotADirectoryError) as error:
        if not place.exists():
            return None
        raise DamagedError(f"{Path(error.filename).name} is missing") from error
    except OSError as error:
        raise UnreadableError(f"it cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(f"{SIDECAR} is no JSON") from error
    return dict(record)


def require_present_geometry(record: Mapping[str, Any]) -> None:
    """Refuse an entry of a reader that took the numbers of a file in metres or microns for mm.

    One header is read, once a process, of an entry that does not say its reader; it is a few kB.

    Raises:
        DamagedError: The first source's header, read today, says another place.
    """
    if record.get("reader") == READER:
        return
    file, affine = Path(record["sources"][0][1]), np.array(record["geometry"]["affine"], np.float64)
    try:
        now = _affine_now(file)
    except CaseError as error:
        raise DamagedError(str(error)) from error
    if not same_affine(affine, now):
        raise DamagedError("an earlier version took its lengths, which are not in mm, for mm")


@functools.cache
def _affine_now(file: Path) -> NDArray[np.float64]:
    """(4, 4), of a source's header; a source that changes makes another entry."""
    return read_grid(file).affine


def verify_arrays(place: Path, record: Mapping[str, Any]) -> None:
    """Read an entry's arrays to the end, unless this process has, and they are still the same files.

    Raises:
        DamagedError: A file differs from its checksum, or is gone.
    """
    for name, file in record["files"].items():
        try:
            with open(place / name, "rb", buffering=0) as stream:
                stat = os.fstat(stream.fileno())
                known = (str(place / name), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                if known in _verified:
                    continue
                found = _checksum(stream)
        except OSError as error:
            raise DamagedError(f"{name} cannot be read ({error.strerror})") from error
        if found != file["crc32"]:
            raise DamagedError(f"{name} has checksum {found}, expected {file['crc32']}")
        _verified.add(known)


def packed(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels as compressed bytes, (n,); `native_labels` is the inverse."""
    return np.frombuffer(deflate.compress(labels.tobytes(), FAST), np.uint8)


def native_labels(file: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """(D, H, W) labels on the native grid, as the mask's file has them; the file itself may be gone.

    Args:
        file: NATIVE of an entry.
        geometry: The entry's.
    """
    return np.frombuffer(deflate.decompress(np.load(file)), np.uint8).reshape(geometry.native)


def open_arrays(
    place: Path, record: Mapping[str, Any], case: str, modalities: Sequence[str], absent: Sequence[str]
) -> PreparedCase:
    """Memory maps of a whole entry; `modalities` become rows of its image.

    Raises:
        CaseError: The entry lacks a modality that is not among `absent`.
    """
    rows = {modality: row for row, modality in enumerate(record["modalities"])}
    if lacking := [modality for modality in modalities if modality not in rows and modality not in absent]:
        raise CaseError(f"{case}: no {lacking}, found {record['modalities']}; choose --data.modalities")
    geometry = Geometry.from_dict(record["geometry"])
    return PreparedCase(
        name=case,
        modalities=tuple(modalities),
        image=np.load(place / IMAGE, mmap_mode="r"),
        label=np.load(place / LABEL, mmap_mode="r") if LABEL in record["files"] else None,
        native=place / NATIVE if NATIVE in record["files"] else None,
        geometry=geometry,
        outside={int(label): count for label, count in record["outside"].items()},
        channels=tuple(rows.get(modality, ABSENT) for modality in modalities),
        labels=tuple(int(label) for label in record["labels"]),
        scan=scan_of(geometry, record["bounds"], record.get("zeros", {}), record["preparation"]["scaling"]),
    )


def _digest(content: Mapping[str, Any]) -> str:
    """Of what a sidecar says, however it is spaced."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _checksum(stream: IO[bytes]) -> str:
    """CRC-32 of the rest of a file, 8 hexadecimal digits."""
    value = 0
    while chunk := stream.read(CHUNK_BYTES):
        value = deflate.crc32(chunk, value)
    return f"{value:08x}"


def _write_array(path: Path, array: NDArray) -> dict[str, Any]:
    """Write one .npy file; its size and the checksum of what was written."""
    voxels = array.reshape(-1).view(np.uint8).data
    with open(path, "w+b") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.seek(0)
        value = deflate.crc32(stream.read())
        for start in range(0, len(voxels), CHUNK_BYTES):
            chunk = voxels[start : start + CHUNK_BYTES]
            value = deflate.crc32(chunk, value)
            stream.write(chunk)
        return {"bytes": stream.tell(), "crc32": f"{value:08x}"}
