"""TCGA-LGG as Buda et al. 2019 published it: cases.csv (case, patient, institution, missing) and a folder a case.

No grade (all are lower grade), no t2, masks drawn on FLAIR. Some cases lack a sequence; the table says which.
"""

from __future__ import annotations

from collections.abc import Mapping

from segan_pl.data.case import Case, CaseError
from segan_pl.data.layouts.folders import Folder, Found, case_files, modality_of, suffix_of
from segan_pl.data.layouts.table import header, read_table

NAME = "lgg"
EXPECTS = "cases.csv (case, patient, institution, ...) and <case>/<case>_{t1,t1ce,flair,seg}.nii[.gz]"
TABLE = "cases.csv"
COLUMNS = ("case", "patient", "institution")
# The table's own words.
_SEQUENCES = {"pre": "t1", "post": "t1ce", "flair": "flair"}


def recognises(here: Folder) -> bool:
    """Whether the folder has a cases.csv with the columns that this layout needs, and none of files (a manifest's).

    A case table that we wrote (`check --csv`, a run's cases.csv) is none: it has a column of modalities.
    """
    columns = header(here.path / TABLE) if TABLE in here.files else ()
    other = "modalities" in columns or any(modality_of(column) for column in columns)
    return set(COLUMNS) <= set(columns) and not other


def find(here: Folder) -> Found:
    """The cases of the table, each with the files of its folder.

    Raises:
        CaseError: Table and folders differ, or a file exists that the table calls missing.
    """
    rows = [{name.lower(): cell for name, cell in row.items()} for _, row in read_table(here.path / TABLE, "case").rows]
    folders = {folder.path.name: folder for folder in here.folders}
    listed = {row["case"] for row in rows}
    unlisted = [folder for name, folder in folders.items() if name not in listed]
    if strangers := [folder.path.name for folder in unlisted if any(map(suffix_of, folder.files))]:
        raise CaseError(f"{here.path}: {strangers} not in cases.csv; add a row each or move the folders away")
    return Found([_case(here, folders, row) for row in rows], "binary")


def _case(here: Folder, folders: Mapping[str, Folder], row: Mapping[str, str]) -> Case:
    if row["case"] not in folders:
        raise CaseError(
            f"{here.path}: cases.csv names {row['case']!r}, which has no folder; restore it or drop the row"
        )
    images, mask = case_files(folders[row["case"]])
    words = row.get("missing", "").replace("+", " ").split()
    absent = {_SEQUENCES.get(word) or modality_of(word) or word for word in words}
    if wrong := sorted(absent & set(images)):
        raise CaseError(f"{row['case']}: cases.csv calls {wrong} missing, but the file is there; fix the table")
    return Case(row["case"], row["patient"] or row["case"], images, mask, None, row["institution"] or None)
