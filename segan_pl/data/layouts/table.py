"""CSV tables as people export them: comma, semicolon or tab, with or without a byte order mark, quoted or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segan_pl.data.volume import CaseError

DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        path: The file.
        columns: As the header spells them, spaces around them dropped.
        rows: (number of its line in the file, column to cell) each; no cell is missing, spaces around it are dropped.
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
    text = _text(path)
    delimiter = max(DELIMITERS, key=lambda mark: _fit(text, mark, key))
    lines = list(_lines(path, text, delimiter))
    columns = tuple(lines[0][1]) if lines else ()
    lower = [column.lower() for column in columns]
    if key.lower() not in lower:
        raise CaseError(f"{path}: no column '{key}' among {list(columns)}; expected one; mend the header")
    if double := sorted({column for column in columns if lower.count(column.lower()) > 1}):
        raise CaseError(f"{path}: column {double} occurs twice; expected it once; rename or remove one")
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise CaseError(
                f"{path}: line {number} has {len(cells)} cells, expected {len(columns)} as in the header; mend the row"
            )
    return Table(path, columns, tuple((number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]))


def header(path: Path) -> tuple[str, ...]:
    """The columns of a CSV file, in lower case; empty where it is none, so that a layout can say "not mine"."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(100_000)
    except (OSError, UnicodeDecodeError):
        return ()
    found = (tuple(_cells(line, mark)) for mark in DELIMITERS)
    return tuple(column.strip().lower() for column in max(found, key=len))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}); expected a CSV file; mend the path") from error
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: not UTF-8 (byte {error.start}); save it as 'CSV UTF-8'") from error


def _fit(text: str, delimiter: str, key: str) -> tuple[bool, int]:
    """How well the header reads with a delimiter: whether it has the column, and how many columns."""
    start = next((line for line in text.splitlines() if line.strip()), "")
    cells = [cell.strip().lower() for cell in _cells(start, delimiter)]
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
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise CaseError(f"{path}: line {reader.line_num} is not CSV ({error}); mend its quotes") from error
