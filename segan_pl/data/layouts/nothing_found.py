"""What to say of a folder in which no layout found a case: what does lie there, and what to do about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from segan_pl.data.case import CaseError
from segan_pl.data.layouts.dataset_json import FILE, split_channel
from segan_pl.data.layouts.folders import Folder, part_of, suffix_of
from segan_pl.data.layouts.layout import Layout
from segan_pl.data.layouts.table import header

# How far down, and how many folders, are looked into for advice.
LEVELS, FOLDERS = 5, 300
DICOM_SUFFIXES, DICOM_AT, DICOM_MAGIC = (".dcm", ".ima"), 128, b"DICM"
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
MANIFEST = "or list the files in a CSV manifest, with columns case, mask and one for each modality (docs/data.md)"


def nothing_found(root: Folder, tried: Sequence[Layout], layouts: Sequence[Layout]) -> str:
    """What lies in a folder without a case, and what to do.

    Args:
        root: The folder that was given.
        tried: The layouts that were looked for.
        layouts: All that there are.
    """
    below = list(_below(root))
    if elsewhere := _data_set_near(root, below, layouts):
        place, layout = elsewhere
        if place is root and layout not in tried:
            other = f"the folder is of layout '{layout.NAME}': give --data.layout {layout.NAME}"
            return f"'{tried[0].NAME}' expects {tried[0].EXPECTS}; {other}"
        where = "above" if place.path in root.path.absolute().parents else "further down"
        return f"the data set is {where}: give --root {place.path} (layout '{layout.NAME}')"
    held: dict[str, list[Path]] = {}
    for path in (folder.path / name for folder in below for name in folder.files):
        held.setdefault(_kind(path), []).append(path)
    return f"it holds {_listed(held)}; {_advice(held, below, tried if len(tried) == 1 else layouts)}"


def _below(root: Folder) -> Iterator[Folder]:
    """The folder and those in it, nearest first; some of them where there are very many."""
    level, seen = [root], 0
    for _ in range(LEVELS + 1):
        following: list[Folder] = []
        for folder in level:
            try:
                following += folder.folders
            except CaseError:  # told as the reason why nothing was found
                continue
            yield folder
            if (seen := seen + 1) >= FOLDERS:
                return
        level = following


def _data_set_near(root: Folder, below: Sequence[Folder], layouts: Sequence[Layout]) -> tuple[Folder, Layout] | None:
    """The nearest folder that a layout knows: here or further down, else the higher of the two above."""
    for place in [*below, *(Folder(path) for path in reversed(list(root.path.absolute().parents)[:2]))]:
        for layout in layouts:
            try:
                if layout.recognises(place):
                    return place, layout
            except CaseError:
                continue
    return None


def _kind(path: Path) -> str:
    """What a file is by its name, or by its first bytes where the name says nothing."""
    lower = path.name.lower()
    if suffix := suffix_of(path.name):
        return f"{suffix.lower()} files"
    if lower.endswith(DICOM_SUFFIXES):
        return "DICOM files"
    # DICOM's names often end with a number.
    if not path.suffix or path.suffix[1:].isdigit():
        with suppress(OSError), path.open("rb") as file:
            if file.read(DICOM_AT + len(DICOM_MAGIC))[DICOM_AT:] == DICOM_MAGIC:
                return "DICOM files"
    if lower.endswith(ARCHIVES):
        return "archives"
    return f"{path.suffix.lower()} files" if path.suffix else "files without a suffix"


def _listed(held: Mapping[str, Sequence[Path]]) -> str:
    """The most frequent kinds, with their folders and an example."""
    if not held:
        return "no file"
    some = sorted(held.items(), key=lambda item: -len(item[1]))[:3]
    return ", ".join(
        f"{_counted(len(paths), kind)} in {_counted(len({p.parent for p in paths}), 'folders')} (e.g. {paths[0].name})"
        for kind, paths in some
    )


def _counted(number: int, things: str) -> str:
    return f"1 {re.sub('s(?= |$)', '', things, count=1)}" if number == 1 else f"{number} {things}"


def _advice(held: Mapping[str, Sequence[Path]], below: Sequence[Folder], layouts: Sequence[Layout]) -> str:
    if tables := [path for path in held.get(".csv files", ()) if "case" in header(path)]:
        return f"if {tables[0].name} lists the cases, give it: --root {tables[0]}"
    images = [path for paths in held.values() for path in paths if suffix_of(path.name)]
    if images:
        nearest = layouts[0].NAME if len(layouts) == 1 else _nearest(images, below)
        form = next((layout.EXPECTS for layout in layouts if nearest == layout.NAME), "")
        return f"{f'layout {nearest!r} would expect {form}; ' if form else ''}rename and move them, {MANIFEST}"
    if "DICOM files" in held:
        return "convert them to NIfTI, e.g. with dcm2niix, and name them as a layout does, " + MANIFEST
    if "archives" in held:
        return "unpack them, and give the folder of the cases as --root"
    names = ", ".join(layout.NAME for layout in layouts)
    return f"check --root: expected NIfTI, MetaImage or Analyze files in a layout of docs/data.md ({names})"


def _nearest(images: Sequence[Path], below: Sequence[Folder]) -> str | None:
    """The layout whose files are named like most of these; None where they are named like none."""
    votes: Counter[str] = Counter()
    for path in images:
        stem = path.name[: -len(suffix_of(path.name) or "")]
        if split_channel(stem):
            votes["nnunet"] += 1
        elif stem.startswith("VSD."):
            votes["brats2015"] += 1
        elif part_of(stem) not in (None, "mask"):
            votes["brats2023" if stem.rsplit("-", 1)[-1] in ("t1n", "t1c", "t2w", "t2f", "seg") else "brats2021"] += 1
    if any(FILE in folder.files for folder in below):
        return "msd" if not votes["nnunet"] else "nnunet"
    return votes.most_common(1)[0][0] if votes else None
