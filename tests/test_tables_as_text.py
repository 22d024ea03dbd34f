"""Cells that a spreadsheet would run, on the way out and back."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.layouts import find_data_set
from segan_pl.evaluation.saved_files import csv_rows, metrics_rows
from segan_pl.evaluation.tables import write_table
from segan_pl.files import as_text, as_was, csv_records, csv_text
from segan_pl.training.callbacks.record import write_row
from tests.generators.trees import write_cohort

FORMULAS = (
    "=1+1",
    "+HYPERLINK(x)",
    "-cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''@x",
    "-1.5x",
    "-",
    "'-1",
)
PLAIN = ("", "a", "a=b", "it's", "'quoted'", "BraTS19_1", "-1.5", "+0.02", "-1e-3", "-inf", "1.5", "=".rjust(2))


@pytest.mark.parametrize("cell", [*FORMULAS, *PLAIN])
def test_a_cell_is_read_back_as_it_was(cell: str) -> None:
    text = csv_text([{"case": cell, cell: "x"}], ["case", cell])
    (row,) = csv_records(io.StringIO(text, newline=""))
    assert row["case"] == cell
    assert row[cell] == "x"


@pytest.mark.parametrize("cell", FORMULAS)
def test_what_a_spreadsheet_would_run_begins_with_an_apostrophe(cell: str) -> None:
    written = next(csv.reader([csv_text([{cell: 1}]).splitlines()[0]])) if "\r" not in cell else [str(as_text(cell))]
    assert written == [f"'{cell}"]


@pytest.mark.parametrize("cell", [*PLAIN, -1.5, -3, None])
def test_numbers_and_other_words_are_written_as_they_are(cell: object) -> None:
    assert as_text(cell) is cell


def test_what_others_wrote_keeps_its_apostrophes() -> None:
    assert [as_was(cell) for cell in ("'tis", "'", "''", "'a=b")] == ["'tis", "'", "''", "'a=b"]


def test_a_long_row_keeps_its_surplus_under_no_name_and_a_short_one_is_filled() -> None:
    assert csv_records(["a,b\n", "1,2,3,4\n", "5\n", "\n"]) == [
        {"a": "1", "b": "2", "": "3,4"},
        {"a": "5", "b": ""},
    ]


def test_tables_of_runs_and_scores_come_back(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"case": "=1+1", "patient": "@x", "dice": "-0.5"}])
    assert (tmp_path / "t.csv").read_text() == "case,patient,dice\n'=1+1,'@x,-0.5\n"
    assert csv_rows(tmp_path / "t.csv") == [{"case": "=1+1", "patient": "@x", "dice": "-0.5"}]
    write_row(tmp_path / "m.csv", {"epoch": 0, "=loss": -1.5})
    assert metrics_rows(tmp_path / "m.csv")[0]["=loss"] == "-1.5"


def test_a_patient_called_like_a_formula_keeps_its_name_through_check_and_a_manifest(tmp_path: Path) -> None:
    write_cohort(tmp_path / "data", layout="brats2019", cases=1, shape=(8, 24, 32))
    (case,) = find_data_set(tmp_path / "data").cases
    cells = {"case": "=2+3", "patient": "+49", "=note": "@home", "t1": str(case.images["t1"]), "mask": str(case.mask)}
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(csv_text([{**cells, "native_labels": "brats2017"}]))
    (found,) = find_data_set(manifest).cases
    assert (found.name, found.patient, dict(found.extra)) == ("=2+3", "+49", {"=note": "@home"})
    assert main(["check", f"--root={manifest}", "--workers=1", f"--csv={tmp_path / 'out.csv'}"]) == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("'=2+3,+49,")
    (row,) = csv_rows(tmp_path / "out.csv")
    assert (row["case"], row["extra_=note"]) == ("=2+3", "@home")


def test_one_writer_makes_every_table() -> None:
    package = Path(main.__code__.co_filename).parent
    writers = {
        path.name
        for path in package.rglob("*.py")
        if "csv.writer" in (text := path.read_text()) or "DictWriter" in text
    }
    assert writers == {"files.py"}
