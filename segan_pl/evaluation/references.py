"""The masks that predictions are scored against: a data set in any layout, a manifest, or a flat folder of masks."""

from __future__ import annotations

import re
from pathlib import Path

from segan_pl.data.labels import label_convention
from segan_pl.data.layouts import LAYOUTS, DataSet, brats2023, find_data_set
from segan_pl.data.layouts.listing import Folder, suffix_of
from segan_pl.data.layouts.naming import MASK_WORDS
from segan_pl.data.volume import Case, CaseError

FLAT = "flat"
_MASK_WORD = re.compile(rf"[-_.]({'|'.join(MASK_WORDS)})$", re.IGNORECASE)


def find_references(root: Path | str, layout: str = "auto") -> DataSet:
    """The cases with masks; those without are noted.

    Args:
        root: Folder of a data set, of masks alone, or a CSV manifest.
        layout: A key of LAYOUTS, "flat" (masks alone), or "auto".

    Raises:
        CaseError: No such folder, or no case with a mask.
        UsageError: No layout of that name.
    """
    root = Path(root).expanduser()
    if layout == FLAT or (layout == "auto" and _is_flat(root)):
        return _flat(root)
    source = find_data_set(root, layout)
    with_mask = tuple(case for case in source.cases if case.mask is not None)
    without = [case.name for case in source.cases if case.mask is None]
    if not with_mask:
        raise CaseError(f"{source.root}: none of {len(without)} cases has a mask; give the references as --ref")
    notes = [f"{len(without)} cases have no mask and are not scored: {', '.join(without)}"] if without else []
    return DataSet(source.root, source.layout, with_mask, source.native_labels, (*source.notes, *notes))


def target_for(native_labels: str) -> str:
    """The target that is scored by default: regions, whole tumour where labels tell no more, labels without tumour.

    Raises:
        CaseError: No such convention.
    """
    convention = label_convention(native_labels)
    if not convention.tumour:
        return "labels"
    return "regions" if {"oedema", "enhancing"} <= set(dict(convention.tissues)) else "whole_tumour"


def _is_flat(root: Path) -> bool:
    """Whether images lie in the folder itself and no layout knows it."""
    if not root.is_dir():
        return False
    here = Folder(root)
    return any(suffix_of(name) for name in here.files) and not any(one.recognises(here) for one in LAYOUTS.values())


def _flat(root: Path) -> DataSet:
    """A case for each image file, named after it without a trailing "_seg" or the like; its patient is "" if unknown.

    Raises:
        CaseError: There is none, or one name twice.
    """
    cases: dict[str, Case] = {}
    if not root.is_dir():
        raise CaseError(f"{root}: no such folder; expected masks; check --ref")
    for file in Folder(root).files:
        if not (suffix := suffix_of(file)):
            continue
        name = _MASK_WORD.sub("", file[: -len(suffix)])
        if name in cases:
            raise CaseError(f"{root}: {file} and {cases[name].mask} are both case {name}; expected one; remove one")
        scan = brats2023.CASE.fullmatch(name)  # the one naming that tells the patient of a scan
        cases[name] = Case(name, scan["patient"] if scan else "", {}, root / file)
    if not cases:
        raise CaseError(f"{root}: no image file; expected one mask a case; check --ref")
    return DataSet(root, FLAT, tuple(cases[name] for name in sorted(cases)), None)
