"""The report's numbers are those of `segan_pl evaluate`, with what they mean beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segan_pl.__main__ import main
from segan_pl.evaluation.lesions import RULES
from segan_pl.evaluation.metrics.named import evaluation_metrics
from segan_pl.evaluation.statistics.summaries import Scored, summarise_cases
from segan_pl.report.run_files import read_files
from segan_pl.report.score_rows import origin_lines, statistics, summary_cells
from tests.report.run_folders import make_evaluation, make_run, score

METRICS = {
    "hd95_mm": {"definition": "deepmind", "meaning": "surface elements"},
    "surface_dice": {"definition": "tolerance 3 mm"},
}


def table_rows(page: Path) -> list[list[str]]:
    """Cells of the scores' table in Markdown."""
    lines = page.read_text(encoding="utf-8").split("| unit | better |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_interval_is_that_of_the_mean_beside_it(tmp_path: Path) -> None:
    """One patient with 30 bad scans and nine with a good one: over cases the mean is low, over patients high."""
    rows = [score(f"a{n}", 0.1, patient="A", status="ok") for n in range(30)]
    rows += [score(f"b{n}", 0.88 + n / 100, patient=f"B{n}", status="ok") for n in range(9)]
    folder = make_evaluation(tmp_path / "evaluation", rows, bootstrap={"seed": 7})
    found = statistics(read_files(str(folder)))["wt", "dice"]
    cases = [
        Scored(str(row["case"]), str(row["patient"]), {}, {("wt", "dice"): float(str(row["dice"]))}) for row in rows
    ]
    wanted = summarise_cases(cases, [("wt", "dice")], seed=7)["wt", "dice"]
    assert found == wanted
    assert found.low < found.mean < found.high
    assert (found.n, found.patients) == (39, 10)


@pytest.mark.parametrize(("patients", "interval"), [(5, False), (6, True)])
def test_there_is_an_interval_from_six_patients_on(tmp_path: Path, patients: int, interval: bool) -> None:
    rows = [score(f"c{n}", 0.5 + n / 100, patient=f"p{n % patients}", status="ok") for n in range(12)]
    folder = make_evaluation(tmp_path / "evaluation", rows)
    assert main(["report", str(folder)]) == 0
    (cells,) = [row for row in table_rows(folder / "report" / "index.md") if row[2] == "dice"]
    assert (" to " in cells[4]) is interval
    assert interval or cells[4] == "n/a"


def test_a_difference_of_volumes_keeps_its_sign(tmp_path: Path) -> None:
    rows = [score(f"c{n}", 0.5, status="ok", volume_difference_ml=v) for n, v in enumerate((-3.0, -2.0, 1.0))]
    folder = make_evaluation(tmp_path / "evaluation", rows)
    found = statistics(read_files(str(folder)))["wt", "volume_difference_ml"]
    assert (found.mean, found.median, found.minimum) == (pytest.approx(-4 / 3), -2, -3)


def test_nothing_available_is_said_and_counted(tmp_path: Path) -> None:
    rows = [score(f"c{n}", "", status="ok") for n in range(3)]
    run = read_files(str(make_evaluation(tmp_path / "evaluation", rows)))
    assert summary_cells(statistics(run)["wt", "dice"], 3) == ["n/a", "n/a", "n/a", "", "0", "3"]


def test_definitions_and_empty_masks_are_told(tmp_path: Path) -> None:
    empties = ("neither", "both", "prediction", "prediction")
    rows = [
        score(f"c{n}", 0.5, status="ok", hd95_mm=3.0, surface_dice=0.5) | {"empty": empty}
        for n, empty in enumerate(empties)
    ]
    folder = make_evaluation(tmp_path / "evaluation", rows, metrics=METRICS)
    assert origin_lines(read_files(f"x={folder}"))[1:] == [
        "x: definitions: hd95_mm: deepmind (surface elements); surface_dice: tolerance 3 mm.",
        "x: cases whose masks are empty: WT: 1 both, 0 reference, 2 prediction.",
    ]


def test_the_definitions_of_a_real_evaluation_are_understood(tmp_path: Path) -> None:
    metrics = evaluation_metrics(hd95="medpy", tolerance_mm=2, lesions=RULES["met"])
    said = {metric.name: metric.described() for metric in metrics}
    rows = [score("c", 0.5, status="ok", hd95_mm=3.0, surface_dice=0.5, lesion_dice=0.5)]
    folder = make_evaluation(tmp_path / "evaluation", rows, metrics=said)
    line = origin_lines(read_files(str(folder)))[1]
    for words in (
        "hd95_mm: medpy",
        "surface_dice: tolerance 2 mm",
        "lesion_dice: met (dilations 1, left_out_up_to_mm3 2)",
    ):
        assert words in line


def test_cases_of_unknown_patients_are_told(tmp_path: Path) -> None:
    rows = [score(f"c{n}", 0.5, status="ok", patient="") for n in range(2)]
    lines = origin_lines(read_files(f"x={make_evaluation(tmp_path / 'evaluation', rows)}"))
    assert lines[-1] == "x: no table says the patient of 2 cases; each counts as a patient of its own."


def test_markdown_has_the_pages_tables_and_no_name_is_taken_for_emphasis(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a_run_1")
    config: dict[str, Any] = {"model": {"width": 8}, "run": {"experiment": "other"}}
    b = make_run(tmp_path / "b", config=config)
    (b / "predictions").mkdir()
    (b / "predictions" / "predictions.csv").write_text("case,refused\nx,not a *volume*\n", encoding="utf-8")
    assert main(["report", str(a), str(b), f"--output={tmp_path / 'page.html'}"]) == 0
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    parts = [line for line in text.splitlines() if line.startswith("## ")]
    assert parts == [
        "## Next to the published numbers",
        "## Failures and empty masks",
        "## Settings in which the runs differ",
    ]
    assert "| segan\\_cat a\\_run\\_1 | WT | dice | 0.500 | 3 | 0.859 | segan\\_cat, BraTS2015, table I |" in text
    assert "| other b | x |  | not a \\*volume\\* |" in text
    assert "| model.width | not set | 8 |" in text


def test_the_evaluations_numbers_are_the_pages(tmp_path: Path) -> None:
    """summary.json of the same rows: mean and interval agree to its decimals."""
    rows = [score(f"c{n}", round(0.4 + n**2 / 300, 6), status="ok", patient=f"p{n // 2}") for n in range(12)]
    cases = [Scored(str(r["case"]), str(r["patient"]), {}, {("wt", "dice"): float(str(r["dice"]))}) for r in rows]
    summary = summarise_cases(cases, [("wt", "dice")])["wt", "dice"].as_dict()
    folder = make_evaluation(tmp_path / "evaluation", rows, overall=json.loads(json.dumps(summary)))
    assert main(["report", str(folder)]) == 0
    (cells,) = [row for row in table_rows(folder / "report" / "index.md") if row[2] == "dice"]
    assert cells[3:5] == [f"{summary['mean']:.3f}", f"{summary['low']:.3f} to {summary['high']:.3f}"]
