"""Rows of a plan against one another, against a number, and what they cost: numbers worked by hand or by `compare`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import Case, CaseError
from segan_pl.data.cohort import Cohort
from segan_pl.data.layouts import DataSet
from segan_pl.data.split.choice import SplitChoice
from segan_pl.data.split.record import case_digest
from segan_pl.errors import UsageError
from segan_pl.evaluation.statistics.comparison import Score, compare
from segan_pl.experiments.plan.comparisons import differences, reached
from segan_pl.experiments.plan.expansion import expand, require_consistent
from segan_pl.experiments.plan.page_tables import table_texts
from segan_pl.experiments.plan.pages import Page, files, read_page
from segan_pl.experiments.plan.plan import read_plan
from segan_pl.experiments.plan.study import Study, study_splits, training_split
from segan_pl.experiments.runs import Run, run_folder, write_state
from tests.experiments.study_play import cases, finish

PLAN = """
title: few labels
seeds: [0, 1]
split: named
parts: {train: "{pool}", unlabelled: [d], test: "{tested}"}
values: {pool: [a, b], tested: [c], methods: [plain, teacher], labelled: [1, 2], way: vote}
runs:
  "{m}_n{n}":
    each: {m: methods, n: labelled}
    fit: segan
    options: {data.n_labelled: "{n}", data.split_seed: "{seed}"}
  "{m}_n{n}_masks": {each: {m: methods, n: labelled}, predict: "{m}_n{n}", checkpoint: last}
  "{m}_n{n}_scores": {each: {m: methods, n: labelled}, evaluate: "{m}_n{n}_masks"}
  atlas_masks: {atlas: "{way}", options: {n_labelled: 1, split_seed: "{seed}"}}
  atlas_scores: {evaluate: atlas_masks}
tables:
  scores:
    title: Scores
    metrics: [dice]
    statistics: [mean, sd]
    cost: true
    rows:
      - {label: "{m}, {n}", each: {m: methods, n: labelled}, run: "{m}_n{n}_scores"}
      - {label: atlas, run: atlas_scores}
  gain:
    title: Gain
    form: differences
    metrics: [dice]
    rows: [{label: "teacher, {n}", each: {n: labelled}, run: "teacher_n{n}_scores", reference: "plain_n{n}_scores"}]
  line:
    title: Line
    form: against
    against: labelled
    metrics: [dice]
    rows:
      - {label: "{m}, {n}", each: {m: methods, n: labelled}, run: "{m}_n{n}_scores", series: "{m}", at: "{n}"}
"""
FIRST, SECOND = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [0.3, 0.3, 0.3, 0.5, 0.5, 0.8, 0.6]


def own(folder: Path, text: str = PLAN) -> str:
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


def page_of(folder: Path) -> Page:
    study = Study(read_plan(own(folder)), folder, "/data", ("t1",), ("--data.root", "/data"), seeds=(0, 1))
    return read_page(study, expand(study), [], [])


def scored(folder: Path) -> None:
    """Both methods with one label, of two seeds; with two labels the plain one alone."""
    for seed in (0, 1):
        finish(folder, f"plain_n1_scores_seed{seed}", cases([value + 0.02 * seed for value in FIRST]))
        finish(folder, f"teacher_n1_scores_seed{seed}", cases([value + 0.04 * seed for value in SECOND]))
        finish(folder, f"plain_n2_scores_seed{seed}", cases(SECOND))


def test_the_plan_is_consistent_and_its_runs_choose_by_the_seed(tmp_path: Path) -> None:
    require_consistent(read_plan(own(tmp_path)))
    study = Study(read_plan(own(tmp_path)), tmp_path, "/data", ("t1",), ("--data.root", "/data"), seeds=(0, 3))
    runs = {run.name: run.arguments for run in expand(study).runs}
    fit = runs["teacher_n2_seed3"]
    assert fit[fit.index("--data.n_labelled") + 1 :][:3] == ("2", "--data.split_seed", "3")
    # what a training is told names no test case
    assert fit[fit.index("--data.split_file") + 1] == str(tmp_path / "training.json")
    assert fit[fit.index("--data.val_fraction") + 1 :][:3] == ("0", "--data.unlabelled", "use")
    atlas = runs["atlas_masks_seed3"]
    assert atlas[:5] == ("atlas", "--data.root", "/data", "--split_file", str(tmp_path / "split.json"))
    assert atlas[5:] == (
        *("--method", "vote", "--output", f"{tmp_path}/masks/atlas_masks_seed3"),
        *("--n_labelled", "1", "--split_seed", "3"),
    )
    evaluate = runs["atlas_scores_seed3"]
    assert evaluate[evaluate.index("--root") + 1] == str(tmp_path / "scored_cases.csv")


def test_a_difference_is_that_of_compare_over_the_seeds_means_with_holm_over_the_table(tmp_path: Path) -> None:
    scored(tmp_path)
    finish(tmp_path, "teacher_n2_scores_seed0", cases([value + 0.1 for value in SECOND]))
    page = page_of(tmp_path)
    table = page.study.plan.tables["gain"]
    one, two = differences(table, page.of(table))
    sides = [
        [Score(case, case, value + step) for case, value in cases(values).items()]
        for values, step in ((SECOND, 0.02), (FIRST, 0.01))
    ]
    expected = compare(*sides)
    assert one.found is not None
    assert one.found.difference == pytest.approx(expected.difference)
    assert one.found.interval == pytest.approx(expected.interval)
    assert one.found.permutation_p == expected.permutation_p
    # the second is of the seed that both sides have
    assert (one.seeds, two.seeds) == ((0, 1), (0,))
    assert two.found is not None
    assert two.found.difference == pytest.approx(0.1)
    small, large = sorted([one.found.permutation_p or 0, two.found.permutation_p or 0])
    assert sorted([one.holm, two.holm]) == pytest.approx([min(1, 2 * small), max(min(1, 2 * small), large)])
    written = list(csv.DictReader(str(files(page)["gain.csv"]).splitlines()))
    assert [(row["row"], row["reference"], row["seeds"]) for row in written] == [
        ("teacher, 1", "plain_n1_scores", "2"),
        ("teacher, 2", "plain_n2_scores", "1"),
    ]
    assert float(written[0]["difference"]) == pytest.approx(expected.difference, abs=1e-6)
    assert page.facts[-1].startswith("Table gain: 7 patients can reach p = 0.016") == (0.015625 * 2 > 0.05)
    text = table_texts(table, page.of(table), tmp_path)["WT"][1]
    assert text[1][2] == "+0.100 [+0.100, +0.100]"


def test_a_row_without_scores_is_no_difference_and_no_number(tmp_path: Path) -> None:
    scored(tmp_path)
    page = page_of(tmp_path)
    table = page.study.plan.tables["gain"]
    assert [(one.found is None, one.holm is None) for one in differences(table, page.of(table))] == [
        (False, False),
        (True, True),
    ]
    text = table_texts(table, page.of(table), tmp_path)["WT"][1]
    assert text[1][2:] == ["n/a", "", "not run"]
    row = list(csv.DictReader(str(files(page)["gain.csv"]).splitlines()))[1]
    assert (row["difference"], row["p_holm"], row["seeds"]) == ("", "", "0")


def test_a_line_has_a_point_for_each_number_with_the_sd_of_the_seeds(tmp_path: Path) -> None:
    scored(tmp_path)
    page = page_of(tmp_path)
    table = page.study.plan.tables["line"]
    found = reached(table, page.of(table))
    assert list(found) == ["wt"]
    assert [point.at for point in found["wt"]["plain"]] == [1, 2]
    assert found["wt"]["plain"][0].mean == pytest.approx(np.mean(FIRST) + 0.01)
    assert found["wt"]["plain"][0].sd == pytest.approx(0.02 / 2**0.5)
    assert found["wt"]["plain"][1].sd == 0
    assert [point.at for point in found["wt"]["teacher"]] == [1]
    written = files(page)
    assert {"line.svg", "line.png", "line.csv"} <= set(written)
    assert str(written["line.csv"]).startswith("value,row,at,region,mean,sd,seeds\n")


def test_means_come_with_the_sd_of_the_seeds_and_the_cost(tmp_path: Path) -> None:
    scored(tmp_path)
    for seed, seconds in ((0, 60), (1, 180)):
        # the call that finished took less than the epochs of all calls
        write_state(tmp_path, Run(f"plain_n1_seed{seed}", ("fit",)), "finished", exit_code=0, seconds=3)
        epochs = "".join(f"{epoch},{seconds / 2}\n" for epoch in range(2))
        run_folder(tmp_path, f"plain_n1_seed{seed}").mkdir(parents=True)
        (run_folder(tmp_path, f"plain_n1_seed{seed}") / "metrics.csv").write_text(f"epoch,seconds\n{epochs}")
        folder = tmp_path / "masks" / f"plain_n1_masks_seed{seed}"
        folder.mkdir(parents=True)
        rows = "".join(f"{case},{case},x,{2 + seed},,\n" for case in "ab")
        (folder / "predictions.csv").write_text(f"case,patient,file,seconds,refused,notes\n{rows}")
    page = page_of(tmp_path)
    table = page.study.plan.tables["scores"]
    columns, lines = table_texts(table, page.of(table), tmp_path)[""]
    assert columns[-2:] == ["training, minutes", "seconds for each volume"]
    assert lines[0][-2:] == ["2.0", "2.5"]
    assert "(SD 0.014)" in lines[0][1]
    assert lines[1][-2:] == ["", ""]


# -- a split whose cases the plan names --------------------------------------------------------------------------------


def cohort(*names: str, without: str = "") -> Cohort:
    found = tuple(
        Case(name, name, {"t1": Path(f"/data/{name}.nii")}, None if name in without else Path(f"/data/{name}_seg.nii"))
        for name in names
    )
    return Cohort(DataSet(Path("/data"), "own", found, None), found, (), ("t1",))


CHOICE = SplitChoice(0.2, 0.0, (), None, None, "ignore", "refuse", 0)


def test_the_plan_names_the_cases_and_the_trainings_are_not_told_of_the_test(tmp_path: Path) -> None:
    some = cohort("a", "b", "c", "d", "e", "f", without="df")
    (split,), notes = study_splits(read_plan(own(tmp_path)), CHOICE, some, tmp_path / "split.json", None)
    assert (split.train, split.val, split.test) == (("a", "b"), (), ("c",))
    assert split.unlabelled == ("d",)
    assert [*notes, *split.notes] == ["2 cases are in no part of the plan and not used: e, f"]
    told = training_split(split, some)
    assert (told.train, told.test, told.unlabelled) == (split.train, (), split.unlabelled)
    assert told.digest == case_digest(case for case in some.cases if case.name in "abd")
    split.save(tmp_path / "split.json")
    (kept,), _ = study_splits(read_plan(own(tmp_path)), CHOICE, some, tmp_path / "split.json", None)
    assert kept.test == ("c",)
    silent = read_plan(own(tmp_path, PLAN.replace("unlabelled: [d], ", "")))
    (split,), _ = study_splits(silent, CHOICE, some, tmp_path / "another.json", None)
    assert split.unlabelled == ("d", "f")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("tested: [c]", "tested: [x]", "parts: test: no case x in /data"),
        ("tested: [c]", "tested: [a]", "parts: case a is in train and in test; expected it once"),
        ("tested: [c]", "tested: [d]", "parts: case d is in unlabelled and in test; expected it once"),
        ("pool: [a, b]", "pool: [a, f]", "parts: train: case f has no mask; name it under unlabelled"),
        ("pool: [a, b]", "pool: a", "parts: train: expected a list of cases, or a value that is one; found {pool}"),
    ],
)
def test_cases_that_cannot_be_are_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    plan = read_plan(own(tmp_path, PLAN.replace(old, new)))
    some = cohort("a", "b", "c", "d", "f", without="df")
    with pytest.raises((UsageError, CaseError)) as error:
        study_splits(plan, CHOICE, some, tmp_path / "split.json", None)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("split: named", "split: one", "split one: expected parts, train and test among them, for split named alone"),
        ('unlabelled: [d], test: "{tested}"', "unlabelled: [d]", "split named: expected parts, train and test among"),
        ("unlabelled: [d]", "val: [d]", "parts val: unknown"),
        (', reference: "plain_n{n}_scores"', "", "a table of differences needs reference in each row"),
        (', at: "{n}"', "", "a table of against needs at in each row"),
        ('at: "{n}"', 'at: "{m}"', "table line: at: expected a number, found plain"),
        ('reference: "plain_n{n}_scores"', 'reference: "plain_n{n}_masks"', "run plain_n1_masks is a predict"),
        ("cost: true", "cost: 3", "cost: expected true or false, found int 3"),
        ('atlas: "{way}"', "atlas: [vote, mixture]", "atlas: expected its method, found vote, mixture"),
    ],
)
def test_what_these_tables_need_is_said_before_any_run(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in PLAN
    with pytest.raises(UsageError) as error:
        require_consistent(read_plan(own(tmp_path, PLAN.replace(old, new))))
    assert says in str(error.value)
