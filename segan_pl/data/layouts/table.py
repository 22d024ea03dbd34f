"""Tables as people export them: comma, semicolon or tab, a byte order mark or none, quoted or not; or a JSON list."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segan_pl.data.case import CaseError
from segan_pl.files import as_was

DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """A table out of a file.

    Attributes:
        path: The file.
        columns: As the header spells them, spaces around them dropped.
        rows: (number of its line in the file, column to cell) each; no cell is missing, spaces around it are
            dropped. Of a JSON list the number is that of the object, from 1.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]

    def named(self, name: str) -> str | None:
        """The header's own spelling of a column, whatever the case of its letters, or None."""
        return next((column for column in self.columns if column.lower() == name.lower()), None)


def read_table(path: Path, key: str) -> Table:
    """Read a table whose header has the column `key`; blank lines are skipped.

    Raises:
        CaseError: It cannot be read, is not CSV in UTF-8, lacks `key`, names a column twice, or a row has more or
            fewer cells than the header.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}); expected a CSV file; fix the path") from error
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: not UTF-8 (byte {error.start}); save it as 'CSV UTF-8'") from error
    if path.suffix.lower() == ".json":
        return _of_json(path, text, key)
    delimiter = max(DELIMITERS, key=lambda mark: _fit(text, mark, key))
    lines = list(_lines(path, text, delimiter))
    named = max((number + 1 for number, cell in enumerate(lines[0][1]) if cell), default=0) if lines else 0
    ends = (max([named, *(number + 1 for number, cell in enumerate(cells) if cell)]) for _, cells in lines)
    lines = [(line, cells[:end]) for (line, cells), end in zip(lines, ends, strict=True)]
    columns = tuple(lines[0][1]) if lines else ()
    lower = [column.lower() for column in columns]
    if key.lower() not in lower:
        raise CaseError(f"{path}: no column '{key}' among {list(columns)}; expected one; fix the header")
    if double := sorted({column for column in columns if lower.count(column.lower()) > 1}):
        raise CaseError(f"{path}: column {double} occurs twice; expected it once; rename or remove one")
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise CaseError(
                f"{path}: line {number} has {len(cells)} cells, expected {len(columns)} as in the header; fix the row"
            )
    return Table(path, columns, tuple((number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]))


def _of_json(path: Path, text: str, key: str) -> Table:
    """The table of a list of objects; a value that an object lacks, or null, is an empty cell.

    Raises:
        CaseError: It is no such list, a value is a list or an object, or no object has `key`.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{path}: is not JSON ({error}); correct or restore it") from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise CaseError(f'{path}: expected a list of objects, [{{"{key}": "a", ...}}, ...]; correct it')
    columns = tuple(dict.fromkeys(name for row in content for name in row))
    rows = []
    for number, row in enumerate(content, 1):
        if nested := [name for name, value in row.items() if isinstance(value, (list, dict))]:
            raise CaseError(f"{path}: object {number}: {nested} hold lists or objects; expected text; correct it")
        rows.append((number, {name: "" if row.get(name) is None else str(row[name]).strip() for name in columns}))
    lower = [column.lower() for column in columns]
    if key.lower() not in lower:
        raise CaseError(f"{path}: no '{key}' in its objects, they have {list(columns)}; add it")
    if double := sorted({column for column in columns if lower.count(column.lower()) > 1}):
        raise CaseError(f"{path}: {double} differ only in capitals; expected one of them; rename or remove one")
    return Table(path, columns, tuple(rows))


def header(path: Path) -> tuple[str, ...]:
    """The columns of a CSV file, in lower case; empty where it is none, so that a layout can say "not mine"."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(100_000)
    except (OSError, UnicodeDecodeError):
        return ()
    found = (tuple(_cells(line, mark)) for mark in DELIMITERS)
    return tuple(as_was(column.strip()).lower() for column in max(found, key=len))


def _fit(text: str, delimiter: str, key: str) -> tuple[bool, int]:
    """How well the header reads with a delimiter: whether it has the column, and how many columns."""
    start = next((line for line in text.splitlines() if line.strip()), "")
    cells = [as_was(cell.strip()).lower() for cell in _cells(start, delimiter)]
    return key.lower() in cells, len(cells)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [as_was(cell.strip()) for cell in cells]
    except csv.Error as error:
        raise CaseError(f"{path}: line {reader.line_num} is not CSV ({error}); fix its quotes") from error
