"""Prepared cases on disk: memory-mapped arrays with a readable sidecar, safe under many builders at once.

    <directory>/<preparation>/<case>-<sources>/image.npy   (M, D, H, W) float16
                                               label.npy   (D, H, W) uint8, where the case has a mask
                                               entry.json

An entry is built in <preparation>/.building/ and renamed into place, so it is whole or it is not there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segan_pl.data.preparation import Preparation, Prepared, prepare
from segan_pl.data.volume import Case, CaseError, Geometry, PreparedCase

FORMAT = 1  # of the entry; another number means another layout on disk
SLACK_BYTES = 1 << 20  # beside the arrays
ABANDONED_SECONDS = 24 * 3600  # after which another host's unfinished entry is taken for dead


def default_directory() -> Path:
    """$SEGAN_PL_CACHE, or ~/.cache/segan_pl/prepared."""
    named = os.environ.get("SEGAN_PL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "segan_pl" / "prepared"


class Cache:
    """Prepared cases of one preparation below one folder; cheap to construct and to pickle.

    Args:
        directory: Where all preparations' entries lie; None for the default.
        preparation: What is done to a case; its digest is part of the path.
    """

    def __init__(self, directory: Path | str | None, preparation: Preparation) -> None:
        self.preparation = preparation
        self.directory = Path(directory).expanduser() if directory is not None else default_directory()
        self.folder = self.directory / preparation.digest()

    def path(self, case: Case) -> Path:
        """Where the case's entry is or will be: it moves whenever a source's path, size or time changes."""
        safe = re.sub(r"[^\w.-]", "_", case.name)[:80].lstrip(".")
        return self.folder / f"{safe}-{_source_digest(case)}"

    def holds(self, case: Case) -> bool:
        """Whether a whole entry of the case is there."""
        return _read_entry(self.path(case)) is not None

    def build(self, case: Case) -> Path:
        """The case's entry, prepared now unless it is there; a damaged one is replaced.

        Raises:
            CaseError: The case cannot be used, or the cache cannot be written.
        """
        final = self.path(case)
        if _read_entry(final) is not None:
            return final
        prepared = prepare(case, self.preparation)
        with self._workplace(case, prepared.image.nbytes) as place:
            _write_entry(place, self._record(case, prepared), prepared)
            _move_into_place(place, final)
        return final

    def open(self, case: Case, modalities: Sequence[str]) -> PreparedCase:
        """The case, memory-mapped, with the modalities asked for in the order asked for; built if need be.

        Raises:
            CaseError: The case lacks a modality, or could not be built.
        """
        while True:
            place = self.build(case)
            try:
                record = json.loads((place / "entry.json").read_text(encoding="utf-8"))
                return _open_entry(place, record, case.name, modalities)
            except FileNotFoundError:
                continue  # another process took the entry for damaged and replaces it

    def record(self, case: Case) -> dict[str, Any]:
        """The entry's sidecar (geometry, label counts, bounds, digests, notes); built if need be."""
        return _read_entry(self.build(case)) or self.record(case)

    def _record(self, case: Case, prepared: Prepared) -> dict[str, Any]:
        """What the sidecar says, but for the files' sizes."""
        geometry = prepared.geometry
        return {
            "format": FORMAT,
            "case": case.name,
            "modalities": list(prepared.modalities),
            "native": list(geometry.native),
            "start": list(geometry.start),
            "shape": list(geometry.shape),
            "affine": [list(row) for row in geometry.affine],
            "labels": {str(label): count for label, count in prepared.labels.items()},
            "outside": {str(label): count for label, count in prepared.outside.items()},
            "bounds": {modality: list(bounds) for modality, bounds in prepared.bounds.items()},
            "sources": {part: str(path) for part, path in _sources(case)},
            "digests": dict(prepared.digests),
            "preparation": self.preparation.as_dict(),
            "notes": list(prepared.notes),
        }

    @contextmanager
    def _workplace(self, case: Case, needed: int) -> Iterator[Path]:
        """A folder of this builder alone on the cache's file system, gone afterwards; dead builders' go first."""
        building = self.folder / ".building"
        place = building / f"{socket.gethostname()}+{os.getpid()}+{secrets.token_hex(4)}"
        try:
            building.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(building)
            free = shutil.disk_usage(building).free
            if free < needed + SLACK_BYTES:
                raise OSError(errno.ENOSPC, "disk full")
            place.mkdir()
            yield place
        except OSError as error:
            raise CaseError(_why_unwritable(case, self.directory, error, needed)) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _sources(case: Case) -> list[tuple[str, Path]]:
    """(modality or "mask", absolute file)."""
    files = [*case.images.items(), *([("mask", case.mask)] if case.mask else [])]
    return [(part, path.absolute()) for part, path in files]


def _source_digest(case: Case) -> str:
    """Of the sources' paths, sizes and times: no byte is read. Whole paths, since copies may keep their times."""
    facts: list[object] = [case.name]
    for part, path in _sources(case):
        try:
            stat = path.stat()
        except OSError as error:
            raise CaseError(f"{case.name}: {path} cannot be read ({error.strerror}); restore the file") from error
        facts.append((part, str(path), stat.st_size, stat.st_mtime_ns))
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def _write_entry(place: Path, record: dict[str, Any], prepared: Prepared) -> None:
    """The arrays, then the sidecar with their sizes."""
    np.save(place / "image.npy", prepared.image)
    if prepared.label is not None:
        np.save(place / "label.npy", prepared.label)
    files = {path.name: path.stat().st_size for path in place.iterdir()}
    (place / "entry.json").write_text(json.dumps({**record, "files": files}, indent=1), encoding="utf-8")


def _read_entry(place: Path) -> dict[str, Any] | None:
    """An entry's sidecar, or None where the entry is missing or damaged."""
    try:
        record = json.loads((place / "entry.json").read_text(encoding="utf-8"))
        whole = record["format"] == FORMAT and "image.npy" in record["files"]
        sizes = all((place / name).stat().st_size == size for name, size in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole and sizes else None


def _open_entry(place: Path, record: dict[str, Any], case: str, modalities: Sequence[str]) -> PreparedCase:
    """Memory maps of a whole entry; `modalities` become rows of its image."""
    if lacking := [modality for modality in modalities if modality not in record["modalities"]]:
        raise CaseError(f"{case}: no {lacking}, found {record['modalities']}; choose --data.modalities")
    affine = tuple(tuple(row) for row in record["affine"])
    return PreparedCase(
        name=case,
        modalities=tuple(modalities),
        image=np.load(place / "image.npy", mmap_mode="r"),
        label=np.load(place / "label.npy", mmap_mode="r") if "label.npy" in record["files"] else None,
        geometry=Geometry(tuple(record["native"]), tuple(record["start"]), tuple(record["shape"]), affine),
        outside={int(label): count for label, count in record["outside"].items()},
        channels=tuple(record["modalities"].index(modality) for modality in modalities),
        labels=tuple(int(label) for label in record["labels"]),
    )


def _move_into_place(place: Path, final: Path) -> None:
    """Rename a finished entry to its name; a damaged one in its way goes, another builder's whole one stays."""
    for _ in range(8):
        try:
            place.rename(final)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        if _read_entry(final) is not None:
            return
        aside = place.with_name(f"{place.name}.damaged")
        try:
            final.rename(aside)
        except FileNotFoundError:
            continue  # another builder moved it away
        shutil.rmtree(aside, ignore_errors=True)
    raise OSError(errno.EBUSY, "an entry in the way cannot be replaced")


def _remove_leftovers(building: Path) -> None:
    """Remove what builders left that no longer run: dead processes of this host, anything a day old."""
    for path in building.iterdir():
        host, _, rest = path.name.partition("+")
        process = rest.partition("+")[0]
        try:
            old = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
        except FileNotFoundError:
            continue  # its builder finished
        if old or (host == socket.gethostname() and process.isdigit() and not _runs(int(process))):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether a process of that number exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _why_unwritable(case: Case, directory: Path, error: OSError, needed: int) -> str:
    """One line: what the cache needs and how to give it."""
    remedy = "set SEGAN_PL_CACHE or --data.cache to another folder"
    free = shutil.disk_usage(directory).free if directory.exists() else needed
    # NumPy's short write carries no errno, so the free space is asked too.
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and free < needed):
        return (
            f"{case.name}: the disk of the cache {directory} is full: {needed / 1e6:.1f} MB needed, "
            f"{free / 1e6:.1f} MB free; make room, or {remedy}"
        )
    return f"{case.name}: the cache {directory} cannot be written ({error.strerror or error}); {remedy}"
