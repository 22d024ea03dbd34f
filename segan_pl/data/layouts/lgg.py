"""TCGA-LGG as Buda et al. 2019 published it: cases.csv (case, patient, institution, missing) and a folder a case.

No grade (all are lower grade), no t2, masks drawn on FLAIR. Some cases lack a sequence; the table says which.
"""

from __future__ import annotations

import csv
from pathlib import Path

from segan_pl.data.layouts.naming import case_files, folders, has_images, modality_of
from segan_pl.data.volume import Case, CaseError

NAME = "lgg"
EXPECTS = "cases.csv (case, patient, institution, ...) and <case>/<case>_{t1,t1ce,flair,seg}.nii[.gz]"
COLUMNS = ("case", "patient", "institution")
_SEQUENCES = {"pre": "t1", "post": "t1ce", "flair": "flair"}  # the table's own words


def recognises(root: Path) -> bool:
    """Whether the folder has a cases.csv with the columns that this layout needs."""
    try:
        with (root / "cases.csv").open(newline="", encoding="utf-8-sig") as file:
            return set(COLUMNS) <= set(next(csv.reader(file), ()))
    except (OSError, UnicodeDecodeError):
        return False


def find(root: Path) -> list[Case]:
    """The cases of the table, each with the files of its folder.

    Raises:
        CaseError: Table and folders differ, or a file exists that the table calls missing.
    """
    with (root / "cases.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    strangers = {f.name for f in folders(root) if has_images(f)} - {row["case"] for row in rows}
    if strangers:
        raise CaseError(f"{root}: {sorted(strangers)} not in cases.csv; add a row each or move the folders away")
    return [_case(root, row) for row in rows]


def _case(root: Path, row: dict[str, str]) -> Case:
    folder = root / row["case"]
    if not row["case"] or not folder.is_dir():
        raise CaseError(f"{root}: cases.csv names {row['case']!r}, which has no folder; restore it or drop the row")
    images, mask = case_files(folder)
    words = (row.get("missing") or "").replace("+", " ").split()
    absent = {_SEQUENCES.get(word) or modality_of(word) or word for word in words}
    if wrong := sorted(absent & set(images)):
        raise CaseError(f"{folder.name}: cases.csv calls {wrong} missing, but the file is there; mend the table")
    return Case(folder.name, row["patient"] or folder.name, images, mask, None, row["institution"] or None)
