"""BraTS 2020: BraTS20_{Training|Validation}_NNN/<case>_{t1,t1ce,t2,flair,seg}.nii, flat.

Grade and institution are told by name_mapping*.csv alone: its column Grade, and the second field of the name that the
case had in an earlier year. The mask of one case, 355, bears a foreign name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from segan_pl.data.layouts.listing import Folder, Found, shortened, suffix_of
from segan_pl.data.layouts.naming import GRADES, case_files, matching
from segan_pl.data.layouts.table import read_table
from segan_pl.data.volume import Case

NAME = "brats2020"
EXPECTS = "BraTS20_<Training|Validation>_<number>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz] and name_mapping.csv"
CASE = re.compile(r"BraTS20_[A-Za-z]+_\d+", re.IGNORECASE)
KEY = "BraTS_2020_subject_ID"
_EARLIER = re.compile(r"BraTS_20(?:1\d)_subject_ID", re.IGNORECASE)
_EARLIER_NAME = re.compile(r"brats\d\d_(?P<patient>(?P<site>[^_]+)_.+)_\d+", re.IGNORECASE)


def recognises(here: Folder) -> bool:
    """Whether the folder holds cases named as in 2020."""
    return any(CASE.fullmatch(folder.path.name) for folder in here.folders)


def find(here: Folder) -> Found:
    """All cases of a flat folder; what the mapping does not tell is None, with a note."""
    found, others = matching(here, CASE)
    mapping = _mapping(here)
    notes: list[str] = []
    cases = [_case(folder, mapping.get(folder.path.name.lower()), notes) for folder, _ in found]
    untold = [case.name for case in cases if case.name.lower() not in mapping]
    if untold:
        why = "has no row for" if mapping else "is missing for"
        notes.append(
            f"name_mapping.csv {why} {len(untold)} cases, so their grade and institution are unknown: "
            f"{shortened(untold)}"
        )
    return Found(cases, "brats2017", notes, others)


def _mapping(here: Folder) -> dict[str, dict[str, str]]:
    """Case name in lower case to its row, out of every name_mapping*.csv in the folder."""
    tables = [name for name in here.files if name.lower().startswith("name_mapping") and name.lower().endswith(".csv")]
    rows: dict[str, dict[str, str]] = {}
    for name in tables:
        table = read_table(here.path / name, KEY)
        key = table.named(KEY) or KEY
        rows |= {cells[key].lower(): cells for _, cells in table.rows}
    return rows


def _case(folder: Folder, row: Mapping[str, str] | None, notes: list[str]) -> Case:
    images, mask = case_files(folder)
    mask = mask or _leftover(folder, images)
    if mask and not mask.name.lower().startswith(folder.path.name.lower()):
        notes.append(f"{folder.path.name}: its mask bears the foreign name {mask.name}")
    row = {column.lower(): cell for column, cell in (row or {}).items()}
    grade = row.get("grade", "").upper()
    patient, site = _earlier(row)
    return Case(folder.path.name, patient or folder.path.name, images, mask, grade if grade in GRADES else None, site)


def _leftover(folder: Folder, images: Mapping[str, Path]) -> Path | None:
    """The one image file with "seg" in its name that is no modality's, or None."""
    taken = {path.name for path in images.values()}
    left = [name for name in folder.files if suffix_of(name) and "seg" in name.lower() and name not in taken]
    return folder.path / left[0] if len(left) == 1 else None


def _earlier(row: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Patient and institution by the latest name of an earlier year; (None, None) for a case that is new in 2020."""
    for column in sorted((column for column in row if _EARLIER.fullmatch(column)), reverse=True):
        if match := _EARLIER_NAME.fullmatch(row[column]):
            return match["patient"], match["site"]
    return None, None
