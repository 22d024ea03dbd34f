"""A manifest: case, patient, grade, institution, a column for each modality, mask; for files that lie in any other way.

It is a table (CSV or TSV) or a JSON list of objects. Only `case` and one modality are needed. `native_labels` says what
the masks' labels mean, the same in every row. Paths are relative to the manifest's folder and an empty cell is what is
missing. A column whose cells name image files is a modality, whatever it is called; any other is kept with the case.
"""

from __future__ import annotations

import re
from pathlib import Path

from segan_pl.data.case import Case, CaseError, ordered
from segan_pl.data.conventions import label_convention
from segan_pl.data.label_names import IGNORE, LabelNames
from segan_pl.data.layouts.folders import GRADES, MASK_WORDS, Folder, Found, modality_name, modality_of, suffix_of
from segan_pl.data.layouts.layout import UNSAFE
from segan_pl.data.layouts.table import Table, read_table
from segan_pl.errors import UsageError

NAME = "manifest"
EXPECTS = "a CSV, TSV or JSON file, or a folder with manifest.csv: case, patient, grade, institution, t1, ..., mask"
FILES = ("manifest.csv", "manifest.tsv", "manifest.json")
FACTS = ("case", "patient", "grade", "institution", "native_labels")


def recognises(here: Folder) -> bool:
    """Whether the folder has a manifest.csv, .tsv or .json."""
    return any(name in here.files for name in FILES)


def find(here: Folder) -> Found:
    """The cases of the folder's manifest.

    Raises:
        CaseError: As `read_manifest`, or there are two.
    """
    names = [name for name in FILES if name in here.files]
    if len(names) > 1:
        raise CaseError(f"{here.path}: {' and '.join(names)}; expected one manifest; give one file as --root")
    return read_manifest(here.path / names[0])


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
        facts = {role: row[column] for column, role in roles.items() if role != "extra"}
        spelt = {role: column for column, role in roles.items()}
        name = facts["case"]
        if not name or UNSAFE.search(name):
            raise CaseError(f"{path}: line {line}: case {name!r}; expected a name that a file can have; correct it")
        grade = facts.get("grade") or ""
        parts = [*ordered(facts.keys() - {*FACTS, "mask"}), "mask"]
        files = {part: _file(path, line, spelt[part], facts[part]) for part in parts if facts.get(part)}
        case = Case(
            name=name,
            patient=facts.get("patient") or name,
            images={part: file for part, file in files.items() if part != "mask"},
            mask=files.get("mask"),
            # HGG and LGG in whatever case; another word as it is.
            grade=(grade.upper() if grade.upper() in GRADES else grade) or None,
            institution=facts.get("institution") or None,
            extra={column: row[column] for column, role in roles.items() if role == "extra"},
        )
        if (first := lines.setdefault(case.name, line)) != line:
            raise CaseError(f"{path}: case {case.name!r} on lines {first} and {line}; expected one row; remove one")
        cases.append(case)
    stated = _native_labels(table)
    names = None
    if stated:
        convention = label_convention(stated)
        numbers = {**convention.numbers, **({IGNORE: convention.ignore} if convention.ignore else {})}
        names = LabelNames(f"{path.name} (native_labels {stated})", numbers)
    return Found(cases, stated, root=path, names=names)


def _roles(table: Table) -> dict[str, str]:
    """Column to what it is: a fact, a modality, "mask", or "extra".

    Raises:
        CaseError: Two columns are one thing, a column of files may be a second mask, or none is a modality.
    """
    roles = {}
    for column in table.columns:
        plain = "mask" if column.lower() in MASK_WORDS else column.lower() if column.lower() in FACTS else None
        files = _files(table, column)
        roles[column] = plain or modality_of(column) or (modality_name(column) or column if files else "extra")
    for column, role in roles.items():
        twins = [other for other in roles if roles[other] == role]
        if role != "extra" and len(twins) > 1:
            raise CaseError(f"{table.path}: columns {twins} are both {role}; expected one; rename or remove the others")
        if role != "mask" and set(re.split("[^a-z]+", column.lower())) & set(MASK_WORDS) and _files(table, column):
            raise CaseError(
                f"{table.path}: line {_files(table, column)[0]}: column '{column}' holds image files and is called "
                f"like a mask; expected a modality's name, or mask; rename or remove it"
            )
    if not set(roles.values()) - {*FACTS, "mask", "extra"}:
        raise CaseError(
            f"{table.path}: no modality among the columns {list(table.columns)}; expected one of image files, e.g. t1, "
            f"flair or t1_ir; add it, or give the folder of the images as --root"
        )
    return roles


def _files(table: Table, column: str) -> list[int]:
    """The lines whose cell in this column is an image by its suffix."""
    return [line for line, row in table.rows if suffix_of(row[column])]


def _file(path: Path, line: int, column: str, cell: str) -> Path:
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
        raise CaseError(
            f"{path}: line {line}, column '{column}': {file} {found}; expected an image file; correct the path or "
            f"empty the cell"
        )
    return file


def _native_labels(table: Table) -> str | None:
    """The one convention that the rows name.

    Raises:
        CaseError: One that is unknown, or two.
    """
    column = table.named("native_labels")
    stated = [(line, row[column]) for line, row in table.rows if row[column]] if column else []
    for line, name in stated:
        try:
            label_convention(name)
        except UsageError as error:
            raise CaseError(f"{table.path}: line {line}: {error}") from error
        if name != stated[0][1]:
            raise CaseError(
                f"{table.path}: line {stated[0][0]} says native_labels {stated[0][1]}, line {line} says {name}; "
                f"expected one for all; make two manifests"
            )
    return label_convention(stated[0][1]).name if stated else None
