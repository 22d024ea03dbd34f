"""A CSV manifest: case, patient, grade, institution, one column a modality, mask; for files that lie in any other way.

Only `case` and one modality are needed. `native_labels` says what the masks' labels mean, the same in every row. Paths
are relative to the manifest's folder, an empty cell is what is missing, and any other column is kept with the case.
"""

from __future__ import annotations

import re
from pathlib import Path

from segan_pl.data.labels import CONVENTIONS
from segan_pl.data.layouts.listing import Folder, Found, suffix_of
from segan_pl.data.layouts.naming import GRADES, MASK_WORDS, modality_of
from segan_pl.data.layouts.table import Table, read_table
from segan_pl.data.volume import MODALITIES, Case, CaseError
from segan_pl.errors import nearest

NAME = "manifest"
EXPECTS = "a CSV file, or a folder with manifest.csv: case, patient, grade, institution, t1, t1ce, t2, flair, mask"
CASE: re.Pattern[str] | None = None  # any name
FILE = "manifest.csv"
FACTS = ("case", "patient", "grade", "institution", "native_labels")
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]|^\.")  # a name becomes a file's name


def recognises(here: Folder) -> bool:
    """Whether the folder has a manifest.csv."""
    return FILE in here.files


def find(here: Folder) -> Found:
    """The cases of the folder's manifest."""
    return read_manifest(here.path / FILE)


def read_manifest(path: Path) -> Found:
    """The cases of a manifest.

    Raises:
        CaseError: With the line: the table is broken, a column is not understood, a file is not there, or a case's name
            is missing, given twice, or no file's name.
    """
    table = read_table(path, "case")
    roles = _roles(table)
    lines: dict[str, int] = {}
    cases = []
    for line, row in table.rows:
        case = _case(path, line, row, roles)
        if (first := lines.setdefault(case.name, line)) != line:
            raise CaseError(f"{path}: case {case.name!r} on lines {first} and {line}; expected one row; remove one")
        cases.append(case)
    return Found(cases, _native_labels(table), root=path)


def _roles(table: Table) -> dict[str, str]:
    """Column to what it is: a fact, a modality, "mask", or "extra"."""
    roles = {column: _role(column) for column in table.columns}
    for column, role in roles.items():
        twins = [other for other in roles if roles[other] == role]
        if role != "extra" and len(twins) > 1:
            raise CaseError(f"{table.path}: columns {twins} are both {role}; expected one; rename or remove the others")
        if role == "extra" and (line := _holds_files(table, column)):
            raise CaseError(
                f"{table.path}: line {line}: column '{column}' holds image files but names no modality; expected "
                f"{', '.join(MODALITIES)} or mask; rename or remove it"
            )
    if not set(MODALITIES) & set(roles.values()):
        raise CaseError(
            f"{table.path}: no modality among the columns {list(table.columns)}; expected one of "
            f"{', '.join(MODALITIES)}; add it, or give the folder of the images as --data.root"
        )
    return roles


def _role(column: str) -> str:
    lower = column.lower()
    if lower in FACTS:
        return lower
    return "mask" if lower in MASK_WORDS else modality_of(column) or "extra"


def _holds_files(table: Table, column: str) -> int | None:
    """The first line whose cell in this column is an image by its suffix, or None."""
    return next((line for line, row in table.rows if suffix_of(row[column])), None)


def _case(path: Path, line: int, row: dict[str, str], roles: dict[str, str]) -> Case:
    facts = {role: row[column] for column, role in roles.items() if role != "extra"}
    name = facts["case"]
    if not name or _UNSAFE.search(name):
        raise CaseError(f"{path}: line {line}: case {name!r}; expected a name that a file can bear; mend it")
    files = {part: _file(path, line, facts[part]) for part in (*MODALITIES, "mask") if facts.get(part)}
    return Case(
        name=name,
        patient=facts.get("patient") or name,
        images={modality: files[modality] for modality in MODALITIES if modality in files},
        mask=files.get("mask"),
        grade=_grade(facts.get("grade")),
        institution=facts.get("institution") or None,
        extra={column: row[column] for column, role in roles.items() if role == "extra"},
    )


def _grade(cell: str | None) -> str | None:
    """HGG and LGG in whatever case; another word as it stands."""
    return cell.upper() if cell and cell.upper() in GRADES else cell or None


def _file(path: Path, line: int, cell: str) -> Path:
    """The file that a cell names.

    Raises:
        CaseError: It is not there, or is a folder.
    """
    file = path.parent / cell
    try:
        found = "is a folder" if file.is_dir() else "does not exist" if not file.is_file() else None
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        found = f"cannot be looked up ({error})"
    if found:
        raise CaseError(f"{path}: line {line}: {file} {found}; expected an image file; mend the path or empty the cell")
    return file


def _native_labels(table: Table) -> str | None:
    """The one convention that the rows name.

    Raises:
        CaseError: One that is unknown, or two.
    """
    column = table.named("native_labels")
    stated = [(line, row[column]) for line, row in table.rows if row[column]] if column else []
    for line, name in stated:
        if name not in CONVENTIONS:
            raise CaseError(f"{table.path}: line {line}: native_labels {name!r} unknown; {nearest(name, CONVENTIONS)}")
        if name != stated[0][1]:
            raise CaseError(
                f"{table.path}: line {stated[0][0]} says native_labels {stated[0][1]}, line {line} says {name}; "
                f"expected one for all; make two manifests"
            )
    return stated[0][1] if stated else None
