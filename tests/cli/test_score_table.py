from __future__ import annotations

import io
import math

from rich.console import Console

from segan_pl.cli.score_table import SHOWN, print_case_table, print_scores
from segan_pl.evaluation.policies import Counts
from segan_pl.evaluation.tables import CaseScore


def printed(rows: list[CaseScore]) -> list[str]:
    text = io.StringIO()
    print_scores("test: the test cases", rows, Console(file=text, width=120))
    return text.getvalue().splitlines()


def score(case: str, region: str, dice: float, **more: float) -> CaseScore:
    return CaseScore(case, region, Counts(1, 1, 1, 1), {"dice": dice, **more}, institution="X")


def cells(line: str) -> list[str]:
    return line.replace("│", " ").split()


def test_regions_have_a_column_each_beside_their_mean_and_the_last_row_is_the_mean_over_cases() -> None:
    lines = printed([score("a", "wt", 0.8), score("a", "et", 0.4), score("b", "wt", 0.6), score("b", "et", math.nan)])
    assert lines[0].strip() == "test: the test cases"
    found = [cells(line) for line in lines if "│" in line]
    assert found == [
        ["a", "X", "0.600", "0.800", "0.400"],
        ["b", "X", "0.600", "0.600", "n/a"],
        ["mean", "0.600", "0.700", "0.400"],
    ]
    head = next(line for line in lines if "institution" in line)
    assert "grade" not in head  # no case has one
    assert [name in head for name in ("mean Dice", "Dice wt", "Dice et")] == [True] * 3


def test_one_region_has_its_precision_and_sensitivity() -> None:
    (row, mean) = (
        cells(line) for line in printed([score("a", "wt", 0.5, precision=0.25, sensitivity=1.0)]) if "│" in line
    )
    assert row == ["a", "X", "0.500", "0.250", "1.000"]
    assert mean == ["mean", "0.500", "0.250", "1.000"]


def test_without_dice_the_first_metric_is_shown() -> None:
    row = CaseScore("a", "wt", Counts(1, 1, 1, 1), {"hd95_mm": 4.5})
    assert "hd95_mm wt" in "".join(printed([row]))
    assert cells(next(line for line in printed([row]) if "│" in line)) == ["a", "4.500"]


def test_of_many_cases_the_worst_are_shown_and_all_count() -> None:
    text = io.StringIO()
    dice = [number / 100 for number in range(100)]
    names = [f"case{number:02d}" for number in range(100)]
    print_case_table("validate", {"case": names}, {"Dice": dice}, Console(file=text, width=120))
    assert f"validate; the worst {SHOWN} of 100 cases" in text.getvalue()
    assert "case39" in text.getvalue()
    assert "case40" not in text.getvalue()
    assert cells(text.getvalue().splitlines()[-2]) == ["mean", "0.495"]
