"""The plans that travel with the package: each is consistent, and every published number is in one or in a report."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.plan.cell import Expansion
from segan_pl.experiments.plan.expansion import expand, require_consistent
from segan_pl.experiments.plan.plan import read_plan, shipped_plans
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.runs import require_sound
from segan_pl.experiments.shipped import find_config
from segan_pl.report.published import HEALTHY, published, published_for

FOUR = ("t1", "t1ce", "t2", "flair")
RUNS = {
    "segan_cat": {"fit": 13, "test": 16, "predict": 4, "evaluate": 4},
    "albunet": {"fit": 20, "predict": 40, "evaluate": 40},
    "ucl_tig": {"fit": 3, "predict": 2, "evaluate": 2},
    "reciprocal": {"fit": 6, "test": 6},
    "critics": {"fit": 260, "predict": 260, "evaluate": 260},
    "cross_validation": {"fit": 5},
    "lgg": {"fit": 15},
    "few_shot": {"fit": 126, "predict": 126, "atlas": 18, "evaluate": 144},
}


def expanded(name: str, **values: object) -> Expansion:
    plan = read_plan(name)
    plan.values.update(values)  # type: ignore[attr-defined]
    return expand(Study(plan, Path("/study"), "/data", FOUR, ("--data.root", "/data"), seeds=plan.seeds))


def test_of_an_empty_list_the_runs_and_rows_are_left_out() -> None:
    some = expanded("few_shot", gans=["gt_gan"], teachers=[], objectives=[], atlases=[], labelled=[1])
    assert [run.name for run in some.runs if run.arguments[0] == "fit" and run.name.endswith("seed0")] == [
        "supervised_n1_seed0",
        "supervised_ce_n1_seed0",
        "gt_gan_n1_seed0",
    ]
    assert {cell.label for cell in some.cells if cell.table == "gains"} == {"gt_gan, n = 1"}
    none = expanded("few_shot", gans=[], teachers=[], objectives=[], atlases=[])
    assert {cell.table for cell in none.cells} == {"scores", "labels"}
    assert none.notes == ("table gains is left out: no row shows a run",)
    with pytest.raises(UsageError, match="few_shot: nothing is left to run: table scores is left out: no row shows"):
        expanded("few_shot", labelled=[])


@pytest.mark.parametrize("name", RUNS)
def test_a_plan_is_consistent_and_each_of_its_runs_comes_after_those_that_it_needs(name: str) -> None:
    require_consistent(read_plan(name))
    found = expanded(name, **({"clinical": "/clinical"} if name in ("albunet", "ucl_tig") else {}))
    require_sound(found.runs)
    assert Counter(run.arguments[0] for run in found.runs) == RUNS[name]
    assert found.notes == ()
    for run in found.runs:
        for flag, file in zip(run.arguments, run.arguments[1:], strict=False):
            if flag == "--config":
                assert find_config(file).is_file()


def test_each_shipped_plan_is_tested_here() -> None:
    assert set(shipped_plans()) == set(RUNS)


def test_every_published_number_is_in_a_plan_or_in_a_report() -> None:
    found = [expanded(name, **({"clinical": "/clinical"} if name in ("albunet", "ucl_tig") else {})) for name in RUNS]
    shown = [row for one in found for cell in one.cells for row in cell.printed]
    for convention in HEALTHY:
        shown += published_for({"data": {"native_labels": convention}}, ["csf", "gm", "wm"])
    assert [row for row in published() if row not in shown] == []


def test_every_number_of_a_cell_is_one_of_the_tables_columns() -> None:
    for name in RUNS:
        plan = read_plan(name)
        for cell in expanded(name, **({"clinical": "/clinical"} if name in ("albunet", "ucl_tig") else {})).cells:
            table = plan.tables[cell.table]
            for key in cell.published:
                assert key.metric in table.metrics
                assert key.region in (table.regions or ("wt",))
                assert key.statistic == "one" or key.statistic in table.statistics


def test_without_a_clinical_folder_table_two_is_left_out_and_says_how_to_have_it() -> None:
    found = expanded("albunet")
    assert found.notes == ("table II is left out: it needs --set clinical=...",)
    assert "II" not in {cell.table for cell in found.cells}


def test_segan_cat_scores_the_crop_votes_included() -> None:
    for run in expanded("segan_cat").runs:
        flag = {"fit": "--model.score_on", "evaluate": "--score_on"}.get(run.arguments[0])
        if flag:
            assert run.arguments[run.arguments.index(flag) + 1] == "crop"


def test_the_ensemble_of_a_cross_validation_is_every_fold() -> None:
    assert expanded("cross_validation").ensemble == {0: tuple(f"fold{fold}_seed0" for fold in range(5))}


def test_of_the_critics_each_fold_is_predicted_and_scored_by_its_own_model_alone() -> None:
    for run in expanded("critics").runs:
        if run.arguments[0] in ("predict", "evaluate"):
            (fold,) = re.findall(r"_fold(\d)_", run.name)
            root = run.arguments[run.arguments.index("--root") + 1]
            assert root == f"/study/scored_cases_fold{fold}.csv"
