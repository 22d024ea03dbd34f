"""What patients are called in outputs: numbers, the names of a table, or their own where a user asks for these."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.files import csv_records, csv_text, write_whole

COLUMNS = ("patient", "pseudonym")
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def pseudonyms(patients: Iterable[str], table: Path | None, *, identifying: bool = False) -> dict[str, str]:
    """Each patient's name in outputs.

    Args:
        patients: As the input says.
        table: A CSV of patient and pseudonym, which is kept: new patients get the next number and are added to it, so
            that a later call calls them the same. None numbers them again in each call.
        identifying: The patients' own names, made safe for files.

    Raises:
        UsageError: The table is no such table, or two patients would share a name.
    """
    known = _read(table) if table and table.exists() else {}
    # not in the order of the names, which would tell a little of them
    todo = sorted(set(patients) - set(known), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    number = 0
    for patient in todo:
        if identifying:
            known[patient] = re.sub(r"[^A-Za-z0-9._-]+", "_", patient).strip("._") or "patient"
            continue
        number += 1
        while f"P{number:03d}" in known.values():
            number += 1
        known[patient] = f"P{number:03d}"
    taken: dict[str, str] = {}
    for patient, name in known.items():
        if taken.setdefault(name, patient) != patient:
            raise UsageError(f"two patients would be called {name}; give --pseudonyms a table that tells them apart")
    if table and todo:
        rows = [dict(zip(COLUMNS, pair, strict=True)) for pair in sorted(known.items(), key=lambda pair: pair[1])]
        write_whole(table, csv_text(rows, COLUMNS))
    return known


def _read(table: Path) -> dict[str, str]:
    given = f"--pseudonyms {table}"
    try:
        rows = csv_records(table.read_text(encoding="utf-8").splitlines(keepends=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{given}: cannot be read ({error}); expected a CSV of {' and '.join(COLUMNS)}") from error
    found: dict[str, str] = {}
    for line, row in enumerate(rows, 2):
        patient, name = (row.get(column, "").strip() for column in COLUMNS)
        if not patient or not SAFE.fullmatch(name) or patient in found:
            raise UsageError(
                f"{given}: line {line}: expected each patient once, and a pseudonym of letters, digits, "
                f"dots, hyphens and underscores"
            )
        found[patient] = name
    return found
