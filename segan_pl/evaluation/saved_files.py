"""Small files that runs and evaluations leave; errors name the file, one that is not there is empty.

Every reader of config.yaml, environment.json, split.json, metrics.csv and of tables of cases goes through here.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from segan_pl.data.case import CaseError
from segan_pl.files import csv_records

METRICS = "metrics.json"
"""With the score tables of a run: name to what `Metric.described` says, as in an evaluation's summary.json.

A table whose metrics are others of the same names has a JSON file of its own name.
"""
SUBSETS = "_subsets"
"""At the end of the stem of a table's name: the same cases predicted from subsets of the modalities."""


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Rows under a line of column names; a short row's cells are empty.

    Raises:
        CaseError: It cannot be read.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return csv_records(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CaseError(f"{path}: cannot be read as a CSV file ({_line(error)}); restore or remove it") from error


def metrics_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, oldest first, every cell a number or empty.

    Raises:
        CaseError: One is not, as in a file that was cut off, or there is no column of epochs.
    """
    rows = csv_rows(path)
    if rows and "epoch" not in rows[0]:
        raise CaseError(f"{path}: no column epoch ({', '.join(rows[0])}); restore or remove it")
    for number, row in enumerate(rows, 2):
        for name, cell in row.items():
            if not cell and name != "epoch":
                continue
            try:
                float(cell)  # NaN and infinity are numbers too
            except ValueError:
                why = f"{path}, line {number}, {name}: {cell!r}; expected a number; restore or remove it"
                raise CaseError(why) from None
    return rows


def json_file(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file holds something else.

    Raises:
        CaseError: It cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CaseError(f"{path}: not readable as JSON ({_line(error)}); restore or remove it") from error
    return found if isinstance(found, dict) else {}


def yaml_file(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        CaseError: It cannot be read, or holds something else, as a file that was emptied.
    """
    if not path.is_file():
        return {}
    try:
        return settings_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise CaseError(f"{path}: not readable as YAML ({_line(error)}); restore or remove it") from error


def settings_of(text: str) -> dict[str, Any]:
    """The settings that a YAML text holds; tags that name classes are refused, nothing of them is run.

    Raises:
        ValueError: It holds none: it is empty or a list, say.
        yaml.YAMLError: It is no YAML of plain values.
    """
    found = yaml.safe_load(text)
    if not isinstance(found, dict):
        raise ValueError("empty" if found is None else f"expected settings, found a {type(found).__name__}")
    return found


def mapping(found: Any) -> dict[str, Any]:
    """What a key of a saved file holds, empty where it is no mapping."""
    return found if isinstance(found, dict) else {}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
