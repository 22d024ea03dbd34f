"""The tables of an output folder, to which each call adds its cases."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from segan_pl.clinical.patient import Outcome, Pipeline
from segan_pl.clinical.work import Visit
from segan_pl.data.case import MODALITIES, ordered
from segan_pl.data.outputs import Kind, Output
from segan_pl.errors import UsageError
from segan_pl.files import csv_records, csv_text, write_whole

KINDS = {
    "series.csv": Kind("segan_pl clinical", "case,series,number,slices,spacing_mm,echo_time_ms,"),
    "manifest.csv": Kind("segan_pl clinical", r"case,patient,[a-z0-9_,]*filled\r?\n"),
}


def require_own(output: Path, given: str, reads: Sequence[Path] = ()) -> None:
    """Refuse a folder that is somebody else's: what is made of a case again is removed there first.

    Args:
        output: The folder; it may be missing or empty.
        given: What was typed.
        reads: Files of the command line, which stay as they are.

    Raises:
        UsageError: A table in it is not of this command, or is one that it reads; or it holds other files alone.
    """
    for name, kind in KINDS.items():
        Output(output / name, kind, given, tuple(reads)).require_free()
    if output.is_dir() and any(output.iterdir()) and not (output / "series.csv").exists():
        raise UsageError(
            f"{given}: holds files, and no series.csv of `segan_pl clinical`; give a new folder, or its own"
        )


def earlier_rows(table: Path, pipeline: Pipeline, now: Collection[str]) -> list[dict[str, str]]:
    """Rows that earlier calls wrote, of cases that are still there and not among those of `now`.

    Raises:
        UsageError: The table cannot be read.
    """
    try:
        rows = csv_records(table.read_text(encoding="utf-8").splitlines(keepends=True))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{table}: cannot be read ({error}); expected a table of an earlier call; remove it"
        ) from error
    return [
        row for row in rows if row.get("case") and row["case"] not in now and pipeline.record_of(row["case"]).is_file()
    ]


def write_manifest(pipeline: Pipeline, visits: Sequence[Visit], outcomes: Mapping[str, Outcome]) -> None:
    """manifest.csv: a row for each case of this call and of earlier ones, paths from the output folder on.

    Args:
        pipeline: That prepared them.
        visits: Those of this call that are done.
        outcomes: Case to what became of it.
    """
    table = pipeline.output / "manifest.csv"
    rows: list[dict[str, str]] = list(earlier_rows(table, pipeline, {visit.case for visit in visits}))
    for visit in visits:
        files = outcomes[visit.case].files
        filled = [
            f"{name}={other}" for name, other in pipeline.fill.items() if name in files and name not in visit.series
        ]
        paths = {name: file.relative_to(pipeline.output).as_posix() for name, file in files.items()}
        rows.append({"case": visit.case, "patient": visit.patient, **paths, "filled": " ".join(filled)})
    if not rows:
        table.unlink(missing_ok=True)
        return
    modalities = ordered({name for row in rows for name in MODALITIES if row.get(name)})
    columns = ["case", "patient", *modalities, "filled"]
    kept = [{name: row.get(name, "") for name in columns} for row in sorted(rows, key=lambda row: row["case"])]
    write_whole(table, csv_text(kept, columns))
