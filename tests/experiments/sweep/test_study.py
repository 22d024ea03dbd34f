"""A sweep as a study: names, numbers, continuation, rounds, and the table; trials are carried out by a stand-in."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.runner import DryRunner
from segan_pl.experiments.sweep.search import LONGEST_NAME, grid, name_of
from segan_pl.experiments.sweep.study import Plan, chosen_runs, run_sweep
from segan_pl.experiments.sweep.table import best_score, cells, table, text, write
from tests.experiments.sweep.stand_in import BAYES, GRID, StandIn

# -- grid and random ---------------------------------------------------------------------------------------------------


def test_a_trial_has_the_files_arguments_then_the_extra_ones_then_its_own_as_wandb_writes_them(
    make: Callable[..., Plan], study: Path
) -> None:
    _, trials = run_sweep(make(GRID, extra=["--data.root", "/d"]), study, StandIn())
    assert [trial.name for trial in trials] == [
        "001_clip=all,seed=0",
        "002_clip=all,seed=1",
        "003_clip=none,seed=0",
        "004_clip=none,seed=1",
    ]
    own = ("--model.objective.init_args.clip=none", "--data.seed=0")
    assert trials[2].arguments == ("fit", "--config", "segan_cat", "--data.root", "/d", *own)


def test_a_second_call_runs_only_what_failed(make: Callable[..., Plan], study: Path) -> None:
    stand_in = StandIn()
    stand_in.broken = {"002_clip=all,seed=1"}
    first, _ = run_sweep(make(GRID), study, stand_in)
    stand_in.broken = set()
    second, _ = run_sweep(make(GRID), study, stand_in)
    assert first is not None
    assert (len(first.finished), list(first.failed), first.exit_code) == (3, ["002_clip=all,seed=1"], 1)
    assert stand_in.rounds[1] == ["002_clip=all,seed=1"]
    assert second is not None
    assert second.exit_code == 0


def test_a_grid_that_grows_keeps_the_numbers_of_what_it_had(make: Callable[..., Plan], study: Path) -> None:
    stand_in = StandIn()
    run_sweep(make(GRID), study, stand_in)
    clip = "model.objective.init_args.clip"
    _, trials = run_sweep(make({**GRID, clip: {"values": ["kernels", "all", "none"]}}), study, stand_in)
    assert stand_in.rounds[1] == ["005_clip=kernels,seed=0", "006_clip=kernels,seed=1"]
    assert len(trials) == 6
    assert "002_clip=all,seed=1" in [trial.name for trial in trials]


def test_a_parameter_that_begins_to_vary_renames_nothing_that_has_finished(
    make: Callable[..., Plan], study: Path
) -> None:
    stand_in = StandIn()
    seeds = {"data.seed": {"values": [0, 1]}}
    run_sweep(make({**seeds, "loss.clip": {"values": ["all"]}}), study, stand_in)
    for grown in (["all", "none"], ["all", "none", "kernels"]):
        outcome, trials = run_sweep(make({"loss.clip": {"values": grown}, **seeds}), study, stand_in)
    assert stand_in.rounds == [
        ["001_seed=0", "002_seed=1"],
        ["003_clip=none,seed=0", "004_clip=none,seed=1"],
        ["005_clip=kernels,seed=0", "006_clip=kernels,seed=1"],
    ]
    assert trials[0].arguments[-2:] == ("--data.seed=0", "--loss.clip=all")  # as it was run: another order would differ
    assert outcome is not None
    assert len(outcome.kept) == 4


def test_count_takes_the_first_of_a_grid_and_adds_to_random_draws(make: Callable[..., Plan], study: Path) -> None:
    stand_in = StandIn()
    assert len(run_sweep(make(GRID, count=3), study, stand_in)[1]) == 3
    assert make(GRID, count=99).count == 4
    elsewhere = study / "random"
    few = run_sweep(make(BAYES, "random", count=2), elsewhere, stand_in)[1]
    more = run_sweep(make(BAYES, "random", count=5), elsewhere, stand_in)[1]
    assert more[:2] == few
    assert stand_in.rounds[-1] == [trial.name for trial in more[2:]]


def test_a_dry_run_writes_nothing(make: Callable[..., Plan], study: Path) -> None:
    lines: list[str] = []
    outcome, _ = run_sweep(make(GRID), study, DryRunner(progress=lines.append))
    assert outcome is None
    assert len(lines) == 4
    assert lines[0].startswith("segan_pl fit --config segan_cat --model.objective.init_args.clip=all --data.seed=0")
    assert not study.exists()


def test_a_dry_run_of_bayes_shows_its_first_round(make: Callable[..., Plan], study: Path) -> None:
    lines: list[str] = []
    assert run_sweep(make(BAYES, "bayes", count=5), study, DryRunner(2, lines.append))[0] is None
    assert len(lines) == 3
    assert lines[2] == "# and 3 more, which follow from the results"
    assert not study.exists()


@pytest.mark.parametrize(
    ("extra", "more", "error"),
    [
        (["--data.seed=3"], {}, "--data.seed after --: the sweep some varies it"),
        (["--run.directory", "x"], {}, "each trial has a folder of its own"),
        (["lgg"], {}, "'lgg' after --: expected options of segan_pl fit"),
        ([], {"count": 0}, "--count 0: expected at least 1"),
    ],
)
def test_what_cannot_hold_for_all_trials_is_refused(
    make: Callable[..., Plan], extra: list[str], more: dict[str, Any], error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        make(GRID, extra=extra, **more)


def test_a_search_without_an_end_needs_a_count(make: Callable[..., Plan]) -> None:
    with pytest.raises(UsageError, match=r"--count: some\.yaml is a random search without an end"):
        make(BAYES, "random")


def test_names_are_short_and_file_names() -> None:
    path = Path("some.yaml")
    long = {f"a{number}": {"values": ["x" * 30, "y"]} for number in range(5)}
    odd = {"data.modalities": {"values": [["t1", "flair"], None]}, "b": {"values": ["a/b c", "d"]}, "c": {"value": 1}}
    for parameters, expected in ((long, "001_a0=" + "x" * 30), (odd, "001_modalities=t1+flair,b=a-b-c")):
        sweep = sweep_of(parameters, path)
        name = name_of(sweep, 1, grid(sweep.parameters)[0])
        assert name.startswith(expected)
        assert len(name) <= LONGEST_NAME


def sweep_of(parameters: dict[str, Any], path: Path) -> Any:
    from segan_pl.experiments.sweep.file import SweepFile
    from segan_pl.experiments.sweep.parameters import read_parameters

    return SweepFile(path, "?", "grid", "val/dice_wt", "maximize", tuple(read_parameters(parameters)), ("fit",))


# -- bayes -------------------------------------------------------------------------------------------------------------


def by_rate(values: dict[str, Any]) -> float:
    return 1 - abs(values["rate"] - 0.03) / (values["rate"] + 0.03)


def test_bayes_runs_rounds_of_as_many_trials_as_run_side_by_side(make: Callable[..., Plan], study: Path) -> None:
    stand_in = StandIn(by_rate, parallel=2)
    outcome, trials = run_sweep(make(BAYES, "bayes", count=5), study, stand_in)
    assert [len(names) for names in stand_in.rounds] == [2, 2, 1]
    assert outcome is not None
    assert len(outcome.finished) == len(trials) == 5


def test_bayes_that_was_stopped_chooses_what_it_would_have_chosen(make: Callable[..., Plan], study: Path) -> None:
    stand_in = StandIn(by_rate)
    _, whole = run_sweep(make(BAYES, "bayes", count=14), study / "whole", stand_in)
    run_sweep(make(BAYES, "bayes", count=11), study, stand_in)
    outcome, parts = run_sweep(make(BAYES, "bayes", count=14), study, stand_in)
    assert parts == whole
    assert outcome is not None
    assert len(outcome.kept) == 11


def test_bayes_runs_a_failed_trial_again_with_the_next_call_and_not_before(
    make: Callable[..., Plan], study: Path
) -> None:
    stand_in = StandIn(by_rate)
    names = [trial.name for trial in run_sweep(make(BAYES, "bayes", count=1), study / "a", stand_in)[1]]
    stand_in.broken, stand_in.rounds = set(names), []
    outcome, _ = run_sweep(make(BAYES, "bayes", count=3), study, stand_in)
    assert [len(one) for one in stand_in.rounds] == [1, 1, 1]
    assert outcome is not None
    assert (list(outcome.failed), len(outcome.finished)) == (names, 2)
    stand_in.broken, stand_in.rounds = set(), []
    again, _ = run_sweep(make(BAYES, "bayes", count=3), study, stand_in)
    assert stand_in.rounds == [names]
    assert again is not None
    assert again.exit_code == 0


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_best_score_is_the_best_finite_value_and_its_first_epoch(tmp_path: Path) -> None:
    rows = "epoch,val/dice_wt\n0,0.2\n1,nan\n2,0.7\n3,\n4,0.7\n"
    (tmp_path / "metrics.csv").write_text(rows)
    best = best_score(tmp_path, "val/dice_wt", "maximize")
    assert best is not None
    assert (best.value, best.epoch, best.epochs) == (0.7, 2, 5)
    least = best_score(tmp_path, "val/dice_wt", "minimize")
    assert least is not None
    assert (least.value, least.epoch) == (0.2, 0)
    assert best_score(tmp_path, "val/other", "maximize") is None
    assert best_score(tmp_path / "none", "val/dice_wt", "maximize") is None


@pytest.mark.parametrize(("goal", "order"), [("maximize", [1.0, 0.4, 0.1]), ("minimize", [0.1, 0.4, 1.0])])
def test_the_table_has_the_best_first_and_what_failed_last(
    goal: str, order: list[float], make: Callable[..., Plan], study: Path
) -> None:
    parameters = {"a.weight": {"values": [0.4, 1.0, 0.1, 0.7]}, "b": {"value": "same"}}
    asked = make(parameters, goal=goal)
    stand_in = StandIn(lambda values: values["a.weight"])
    stand_in.broken = {"004_weight=0.7"}
    if goal == "minimize":
        stand_in.score = lambda values: values["a.weight"] / 100
    _, trials = run_sweep(asked, study, stand_in)
    rows = table(asked.sweep, trials, study)
    assert [row.values["a.weight"] for row in rows] == [*order, 0.7]
    assert rows[3].state == "failed"
    assert rows[3].score is None
    columns, lines = cells(asked.sweep, rows)
    assert columns == ["trial", "weight", "val/dice_wt", "best epoch", "epochs", "state", "error"]
    assert lines[3] == ["004", "0.7", "", "", "", "failed", "diverged"]
    assert text(columns, lines).splitlines()[4].split() == ["004", "0.7", "failed", "diverged"]
    for path in write(asked.sweep, rows, study, ["a note"]):
        assert path.is_file()
    with (study / "results.csv").open(newline="") as file:
        saved = list(csv.DictReader(file))
    assert [float(row["a.weight"]) for row in saved] == [*order, 0.7]
    assert [row["state"] for row in saved] == ["finished"] * 3 + ["failed"]
    page = (study / "results.md").read_text()
    assert f"grid, {goal} val/dice_wt; 3 of 4 trials have finished." in page
    assert page.endswith("a note.\n")


def test_a_trial_that_did_not_run_yet_has_a_row(make: Callable[..., Plan], study: Path) -> None:
    asked = make(GRID)
    _, runs = run_sweep(asked, study, DryRunner(progress=lambda line: None))
    assert {row.state for row in table(asked.sweep, runs, study)} == {"not run"}


def test_a_report_shows_what_was_chosen_and_takes_the_seed_of_the_folder(
    make: Callable[..., Plan], study: Path
) -> None:
    _, runs = run_sweep(make(BAYES, "random", count=3, seed=5), study, StandIn())
    assert [run.name for run in chosen_runs(make(BAYES, "random", count=1).sweep, study)] == [run.name for run in runs]
    with pytest.raises(UsageError, match="no trial of a sweep is there"):
        chosen_runs(make(GRID).sweep, study / "other")
