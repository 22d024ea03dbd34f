"""Finding the cases of a data set on disk, in a known layout or in one of the user's own; no voxel is read.

`layout.py` says what a layout is; the BraTS challenges are the table in `brats.py`, the data sets of a brain's tissues
are in `tissues.py`, the others a module each.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segan_pl.data.case import Case, CaseError, ordered
from segan_pl.data.label_names import LabelNames
from segan_pl.data.layouts import lgg, manifest
from segan_pl.data.layouts.brats import BRATS
from segan_pl.data.layouts.dataset_json import MSD, NNUNET
from segan_pl.data.layouts.folders import DEPTH, Folder, Found, holds_images, modality_of, shortened, suffix_of
from segan_pl.data.layouts.layout import Layout, imported_layout, require_found
from segan_pl.data.layouts.nothing_found import nothing_found
from segan_pl.data.layouts.tissues import TISSUES
from segan_pl.errors import UsageError, nearest, own_packages

__all__ = [
    "LAYOUTS",
    "DataSet",
    "Folder",
    "Found",
    "Layout",
    "find_cases",
    "find_data_set",
    "missing_parts",
    "modality_of",
    "require_distinct",
    "require_modalities",
]

MODALITY = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
# How many folders down a data set may lie below the given one.
NESTING = 2


@dataclass(frozen=True)
class DataSet:
    """The cases of one data set, before any is looked into.

    Attributes:
        root: The folder (or manifest) that the layout recognised.
        layout: Its name.
        cases: By name.
        native_labels: Which of `labels.CONVENTIONS` the masks follow, or None where nothing says it.
        notes: What a user must know, e.g. folders with images that are none of the layout's cases.
        names: What the data set itself calls its labels, where it does.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    native_labels: str | None
    notes: tuple[str, ...] = ()
    names: LabelNames | None = None

    def tolerating(self, origin_tolerance_mm: float) -> DataSet:
        """The same, its cases' files as far apart as told."""
        if not 0 <= origin_tolerance_mm < math.inf:
            raise UsageError(f"--data.origin_tolerance_mm {origin_tolerance_mm}: expected mm, 0 or more")
        cases = (replace(case, origin_tolerance_mm=origin_tolerance_mm) for case in self.cases)
        return replace(self, cases=tuple(cases))


LAYOUTS: dict[str, Layout] = {layout.NAME: layout for layout in (*BRATS, MSD, NNUNET, manifest, lgg, *TISSUES)}


def found_by_themselves() -> list[Layout]:
    """The layouts that "auto" looks for: all but those that take other files of a data set that it finds."""
    return [layout for layout in LAYOUTS.values() if not getattr(layout, "BY_NAME", False)]


def find_cases(root: Path | str, layout: str = "auto") -> list[Case]:
    """The cases of `find_data_set`."""
    return list(find_data_set(root, layout).cases)


def find_data_set(root: Path | str, layout: str = "auto") -> DataSet:
    """The data set at or below `root`.

    Args:
        root: The data set's folder, or one that holds nothing else of the kind, or a CSV manifest.
        layout: A key of LAYOUTS, the import path of a layout of your own, or "auto".

    Raises:
        CaseError: No case, several data sets or layouts, or one name for two cases.
        UsageError: No such folder, or no layout of that name.
    """
    root = Path(root).expanduser()
    if layout != "auto" and "." not in layout and layout not in (*LAYOUTS, *own_packages()):
        raise UsageError(
            f"--data.layout {layout}: unknown; {nearest(layout, ['auto', *LAYOUTS])}; one of your own is given by its "
            f"import path, e.g. my_package.my_layout"
        )
    tried = found_by_themselves() if layout == "auto" else [LAYOUTS.get(layout) or imported_layout(layout)]
    if root.is_file():
        if layout not in ("auto", manifest.NAME) or suffix_of(root.name):
            raise UsageError(
                f"{root}: is a file; expected the folder of a data set, or a manifest (CSV, TSV or JSON); check --root"
            )
        return _data_set(manifest.read_manifest(root), manifest, root, [])
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected a data set; check --root")
    place, chosen, skipped = _locate(Folder(root), tried)
    found = chosen.find(place)
    if not isinstance(found, Found):
        raise UsageError(f"--data.layout {layout}: find returned {type(found).__name__}; expected layouts.Found")
    if getattr(chosen, "CASE", None) is not None or found.others:
        skipped = [*skipped, *_notes_on_others(place, found, chosen)]
    return _data_set(found, chosen, place.path, skipped)


def _data_set(found: Found, layout: Layout, place: Path, notes: Sequence[str]) -> DataSet:
    """The record of what was found.

    Raises:
        CaseError: Nothing was, a name occurs twice, or two differ in letters that some disks hold for the same.
    """
    root = found.root or place
    if not found.cases:
        raise CaseError(f"{root}: no case found; expected {layout.EXPECTS}; check --root")
    require_found(root, layout, found)
    first: dict[str, Case] = {}
    for case in found.cases:
        if (other := first.setdefault(case.name, case)) is not case:
            files = ([*one.images.values(), *([one.mask] if one.mask else [])] for one in (other, case))
            here, there = (str(some[0].parent) if some else "without files" for some in files)
            raise CaseError(
                f"{root}: case {case.name} occurs twice, {here} and {there}; expected each name once; rename or remove "
                f"one"
            )
    require_distinct(root, "cases", [case.name for case in found.cases])
    require_distinct(root, "patients", {case.patient for case in found.cases})
    modalities = sorted({modality for case in found.cases for modality in case.images})
    # A modality's name is one of options, tables and files too.
    if strange := [one for one in modalities if not MODALITY.fullmatch(one) or one == "mask"]:
        raise CaseError(
            f"{root}: layout '{layout.NAME}' names a modality {strange[0]!r}; expected small letters, digits and _, "
            f"e.g. t1_ir; rename it"
        )
    cases = tuple(sorted(found.cases, key=lambda case: case.name))
    unused = [] if layout in (manifest, MSD, NNUNET) else _unused(cases)  # those three say it themselves
    return DataSet(root, layout.NAME, cases, found.native_labels, (*found.notes, *notes, *unused), found.names)


def require_distinct(root: Path, what: str, names: Iterable[str]) -> None:
    """Refuse names that differ only in capitals or in Unicode form: one file name may be both.

    Args:
        root: Of the data set, for the message.
        what: "cases" or "patients".
        names: All of them.

    Raises:
        CaseError: With both names.
    """
    first: dict[str, str] = {}
    for name in sorted(names):
        if (other := first.setdefault(unicodedata.normalize("NFD", name).casefold(), name)) == name:
            continue
        form = unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name)
        differ = "in Unicode form (composed or not)" if form else "in capitals"
        alike = "one file on macOS and Windows; rename one of them"
        alike = "perhaps one, whose scans would be on two sides; spell them alike" if what == "patients" else alike
        raise CaseError(f"{root}: {what} {other!a} and {name!a} differ only {differ}: {alike}")


def _unused(cases: Sequence[Case]) -> list[str]:
    """A note where images lie in folders of cases and are not used, perhaps for a name that ends strangely."""
    used = {path for case in cases for path in (*case.images.values(), case.mask) if path is not None}
    unused = {
        place: [name for name in Folder(place).files if suffix_of(name) and place / name not in used]
        for place in sorted({path.parent for path in used})
    }
    strange = [place / names[0] for place, names in unused.items() if names]
    if not strange:
        return []
    count = sum(len(names) for names in unused.values())
    return [
        f"{count} image files in {len(strange)} folders of cases are by their names no part of a case and not used: "
        f"{shortened([str(path) for path in strange], 3)}"
    ]


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
            mixed = len({place.path for place, _ in hits}) == 1 and all(getattr(one, "CASE", None) for _, one in hits)
            fix = "part them into folders of their own" if mixed else "give one as --root, or name --data.layout"
            raise CaseError(f"{root.path}: several data sets: {listed}; {fix}")
    found = nothing_found(root, tried, list(LAYOUTS.values()))
    raise CaseError(f"{root.path}: no cases found; {'; '.join([*skipped, found])}")


def _listed(folder: Folder, skipped: list[str], depth: int = 0) -> bool:
    """Whether a folder, and those up to `depth` levels down, can be listed; `skipped` is told why it cannot."""
    try:
        holds_images(folder, depth)
    except CaseError as error:
        skipped.append(str(error))
        return False
    return True


def _notes_on_others(place: Folder, found: Found, chosen: Layout) -> list[str]:
    """Notes on images that lie where cases lie and belong to none.

    Raises:
        CaseError: They are another layout's cases.
    """
    skipped: list[str] = []
    strange = [folder for folder in found.others if _listed(folder, skipped, DEPTH) and holds_images(folder)]
    for other in LAYOUTS.values():
        pattern: re.Pattern[str] | None = getattr(other, "CASE", None)
        if hits := [folder for folder in strange if pattern and pattern.fullmatch(folder.path.name)]:
            raise CaseError(
                f"{place.path}: cases of two layouts, {chosen.NAME} and {other.NAME} "
                f"({shortened([str(one.path) for one in hits])}); expected one; part them into two folders"
            )
    used = {path for case in found.cases for path in (*case.images.values(), case.mask)}
    loose = [name for name in place.files if suffix_of(name) and place.path / name not in used]
    said = f"hold images but fit no case of layout '{chosen.NAME}' and are not used"
    return [
        *skipped,
        *([f"{len(strange)} folders {said}: {shortened([str(one.path) for one in strange])}"] if strange else []),
        *([f"{len(loose)} image files lie outside any case and are not used: {shortened(loose)}"] if loose else []),
    ]


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
        held = ordered(modality for case in cases for modality in case.images)
        shared = set.intersection(*map(set, lacking.values())) if not complete else set()
        if nowhere := [name for name in modalities if name in shared]:  # dropping these cases would leave none
            some = ", ".join([name for name in modalities if name in held] or held)
            way = f": --data.modalities '[{some}]'" if some else ""
            raise CaseError(f"no case has {' or '.join(nowhere)}; the cases have {', '.join(held) or 'no image'}{way}")
        other = f"{',' if complete else ' or'} choose --data.modalities (there are {', '.join(held) or 'none'})"
        other += " or set --data.missing=drop" if complete else ""  # else it would leave no case
        unmasked = ("mask",) in lacking.values() and complete  # else there is none to learn from
        listed = ", ".join(f"{name} (no {', '.join(what)})" for name, what in lacking.items())
        raise CaseError(
            f"{len(lacking)} of {len(cases)} cases are incomplete: "
            f"{'all lack a mask' if shared else listed}; expected {', '.join(modalities)}"
            f"{' and a mask' if mask else ''}; complete them{'' if shared else other}"
            f"{' (without a mask they may train as unlabelled: --data.unlabelled use)' if unmasked else ''}"
        )
    return complete, [case for case in cases if case.name in lacking]


def missing_parts(case: Case, modalities: Sequence[str], *, mask: bool = False) -> tuple[str, ...]:
    """Which of the modalities, and "mask" if asked, a case lacks."""
    return (*(m for m in modalities if m not in case.images), *(("mask",) if mask and case.mask is None else ()))
