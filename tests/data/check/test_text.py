from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from segan_pl.data.check.case_table import CaseRow
from segan_pl.data.check.cases import CheckReport
from segan_pl.data.check.text import CASES_SHOWN, grouped_faults, grouped_notes, print_report
from segan_pl.data.conventions import CONVENTIONS
from segan_pl.data.layouts import DataSet

FILES = {"t1": "x", "t2": "y", "mask": "z"}


def row(name: str, **facts: object) -> CaseRow:
    return CaseRow(name, name, **{"files": FILES, **facts})  # type: ignore[arg-type]


def page(*rows: CaseRow, notes: tuple[str, ...] = ()) -> list[str]:
    report = CheckReport(rows, CONVENTIONS["brats2017"], ("t1", "t2"), "refuse", (), notes, 1.25)
    file = StringIO()
    print_report(report, DataSet(Path("/somewhere"), "brats2019", (), "brats2017"), file)
    return file.getvalue().splitlines()


def test_notes_that_differ_only_in_part_and_numbers_share_a_line() -> None:
    rows = [
        row("a", notes=("t1: constant, every voxel is 7", "t2: constant, every voxel is -1e+30")),
        row("b", notes=("t1: constant, every voxel is 8", "t2: geometry assumed")),
        row("c", notes=("t2: geometry assumed",)),
        row("d", notes=("incomplete (no t2): left out",)),
    ]
    assert grouped_notes(rows) == [
        "2 cases: e.g. constant, every voxel is 7: a t1, t2; b t1",
        "2 cases: geometry assumed: b t2; c t2",
        "d: incomplete (no t2): left out",
    ]


def test_a_note_of_many_cases_names_the_first_and_counts_the_rest() -> None:
    rows = [row(f"c{number}", notes=("t1: geometry assumed",)) for number in range(9)]
    assert grouped_notes(rows) == ["9 cases: geometry assumed: c0 t1; c1 t1; c2 t1; c3 t1; and 5 more"]


def test_each_fault_has_a_line_unless_many_cases_share_it() -> None:
    rows = [row("a", faults=("broken", "no labels")), row("b", faults=("no labels",)), row("c", faults=("no labels",))]
    assert grouped_faults(rows) == ["a: broken", "3 cases: no labels: a, b, c"]
    assert grouped_faults(rows[:2]) == ["a: broken", "a: no labels", "b: no labels"]


def test_the_summary_is_the_last_line_and_refusals_stand_before_it() -> None:
    lines = page(row("a"), row("b", faults=("broken " * 60,)), notes=("of the data set",))
    assert lines[-1] == "2 given, 1 used, 1 refused"
    assert lines[-2].startswith("refused: b: broken broken")
    assert lines[-2].count("broken") == 60, "one line, however long"
    assert lines[-3] == "note: of the data set"


def test_no_line_of_the_page_ends_in_blanks_or_bears_a_colour() -> None:
    lines = page(row("a", grade="HGG", institution="X", labels={0: 1, 4: 1}, tumour_ml=3.0, notes=("t1: odd",)))
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_tables_keep_to_the_width_and_case_names_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "BraTS19_CBICA_AAB_1"
    facts = {"grade": "HGG", "institution": "CBICA", "shape": (240, 240, 155), "spacing_mm": (1.0, 1.0, 1.0)}
    lines = page(row(name, **facts, labels={0: 9, 1: 1, 2: 1, 4: 1}, tumour_ml=12.34))
    assert all(len(line) <= width for line in lines)
    (line,) = (line for line in lines if line.startswith(name))
    assert line.endswith("12.3") == (width >= 50)
    assert ("240 x 240 x 155" in line) == (width >= 80)


def test_brackets_in_a_name_are_no_markup() -> None:
    assert any(line.startswith("[red]case[/]") for line in page(row("[red]case[/]")))


def test_a_long_case_table_is_left_to_the_csv() -> None:
    rows = [row(f"case{number:03d}") for number in range(CASES_SHOWN + 1)]
    assert any(line.startswith("case000") for line in page(*rows[:-1]))
    lines = page(*rows)
    assert not any(line.startswith("case000") for line in lines)
    assert f"the table of all {CASES_SHOWN + 1} cases: --csv FILE; everything that was found: --json FILE" in lines
