"""References: the cases of a data set that have masks, or a folder of masks alone; and what is scored by default."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from segan_pl.data.case import Case, CaseError
from segan_pl.data.conventions import label_convention
from segan_pl.data.layouts import LAYOUTS, DataSet, find_data_set, require_distinct
from segan_pl.data.layouts.brats import patient_of
from segan_pl.data.layouts.folders import MASK_WORDS, Folder, suffix_of
from segan_pl.errors import UsageError

FLAT = "flat"
_MASK_WORD = re.compile(rf"[-_.]({'|'.join(MASK_WORDS)})$", re.IGNORECASE)


def find_references(root: Path | str, layout: str = "auto") -> DataSet:
    """The cases with masks; those without are noted.

    Args:
        root: Folder of a data set, of masks alone, or a CSV manifest.
        layout: A key of LAYOUTS, "flat" (masks alone), or "auto".

    Raises:
        CaseError: No case with a mask.
        UsageError: No such folder, or no layout of that name.
    """
    root = Path(root).expanduser()
    if layout == FLAT:
        return _flat(root)
    if layout == "auto" and root.is_dir():
        # images in the folder itself, and no layout knows it
        here = Folder(root)
        if any(map(suffix_of, here.files)) and not any(one.recognises(here) for one in LAYOUTS.values()):
            return _flat(root)
    source = find_data_set(root, layout)
    with_mask = tuple(case for case in source.cases if case.mask is not None)
    without = [case.name for case in source.cases if case.mask is None]
    if not with_mask:
        raise CaseError(f"{source.root}: none of {len(without)} cases has a mask; give the references as --root")
    notes = [f"{len(without)} cases have no mask and are not scored: {', '.join(without)}"] if without else []
    return replace(source, cases=with_mask, notes=(*source.notes, *notes))


def target_for(native_labels: str) -> str:
    """The target that is scored by default: regions, whole tumour where labels tell no more, labels without tumour.

    Raises:
        CaseError: No such convention.
    """
    convention = label_convention(native_labels)
    if not convention.tumour:
        return "labels"
    return "regions" if convention.tells_regions else "whole_tumour"


def _flat(root: Path) -> DataSet:
    """A case for each image file, named after it without a trailing "_seg" or the like; its patient is "" if unknown.

    Raises:
        CaseError: There is none, or one name twice.
    """
    cases: dict[str, Case] = {}
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected masks; check --root")
    for file in Folder(root).files:
        if not (suffix := suffix_of(file)):
            continue
        name = _MASK_WORD.sub("", file[: -len(suffix)])
        if name in cases:
            raise CaseError(f"{root}: {file} and {cases[name].mask} are both case {name}; expected one; remove one")
        cases[name] = Case(name, patient_of(name) or "", {}, root / file)
    if not cases:
        raise CaseError(f"{root}: no image file; expected one mask for each case; check --root")
    require_distinct(root, "cases", cases)
    return DataSet(root, FLAT, tuple(cases[name] for name in sorted(cases)), None)
