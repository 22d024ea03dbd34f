"""Prepared cases on disk: memory-mapped arrays with a readable sidecar, safe under many builders at once.

    <directory>/<preparation>/<case>-<sources>/image.npy   (M, D, H, W) float16
                                               label.npy   (D, H, W) uint8, where the case has a mask
                                               native.npy  the mask as its file has it, compressed
                                               entry.json

An entry is built in <preparation>/.building/ by one process at a time and renamed into place, so it is whole or it is
not there. Its checksums are compared when a process opens it for the first time.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segan_pl.data.case import Case, CaseError, PreparedCase
from segan_pl.data.case_pool import cores
from segan_pl.data.prepare.cache_building import (
    FOLDER,
    alone,
    remove_entry,
    remove_leftovers,
    why_unwritable,
    workplace,
)
from segan_pl.data.prepare.cache_entry import (
    IMAGE,
    LABEL,
    NATIVE,
    DamagedError,
    entry_name,
    open_arrays,
    packed,
    read_sidecar,
    require_present_geometry,
    sources,
    verify_arrays,
    write_entry,
)
from segan_pl.data.prepare.case import Prepared, prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError

_LOG = logging.getLogger(__name__)
# At an entry that others damage or remove meanwhile.
ATTEMPTS = 8


def default_directory() -> Path:
    """$SEGAN_PL_CACHE, or ~/.cache/segan_pl/prepared; a folder of the user's in $TMPDIR where that cannot be made.

    Raises:
        UsageError: The folder in $TMPDIR is not the user's own, so that somebody else could change what is trained on.
    """
    named = os.environ.get("SEGAN_PL_CACHE")
    if named:
        return Path(named).expanduser()
    usual = usual_directory()
    # os.path.exists: a home that may not be entered is not there, where Path.exists raises
    there = next((path for path in (usual, *usual.parents) if os.path.exists(path)), usual)
    if usual.is_absolute() and os.access(there, os.W_OK | os.X_OK):
        return usual
    folder = Path(tempfile.gettempdir()) / f"segan_pl-{os.getuid()}"
    remedy = "name a folder by --data.cache_dir or SEGAN_PL_CACHE"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UsageError(f"the cache {folder}: cannot be made ({error.strerror}); {remedy}") from error
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid():
        owner = "is a link" if stat.S_ISLNK(found.st_mode) else f"belongs to user {found.st_uid}"
        raise UsageError(f"the cache {folder}: {owner}, expected a folder of user {os.getuid()}; {remedy}")
    return folder / "prepared"


def usual_directory() -> Path:
    """Where prepared cases lie unless something speaks against it; relative for a user without a home."""
    return Path(os.path.expanduser("~")) / ".cache" / "segan_pl" / "prepared"


def default_threads() -> int:
    """For reading entries, whose checksums run next to each other."""
    # Disks seldom gain from more than 16.
    return min(16, cores())


@dataclass(frozen=True)
class Entry:
    """A whole entry.

    Attributes:
        place: Its folder.
        record: Its sidecar: geometry, label counts, bounds, digests of the sources, notes.
        built: Whether this call built it.
        repaired: What was wrong with the entry that it replaces; "" for none.
    """

    place: Path
    record: dict[str, Any]
    built: bool = False
    repaired: str = ""


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
        self.building = self.folder / FOLDER

    def path(self, case: Case) -> Path:
        """Where the case's entry is or will be: it moves whenever a source's path, size or time changes."""
        return self.folder / entry_name(case.name, sources(case), case.origin_tolerance_mm)

    def lists(self, case: Case) -> bool:
        """Whether an entry of the case is there, by its sidecar and its files' sizes; no array is read."""
        return _examine(self.path(case), arrays=False)[0] is not None

    def find(self, case: Case) -> Entry | None:
        """The case's entry where a whole one is there, every byte compared once a process; nothing is built."""
        return _examine(self.path(case))[0]

    def holds(self, case: Case) -> bool:
        """Whether `find` finds it."""
        return self.find(case) is not None

    def verify(self, cases: Sequence[Case], threads: int | None = None) -> list[bool]:
        """For each case whether the cache `holds` it; read in threads, so that opening them later is cheap.

        Args:
            cases: Any.
            threads: Default one a processor, at most 16.

        Raises:
            CaseError: A source is gone.
        """
        with ThreadPoolExecutor(threads or default_threads()) as pool:
            return list(pool.map(self.holds, cases))

    def build(self, case: Case) -> Path:
        """The folder of the case's `entry`."""
        return self.entry(case).place

    def entry(self, case: Case) -> Entry:
        """The case's entry, prepared now unless it is there; a damaged one is replaced.

        Of many processes that ask for one entry, one builds it and the others wait for it.

        Raises:
            CaseError: The case cannot be used, or the cache cannot be written.
        """
        final = self.path(case)
        for _ in range(ATTEMPTS):
            if entry := _examine(final)[0] or self._build(case, final):
                return entry
        raise _unstable(final)

    def open(self, case: Case, modalities: Sequence[str], *, absent: Sequence[str] = ()) -> PreparedCase:
        """The case, memory-mapped, with the modalities asked for in the order asked for; built if need be.

        An entry that had to be built again because it was damaged is told in the log.

        Args:
            case: As found.
            modalities: In any order.
            absent: Those of them that the case may lack; they become ABSENT channels.

        Raises:
            CaseError: The case lacks a modality, or could not be built.
        """
        for _ in range(ATTEMPTS):
            entry = self.entry(case)
            if entry.repaired:
                _LOG.warning("note: %s: its cache entry was damaged (%s) and is rebuilt", case.name, entry.repaired)
            try:
                # Of a new entry too: what was written may not be what was meant.
                verify_arrays(entry.place, entry.record)
                return open_arrays(entry.place, entry.record, case.name, modalities, absent)
            except (DamagedError, FileNotFoundError):
                # Another process took the entry for damaged and replaces it, or it is damaged.
                continue
        raise _unstable(self.path(case))

    def _build(self, case: Case, final: Path) -> Entry | None:
        """Prepare the case, unless another process does so first; None where the new entry is damaged already."""
        with ExitStack() as stack:
            with self._writable(case):
                stack.enter_context(alone(self.building, final.name))
            found, damage = _examine(final)
            if found:
                return found
            remove_leftovers(self.building)
            prepared = prepare(case, self.preparation)
            # the entry would have the old files' name
            if self.path(case) != final:
                raise CaseError(f"{case.name}: its files changed while they were read; start again when they rest")
            self._write(case, final, prepared)
            found, _ = _examine(final, arrays=False)
        return replace(found, built=True, repaired=damage) if found else None

    def _write(self, case: Case, final: Path, prepared: Prepared) -> None:
        """The entry, first aside and then in place."""
        arrays: dict[str, Any] = {IMAGE: prepared.image}
        if prepared.label is not None and prepared.native is not None:
            arrays |= {LABEL: prepared.label, NATIVE: packed(prepared.native)}
        needed = sum(array.nbytes for array in arrays.values())
        with self._writable(case, needed), workplace(self.building, needed) as place:
            write_entry(
                place,
                {
                    "key": final.name,
                    "case": case.name,
                    "modalities": list(prepared.modalities),
                    "geometry": prepared.geometry.as_dict(),
                    "labels": {str(label): count for label, count in prepared.labels.items()},
                    "outside": {str(label): count for label, count in prepared.outside.items()},
                    "bounds": {modality: list(bounds) for modality, bounds in prepared.bounds.items()},
                    "zeros": {modality: round(share, 6) for modality, share in prepared.zeros.items()},
                    "origin_tolerance_mm": case.origin_tolerance_mm,
                    "sources": [[part, str(path), channel] for part, path, channel in sources(case)],
                    "digests": dict(prepared.digests),
                    "preparation": self.preparation.as_dict(),
                    "notes": list(prepared.notes),
                },
                arrays,
            )
            _move_into_place(place, final)

    @contextmanager
    def _writable(self, case: Case, needed: int = 0) -> Iterator[None]:
        """Turns what the operating system says of the cache's folder into one line."""
        try:
            yield
        except OSError as error:
            raise CaseError(f"{case.name}: {why_unwritable(self.directory, error, needed)}") from error


def _examine(place: Path, *, arrays: bool = True) -> tuple[Entry | None, str]:
    """A whole entry, or else what is wrong with the one that is there; `arrays` compares them with their checksums."""
    try:
        record = read_sidecar(place)
        if record is not None:
            require_present_geometry(record)
            if arrays:
                verify_arrays(place, record)
    except DamagedError as damage:
        return None, str(damage)
    return (Entry(place, record) if record is not None else None), ""


def _unstable(place: Path) -> CaseError:
    return CaseError(f"{place}: damaged again and again as soon as it is written; check the disk of the cache")


def _move_into_place(place: Path, final: Path) -> None:
    """Rename a finished entry to its name; a damaged one in its way goes, another builder's whole one stays."""
    for _ in range(8):
        try:
            place.rename(final)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        if _examine(final)[0] is not None:
            return
        remove_entry(final, place.parent)
    raise OSError(errno.EBUSY, "an entry in the way cannot be replaced")
