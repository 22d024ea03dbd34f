"""Small files that runs and evaluations leave; errors name the file, one that is not there is empty."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from segan_pl.data.volume import CaseError


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Rows under a line of column names; a short row's cells are empty.

    Raises:
        CaseError: It cannot be read.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file, restkey="", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CaseError(f"{path}: cannot be read as a CSV file ({_line(error)}); restore or remove it") from error


def json_file(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file holds something else.

    Raises:
        CaseError: It cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: not readable as JSON ({_line(error)}); restore or remove it") from error
    return found if isinstance(found, dict) else {}


def yaml_file(path: Path) -> dict[str, Any]:
    """A YAML mapping; empty where the file holds something else.

    Raises:
        CaseError: It cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CaseError(f"{path}: not readable as YAML ({_line(error)}); restore or remove it") from error
    return found if isinstance(found, dict) else {}


def mapping(found: Any) -> dict[str, Any]:
    """What a key of a saved file holds, empty where it is no mapping."""
    return found if isinstance(found, dict) else {}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
