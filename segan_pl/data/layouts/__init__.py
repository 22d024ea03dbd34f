"""Finding the cases of a data set on disk; one file a layout, none reads a voxel.

A layout is a module with NAME, EXPECTS (its form, for messages), CASE (how a case's folder is named, if that tells it),
recognises(folder) and find(folder).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from segan_pl.data.layouts import (
    brats2015,
    brats2019,
    brats2020,
    brats2021,
    brats2023,
    lgg,
    manifest,
    msd,
    nnunet,
)
from segan_pl.data.layouts.listing import DEPTH, Folder, Found, holds_images, shortened, suffix_of
from segan_pl.data.layouts.naming import modality_of
from segan_pl.data.volume import Case, CaseError
from segan_pl.errors import UsageError, nearest

__all__ = ["LAYOUTS", "DataSet", "find_cases", "find_data_set", "missing_parts", "modality_of", "require_modalities"]

NESTING = 2  # how many folders down a data set may lie below the given one


class Layout(Protocol):
    """What each layout module offers."""

    NAME: str
    EXPECTS: str
    CASE: re.Pattern[str] | None

    def recognises(self, here: Folder) -> bool:
        """Whether the folder looks like this layout."""

    def find(self, here: Folder) -> Found:
        """All cases in a folder that it recognises."""


@dataclass(frozen=True)
class DataSet:
    """The cases of one data set, before any is looked into.

    Attributes:
        root: The folder (or manifest) that the layout recognised.
        layout: Its name.
        cases: By name.
        native_labels: Which of `labels.CONVENTIONS` the masks follow, or None where nothing says it.
        notes: What a user must know, e.g. folders with images that are none of the layout's cases.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    native_labels: str | None
    notes: tuple[str, ...] = ()


LAYOUTS: dict[str, Layout] = {
    layout.NAME: layout
    for layout in (brats2015, brats2019, brats2020, brats2021, brats2023, msd, nnunet, manifest, lgg)
}


def find_cases(root: Path | str, layout: str = "auto") -> list[Case]:
    """The cases of `find_data_set`."""
    return list(find_data_set(root, layout).cases)


def find_data_set(root: Path | str, layout: str = "auto") -> DataSet:
    """The data set at or below `root`.

    Args:
        root: The data set's folder, or one that holds nothing else of the kind, or a CSV manifest.
        layout: A key of LAYOUTS, or "auto".

    Raises:
        CaseError: No folder, no case, several data sets or layouts, or one name for two cases.
        UsageError: No layout of that name.
    """
    root = Path(root).expanduser()
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"--data.layout {layout}: unknown; {nearest(layout, ['auto', *LAYOUTS])}")
    if root.is_file():
        return _of_manifest(root, layout)
    if not root.is_dir():
        raise CaseError(f"{root}: no such folder; expected a data set; check --data.root")
    place, chosen, skipped = _locate(Folder(root), list(LAYOUTS.values()) if layout == "auto" else [LAYOUTS[layout]])
    found = chosen.find(place)
    if chosen.CASE is not None:
        skipped = [*skipped, *_beside(place, found.beside, chosen)]
    return _data_set(found, chosen, place.path, skipped)


def _of_manifest(path: Path, layout: str) -> DataSet:
    if layout not in ("auto", manifest.NAME) or suffix_of(path.name):
        raise CaseError(f"{path}: is a file; expected the folder of a data set, or a CSV manifest; check --data.root")
    return _data_set(manifest.read_manifest(path), manifest, path, [])


def _data_set(found: Found, layout: Layout, place: Path, notes: Sequence[str]) -> DataSet:
    """The record of what was found.

    Raises:
        CaseError: Nothing was, or a name occurs twice.
    """
    root = found.root or place
    if not found.cases:
        raise CaseError(f"{root}: no case found; expected {layout.EXPECTS}; check --data.root")
    first: dict[str, Case] = {}
    for case in found.cases:
        if (other := first.setdefault(case.name, case)) is not case:
            raise CaseError(
                f"{root}: case {case.name} occurs twice, {_where(other)} and {_where(case)}; expected each name once; "
                f"rename or remove one"
            )
    cases = tuple(sorted(found.cases, key=lambda case: case.name))
    unused = [] if layout in (manifest, msd, nnunet) else _unused(cases)  # those three say it themselves
    return DataSet(root, layout.NAME, cases, found.native_labels, (*found.notes, *notes, *unused))


def _unused(cases: Sequence[Case]) -> list[str]:
    """A note where images lie beside those of the cases and belong to none, perhaps for a name that ends strangely."""
    used = {path for case in cases for path in (*case.images.values(), case.mask) if path is not None}
    beside = {
        place: [name for name in Folder(place).files if suffix_of(name) and place / name not in used]
        for place in sorted({path.parent for path in used})
    }
    strange = [place / names[0] for place, names in beside.items() if names]
    if not strange:
        return []
    count = sum(len(names) for names in beside.values())
    return [
        f"{count} image files in {len(strange)} folders of cases bear no modality's name and are not used: "
        f"{shortened([str(path) for path in strange], 3)}"
    ]


def _where(case: Case) -> str:
    """The folder of a case's files."""
    files = [*case.images.values(), *([case.mask] if case.mask else [])]
    return str(files[0].parent) if files else "without files"


def _locate(root: Folder, tried: Sequence[Layout]) -> tuple[Folder, Layout, list[str]]:
    """The one folder at or below `root` that a layout recognises, nearest first, and what could not be looked into."""
    level, skipped = [root], list[str]()
    for depth in range(NESTING + 1):
        if depth:
            level = [folder for place in level for folder in place.folders if _listed(folder, skipped)]
        hits = [(place, layout) for place in level for layout in tried if layout.recognises(place)]
        if len(hits) == 1:
            return (*hits[0], skipped)
        if hits:
            listed = shortened([f"{place.path} ({layout.NAME})" for place, layout in hits])
            raise CaseError(f"{root.path}: several data sets: {listed}; give one as --data.root, or name --data.layout")
    forms = "; ".join([*skipped, *(f"{layout.NAME}: {layout.EXPECTS}" for layout in tried)])
    raise CaseError(f"{root.path}: no cases found; tried {forms}; check --data.root and --data.layout")


def _listed(folder: Folder, skipped: list[str], depth: int = 0) -> bool:
    """Whether a folder, and those up to `depth` levels down, can be listed; `skipped` is told why it cannot."""
    try:
        holds_images(folder, depth)
    except CaseError as error:
        skipped.append(str(error))
        return False
    return True


def _beside(place: Folder, beside: Sequence[Folder], chosen: Layout) -> list[str]:
    """Notes on images that lie where cases lie and belong to none.

    Raises:
        CaseError: They are another layout's cases.
    """
    skipped: list[str] = []
    strange = [folder for folder in beside if _listed(folder, skipped, DEPTH) and holds_images(folder)]
    for other in LAYOUTS.values():
        pattern = other.CASE
        if hits := [folder for folder in strange if pattern and pattern.fullmatch(folder.path.name)]:
            raise CaseError(
                f"{place.path}: cases of two layouts, {chosen.NAME} and {other.NAME} ({shortened(_paths(hits))}); "
                f"expected one; part them into two folders"
            )
    loose = [name for name in place.files if suffix_of(name)]
    found = f"hold images but fit no case of layout '{chosen.NAME}' and are not used"
    return [
        *skipped,
        *([f"{len(strange)} folders {found}: {shortened(_paths(strange))}"] if strange else []),
        *([f"{len(loose)} image files lie outside any case and are not used: {shortened(loose)}"] if loose else []),
    ]


def _paths(folders: Sequence[Folder]) -> list[str]:
    return [str(folder.path) for folder in folders]


def require_modalities(
    cases: Sequence[Case], modalities: Sequence[str], *, mask: bool = False, allow: bool = False
) -> tuple[list[Case], list[Case]]:
    """Part the cases into complete and incomplete ones, for the caller to report.

    Args:
        cases: As found.
        modalities: Those that a complete case has.
        mask: Whether a complete case has a mask too.
        allow: Return the incomplete ones rather than refuse.

    Raises:
        CaseError: A case is incomplete and `allow` is off, or no case is complete.
    """
    lacking = {case.name: what for case in cases if (what := missing_parts(case, modalities, mask=mask))}
    complete = [case for case in cases if case.name not in lacking]
    if lacking and (not allow or not complete):
        shared = set.intersection(*map(set, lacking.values())) if not complete else set()
        listed = ", ".join(f"{name} (no {', '.join(what)})" for name, what in lacking.items())
        raise CaseError(
            f"{len(lacking)} of {len(cases)} cases are incomplete: "
            f"{f'all lack {sorted(shared)}' if shared else listed}; expected {', '.join(modalities)}"
            f"{' and a mask' if mask else ''}; complete them, choose --data.modalities or set --data.missing=drop"
        )
    return complete, [case for case in cases if case.name in lacking]


def missing_parts(case: Case, modalities: Sequence[str], *, mask: bool = False) -> tuple[str, ...]:
    """Which of the modalities, and "mask" if asked, a case lacks."""
    return (*(m for m in modalities if m not in case.images), *(("mask",) if mask and case.mask is None else ()))
