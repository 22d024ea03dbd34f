"""Entries of the cache that nothing will use again: found, told apart from what only looks so, and removed on request.

An entry says which files it was made from. It is an orphan when these have changed or are gone, when it is damaged or
of another format, or when its builder died. Files on a disk that is not mounted look gone too; so they count as gone
only below a data set that is there, and where the folder that held them, or the one above, still holds something.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segan_pl.data.case import ORIGIN_TOLERANCE_MM, CaseError
from segan_pl.data.prepare.cache_building import FOLDER, abandoned, alone, remove_entry
from segan_pl.data.prepare.cache_entry import DamagedError, UnreadableError, entry_name, read_sidecar
from segan_pl.data.prepare.cases import size

Verdict = Literal["orphan", "away", "kept"]
PREPARATION, ENTRY = re.compile(r"[0-9a-f]{12}"), re.compile(r".+-[0-9a-f]{16}")
# A folder with any other file is none of ours.
FILES = {"image.npy", "label.npy", "native.npy", "entry.json"}


@dataclass(frozen=True)
class Found:
    """Something in the cache.

    Attributes:
        place: Its folder.
        bytes: On the disk.
        verdict: "orphan"; "away" where its sources are out of reach; "kept" where they are as they were.
        why: In words; "" for kept ones.
        preparation: What its sidecar says was done; "" where it does not say.
    """

    place: Path
    bytes: int
    verdict: Verdict
    why: str = ""
    preparation: str = ""


def survey(directory: Path, root: Path) -> list[Found]:
    """Everything in a cache, all preparations, by place.

    Args:
        directory: Of the cache.
        root: The folder of a data set that was found; what is gone is judged only below it.
    """
    found = []
    # Folders of entries, whole or not; a cache's folder may hold other things, which are none of ours.
    for place in sorted(directory.glob("[0-9a-f]*/*-*")):
        named = PREPARATION.fullmatch(place.parent.name) and ENTRY.fullmatch(place.name)
        if named and place.is_dir() and not place.is_symlink() and {path.name for path in place.iterdir()} <= FILES:
            found.append(_judged(place, root.absolute()))
    left = [path for building in directory.glob(f"*/{FOLDER}") for path in abandoned(building)]
    why = "left by a builder that no longer runs"
    return sorted([*found, *(Found(path, _bytes(path), "orphan", why) for path in left)], key=lambda one: one.place)


def remove(orphans: Sequence[Found], root: Path) -> tuple[list[Found], list[str]]:
    """Remove what `survey` found to be orphans, unless that has changed since.

    Returns:
        Those removed, and a line for each that was not.
    """
    removed: list[Found] = []
    kept: list[str] = []
    for one in orphans:
        try:
            why = _remove(one, root)
        except OSError as error:
            why = f"cannot be removed ({error.strerror or error})"
        if why:
            kept.append(f"{one.place}: {why}")
        else:
            removed.append(one)
    return removed, kept


def lines(found: Sequence[Found], folder: Path) -> list[str]:
    """What a survey found, for people.

    Args:
        found: As `survey` returned it.
        folder: Of the preparation that is asked about.
    """
    away = [one for one in found if one.verdict == "away"]
    kept: dict[Path, list[Found]] = {}
    for one in found:
        if one.verdict == "kept":
            kept.setdefault(one.place.parent, []).append(one)
    reach = f"out of reach: {_many(away)} whose files are not there; mount their disk, or give their --root"
    return [
        *(f"orphan: {one.place} ({size(one.bytes)}): {one.why}" for one in found if one.verdict == "orphan"),
        *([f"{reach}; kept:"] if away else []),
        *(f"  {one.place} ({size(one.bytes)}): {one.why}" for one in away),
        f"kept: {_many(kept.pop(folder, []))} of this preparation",
        *(
            f"kept: {_many(some)} of another preparation, {other.name}: {some[0].preparation}"
            for other, some in sorted(kept.items())
        ),
    ]


def _many(found: Sequence[Found]) -> str:
    return f"{len(found)} entries ({size(sum(one.bytes for one in found))})"


def _remove(one: Found, root: Path) -> str:
    """Remove one; why not, or "" where it is gone."""
    if one.place.parent.name == FOLDER:
        shutil.rmtree(one.place)
        return ""
    building = one.place.parent / FOLDER
    with alone(building, one.place.name, patience=0) as busy:
        if busy:
            return "is being built again"
        if one.place.exists() and _judged(one.place, root.absolute()).verdict != "orphan":
            return "is in use again"
        remove_entry(one.place, building)
    return ""


def _judged(place: Path, root: Path) -> Found:
    """One entry."""
    try:
        record = read_sidecar(place)
    except UnreadableError as error:
        return Found(place, _bytes(place), "away", str(error))
    except DamagedError as damage:
        return Found(place, _bytes(place), "orphan", str(damage))
    if record is None:
        return Found(place, 0, "orphan", "it was removed meanwhile")
    verdict, why = _of_sources(place, record, root)
    return Found(place, _bytes(place), verdict, why, json.dumps(record["preparation"]))


def _of_sources(place: Path, record: dict[str, Any], root: Path) -> tuple[Verdict, str]:
    """Whether the files that an entry was made from still justify it."""
    files = [(part, Path(path), channel) for part, path, channel in record["sources"]]
    lost = [path for _, path, _ in files if not path.exists()]
    if lost:
        # Deleted, rather than on a disk that is not mounted, where the folder that held it still holds something.
        holders = [path.parent if path.parent.is_dir() else path.parent.parent for path in lost]
        gone = all(one.is_relative_to(root) and one.is_dir() and any(one.iterdir()) for one in holders)
        return ("orphan", f"{lost[0]} is gone") if gone else ("away", f"{lost[0]} is not there")
    try:
        tolerance = record.get("origin_tolerance_mm", ORIGIN_TOLERANCE_MM)
        same = entry_name(record["case"], files, tolerance) == place.name
    except CaseError as error:
        return "away", str(error)
    return ("kept", "") if same else ("orphan", f"its sources changed since, {files[0][1].parent}")


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
