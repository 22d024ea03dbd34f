"""Files that appear whole or not at all, the folders they go to, and tables as CSV text.

A spreadsheet takes a cell that begins with = + - @ (or a tab or line end before them) for a formula, and names of
cases, patients and columns come from other people's files. Such a cell is written with an apostrophe before it, which
keeps it text; a cell that has apostrophes there already gets one more, so that reading takes off exactly what writing
put on. Numbers (-1.5, +0.02, 1e-3) are left as they are.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segan_pl.errors import UsageError

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def write_whole(path: Path | str, content: bytes | str) -> None:
    """Replace a file at once; a kill at any moment leaves the old one, or the new one, and no reader sees a part.

    Args:
        path: Its folder is made where it is missing.
        content: Text is written as UTF-8, line ends as they are.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path, given: str) -> None:
    """Refuse a folder that cannot be made or written to, before hours of work; nothing is made.

    Args:
        folder: Where files will go; it and those above it may be missing.
        given: What was typed, as the message begins: "--output runs/x".

    Raises:
        UsageError: A file or the system's permissions are in the way.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    missing = there != folder.absolute()
    if not there.is_dir():
        if not missing:
            raise UsageError(f"{given}: is a file; give a folder")
        raise _cannot_be_made(given, errno.ENOTDIR)
    if os.access(there, os.W_OK | os.X_OK):
        return
    reason = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
    if missing:
        raise _cannot_be_made(given, reason)
    raise UsageError(f"{given}: may not be written to ({os.strerror(reason)}); give another folder")


def made_writable(folder: Path, given: str) -> Path:
    """The folder, made now; arguments and errors as `require_writable`."""
    require_writable(folder, given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # of a share, whose server may refuse what its permissions allow
        raise _cannot_be_made(given, error.errno or 0) from error
    return folder


def _cannot_be_made(given: str, reason: int) -> UsageError:
    return UsageError(f"{given}: cannot be made ({os.strerror(reason)}); give another folder")


def csv_text(rows: Iterable[Mapping[str, object]], columns: Sequence[str] = ()) -> str:
    """Rows under a line of column names.

    Args:
        rows: Column to value; a column that a row lacks is an empty cell, and so is None.
        columns: In order; default as the rows bring them.

    Raises:
        ValueError: A row has a column that is not among `columns`.
    """
    kept = list(rows)
    names = list(columns) or list(dict.fromkeys(name for row in kept for name in row))
    text = io.StringIO()
    plain = csv.DictWriter(text, names, lineterminator="\n", restval="")
    quoted = csv.DictWriter(text, names, lineterminator="\n", restval="", quoting=csv.QUOTE_ALL)
    for row in [dict(zip(names, names, strict=True)), *kept]:
        cells = {name: as_text(value) for name, value in row.items()}
        # a carriage return ends a line for readers, and the csv module quotes only what ends one for its writer
        (quoted if any("\r" in str(cell) for cell in cells.values()) else plain).writerow(cells)
    return text.getvalue()


def as_text(value: object) -> object:
    """A cell as it is written: text that a spreadsheet would run gets an apostrophe before it."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def as_was(cell: str) -> str:
    """A cell that was read, as it was before `as_text`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_records(text: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a table that `csv_text` wrote, or that others did; cells that a short row lacks are empty.

    Cells beyond the last column stand under the name "", with commas between them.

    Args:
        text: Lines, e.g. a file opened with newline="".

    Raises:
        csv.Error: It is no CSV.
    """
    lines = csv.reader(text)
    columns = [as_was(name) for name in next(lines, [])]
    rows = []
    for line in filter(None, lines):  # blank lines are none
        cells = [as_was(cell) for cell in line]
        surplus = {"": ",".join(cells[len(columns) :])} if len(cells) > len(columns) else {}
        rows.append({**dict(zip(columns, [*cells, *[""] * len(columns)], strict=False)), **surplus})
    return rows
