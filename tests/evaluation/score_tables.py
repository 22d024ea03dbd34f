"""Score tables and runs' folders as `segan_pl` writes them, for tests."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def write_scores(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows to CSV, the columns those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def dice_table(path: Path, values: Sequence[float | str], *, first: int = 0, **columns: Any) -> Path:
    """One whole-tumour row a case: case00, case01, ...; columns with the same value in every row."""
    rows = [
        {"case": f"case{number:02d}", "region": "wt", "dice": value, **columns}
        for number, value in enumerate(values, first)
    ]
    return write_scores(path, rows)


def run_folder(
    path: Path, values: Sequence[float | str], *, first: int = 0, config: Mapping[str, Any] | None = None
) -> Path:
    """A finished run with scores of its test, its case table and its configuration."""
    dice_table(path / "scores" / "test_epoch0003_dice0.8000.csv", values, first=first)
    cases = [{"case": f"case{n:02d}", "patient": f"p{n:02d}"} for n in range(first, first + len(values))]
    write_scores(path / "cases.csv", cases)
    if config is not None:
        (path / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    return path
