from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from segan_pl.data.case import Case
from segan_pl.evaluation.metrics.named import CHEAP
from segan_pl.evaluation.policies import POLICIES
from segan_pl.evaluation.scoring import score_counts
from segan_pl.evaluation.tables import (
    CaseScore,
    case_rows,
    require_each_once,
    summarise,
    summary_names,
    write_scores,
)

REGIONS = ("wt", "et")


def cohort(policy: str = "segan_cat") -> list[CaseScore]:
    """Dice: wt 0.5 and 1; et 0 (nothing predicted), and both empty."""
    counts = {"a": [[1, 1, 1, 7], [0, 0, 2, 8]], "b": [[2, 0, 0, 8], [0, 0, 0, 10]]}
    rows = []
    for name, numbers in counts.items():
        case = Case(name, "", {}, grade="HGG" if name == "a" else None, extra={"age": "7", "dice": "x"})
        found = score_counts(dict(zip(REGIONS, numbers, strict=True)), (1, 1, 1), CHEAP, policy=POLICIES[policy])  # type: ignore[arg-type]
        rows += case_rows(case, found, REGIONS)
    return rows


def test_a_case_has_one_row_a_region() -> None:
    rows = cohort()
    assert [(row.case, row.region, row.counts.tp) for row in rows] == [
        ("a", "wt", 1),
        ("a", "et", 0),
        ("b", "wt", 2),
        ("b", "et", 0),
    ]


def test_means_stand_beside_the_number_of_cases_that_they_are_over() -> None:
    found = summarise(cohort(), REGIONS, CHEAP)
    assert (found["dice_wt"], found["cases_wt"]) == (0.75, 2)
    assert (found["dice_et"], found["cases_et"]) == (0, 1)
    assert found["dice_mean"] == 0.375
    assert math.isnan(found["precision_et"])
    assert (found["empty_both"], found["empty_prediction"], found["empty_reference"]) == (1, 1, 0)


def test_an_empty_pair_counts_as_1_where_the_policy_says_so() -> None:
    found = summarise(cohort("brats2018"), REGIONS, CHEAP)
    assert (found["dice_et"], found["cases_et"], found["sensitivity_et"]) == (0.5, 2, 0.5)


@pytest.mark.parametrize("regions", [("wt",), REGIONS, ("wt", "tc", "et")])
def test_the_names_of_a_summary_are_known_before_any_case_is_scored(regions: tuple[str, ...]) -> None:
    assert sorted(summary_names(regions, CHEAP)) == sorted(summarise([], regions, CHEAP))


def test_every_case_must_be_scored_once() -> None:
    require_each_once(["b", "a"], ["a", "b"])
    with pytest.raises(RuntimeError, match=r"missing \['c'\], too many \['a'\]"):
        require_each_once(["a", "b", "a"], ["a", "b", "c"])


def test_the_csv_holds_counts_and_scores_and_leaves_cells_empty_that_are_not_available(tmp_path: Path) -> None:
    path = tmp_path / "scores" / "val.csv"
    for _ in range(2):
        write_scores(path, cohort(), CHEAP, POLICIES["segan_cat"])
    assert sorted(file.name for file in path.parent.iterdir()) == ["metrics.json", "val.csv"]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0].items()) == list(
        {
            "case": "a",
            "patient": "",
            "grade": "HGG",
            "institution": "",
            "age": "7",
            "extra_dice": "x",
            "region": "wt",
            "status": "scored",
            "tp": "1",
            "fp": "1",
            "fn": "1",
            "tn": "7",
            "dice": "0.500000",
            "precision": "0.500000",
            "sensitivity": "0.500000",
            "specificity": "0.875000",
            "empty": "neither",
            "policy": "segan_cat",
        }.items()
    )
    assert (rows[3]["dice"], rows[3]["specificity"], rows[3]["empty"]) == ("", "1.000000", "both")
