"""Dice by subset on the page and in Markdown, worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.evaluation.statistics.summaries import mean_intervals
from segan_pl.report.run_files import read_files
from segan_pl.report.score_rows import subset_file, subset_rows
from tests.report.run_folders import make_run, score, write_rows
from tests.report.test_run_report import made

T1 = {f"case_{number}": dice for number, dice in enumerate((0.2, 0.4, 0.9, 0.1, 0.6, 0.8, 0.5))}  # mean 0.5


def rows(dices: dict[str, float | str], subset: str, region: str = "wt") -> list[dict[str, object]]:
    size = len(subset.split("+"))
    return [score(case, dice, region, subset=subset, modalities=size) for case, dice in dices.items()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "run")
    table = [*rows({**T1, "case_2": ""}, "t1"), *rows(dict.fromkeys(T1, 0.5), "flair"), *rows(T1, "t1+flair")]
    write_rows(folder / "scores" / "val_epoch_0001_subsets.csv", table)
    return folder


def test_each_subset_has_its_mean_interval_and_number(run: Path) -> None:
    (low,), (high,) = mean_intervals(np.array([list(T1.values())]).T, list(T1))
    found = subset_rows(read_files(f"ours={run}"))
    assert found[0][:5] == ["ours", "t1", "1", "WT", "0.433"]  # (0.2 + 0.4 + 0.1 + 0.6 + 0.8 + 0.5) / 6, one is n/a
    assert found[0][6] == "6"
    assert found[1] == ["ours", "flair", "1", "WT", "0.500", "0.500 to 0.500", "7"]
    assert found[2] == ["ours", "t1+flair", "2", "WT", "0.500", f"{low:.3f} to {high:.3f}", "7"]
    assert found[3] == ["ours", "mean of the 3", "", "WT", f"{(2.6 / 6 + 0.5 + 0.5) / 3:.3f}", "", ""]


def test_scans_of_one_patient_are_drawn_together(run: Path) -> None:
    table = [{**row, "patient": str(row["case"]).replace("case_1", "case_0")} for row in rows(T1, "t1")]
    write_rows(run / "scores" / "val_epoch_0001_subsets.csv", table)
    owners = [str(row["patient"]) for row in table]
    (low,), (high,) = mean_intervals(np.array([list(T1.values())]).T, owners)
    (alone,), _ = mean_intervals(np.array([list(T1.values())]).T, list(T1))
    assert f"{low:.3f}" != f"{alone:.3f}"
    assert subset_rows(read_files(str(run)))[0][4:] == ["0.500", f"{low:.3f} to {high:.3f}", "7"]
    write_rows(run / "scores" / "val_epoch_0001_subsets.csv", [{**row, "patient": "p"} for row in table])
    assert subset_rows(read_files(str(run)))[0][4:] == ["0.500", "n/a", "7"]


def test_a_subset_without_any_value_is_not_available(run: Path) -> None:
    table = [*rows(dict.fromkeys(T1, ""), "t1"), *rows(T1, "flair")]
    write_rows(run / "scores" / "val_epoch_0001_subsets.csv", table)
    found = subset_rows(read_files(str(run)))
    assert found[0][4:] == ["n/a", "n/a", "0"]
    assert found[2][4] == "0.500"


def test_the_page_and_its_markdown_show_the_same_table(run: Path, tmp_path: Path) -> None:
    page = made(tmp_path, str(run))
    assert "Subsets of the modalities" in page.text
    assert "subsets of the modalities from val_epoch_0001_subsets.csv" in page.text
    text = (tmp_path / "page" / "index.md").read_text()
    for row in subset_rows(read_files(str(run))):
        assert " ".join(cell for cell in row if cell) in page.text
        assert "| " + " | ".join(cell.replace("_", "\\_") for cell in row) + " |" in text


def test_a_run_without_subsets_has_no_such_part(tmp_path: Path) -> None:
    page = made(tmp_path, str(make_run(tmp_path / "plain")))
    assert "ubsets of the modalities" not in page.text


def test_the_table_of_subsets_is_that_of_the_scores_else_of_the_best_checkpoint(run: Path) -> None:
    scores = run / "scores"
    own = scores / "val_epoch_0001_subsets.csv"
    for name in ("val_epoch_0000", "validate_last", "validate_epoch0001_dice0.5000"):
        (scores / f"{name}_subsets.csv").write_bytes(own.read_bytes())
    assert subset_file(read_files(str(run))) == own
    own.unlink()
    assert subset_file(read_files(str(run))) == scores / "validate_epoch0001_dice0.5000_subsets.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,region,dice\na,wt,0.5\n", "no column subset, modalities; score the subsets again"),
        ("case,subset,modalities,region,dice\n", "no rows; score the subsets again"),
        ("case,subset,modalities,region,dice\na,t1,1,wt,high\n", "line 2: could not convert string to float: 'high'"),
        ("case,subset,modalities,region,dice\na,t1,one,wt,0.5\n", "line 2: invalid literal for int"),
    ],
)
def test_a_damaged_table_of_subsets_is_named_with_the_remedy(run: Path, text: str, message: str) -> None:
    (run / "scores" / "val_epoch_0001_subsets.csv").write_text(text)
    with pytest.raises(CaseError, match=message) as error:
        subset_rows(read_files(str(run)))
    assert "val_epoch_0001_subsets.csv" in str(error.value)
