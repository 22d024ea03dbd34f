"""A sweep as a study: names, numbers, continuation, rounds, and the table; trials are carried out by a stand-in."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.errors import UsageError
from segan_pl.experiments import sweeping
from segan_pl.experiments.execution import ExecutionOptions
from segan_pl.experiments.running import Outcome
from segan_pl.experiments.sweep_file import read_sweep
from segan_pl.experiments.sweep_points import LONGEST_NAME, name_of
from segan_pl.experiments.sweep_table import best_score, cells, table, text, write
from segan_pl.experiments.sweeping import Plan, plan, run_sweep
from segan_pl.experiments.trials import Trial, is_finished, run_folder, write_state

GRID = {"model.objective.init_args.clip": {"values": ["all", "none"]}, "data.seed": {"values": [0, 1]}}
BAYES = {"rate": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0}, "kind": {"values": [[1, 2], None]}}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Plan]:
    """A plan of a sweep file with these parameters."""

    def made(
        parameters: dict[str, Any], method: str = "grid", extra: Sequence[str] = (), goal: str = "maximize", **more: Any
    ) -> Plan:
        path = tmp_path / "some.yaml"
        command = ["segan_pl", "fit", "--config", "segan_cat", "${args}"]
        metric = {"name": "val/dice_wt", "goal": goal}
        content = {"method": method, "metric": metric, "command": command, "parameters": parameters}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return plan(read_sweep(str(path)), extra, **more)

    return made


class StandIn:
    """Finishes every trial with a score that its values decide; those named in `broken` fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, score: Callable[[dict[str, Any]], float] = lambda values: 0.5):
        self.score = score
        self.broken: set[str] = set()
        self.rounds: list[list[str]] = []
        monkeypatch.setattr(sweeping, "execute", self)

    def __call__(self, trials: Sequence[Trial], options: ExecutionOptions, progress: object) -> Outcome | None:
        if options.dry_run:
            return None
        left = [trial for trial in trials if not is_finished(options.directory, trial.name)]
        self.rounds.append([trial.name for trial in left])
        for trial in left:
            self._run(trial, options.directory)
        done = [trial.name for trial in trials if is_finished(options.directory, trial.name)]
        failed = {trial.name: "diverged" for trial in trials if trial.name not in done}
        return Outcome(tuple(done), failed, {}, tuple(trial.name for trial in trials if trial not in left))

    def _run(self, trial: Trial, directory: Path) -> None:
        if trial.name in self.broken:
            write_state(directory, trial, "failed", exit_code=1, seconds=1.0, error="diverged")
            return
        run = run_folder(directory, trial.name)
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(f"epoch,val/dice_wt\n0,0.01\n1,{self.score(dict(trial.values))}\n")
        write_state(directory, trial, "finished", exit_code=0, seconds=2.0, error="")


@pytest.fixture
def options(tmp_path: Path) -> ExecutionOptions:
    return ExecutionOptions(tmp_path / "study")


# -- grid and random ---------------------------------------------------------------------------------------------------


def test_a_trial_has_the_files_arguments_then_the_extra_ones_then_its_own_as_wandb_writes_them(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIn(monkeypatch)
    _, trials = run_sweep(make(GRID, extra=["--data.root", "/d"]), options)
    assert [trial.name for trial in trials] == [
        "001_clip=all,seed=0",
        "002_clip=all,seed=1",
        "003_clip=none,seed=0",
        "004_clip=none,seed=1",
    ]
    own = ("--model.objective.init_args.clip=none", "--data.seed=0")
    assert trials[2].arguments == ("fit", "--config", "segan_cat", "--data.root", "/d", *own)


def test_a_second_call_runs_only_what_failed(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch)
    stand_in.broken = {"002_clip=all,seed=1"}
    first, _ = run_sweep(make(GRID), options)
    stand_in.broken = set()
    second, _ = run_sweep(make(GRID), options)
    assert first is not None
    assert (len(first.finished), list(first.failed), first.exit_code) == (3, ["002_clip=all,seed=1"], 1)
    assert stand_in.rounds[1] == ["002_clip=all,seed=1"]
    assert second is not None
    assert second.exit_code == 0


def test_a_grid_that_grows_keeps_the_numbers_of_what_it_had(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch)
    run_sweep(make(GRID), options)
    clip = "model.objective.init_args.clip"
    _, trials = run_sweep(make({**GRID, clip: {"values": ["kernels", "all", "none"]}}), options)
    assert stand_in.rounds[1] == ["005_clip=kernels,seed=0", "006_clip=kernels,seed=1"]
    assert len(trials) == 6
    assert "002_clip=all,seed=1" in [trial.name for trial in trials]


def test_a_parameter_that_begins_to_vary_renames_nothing_that_has_finished(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch)
    seeds = {"data.seed": {"values": [0, 1]}}
    run_sweep(make({**seeds, "loss.clip": {"values": ["all"]}}), options)
    for grown in (["all", "none"], ["all", "none", "kernels"]):
        outcome, trials = run_sweep(make({"loss.clip": {"values": grown}, **seeds}), options)
    assert stand_in.rounds == [
        ["001_seed=0", "002_seed=1"],
        ["003_clip=none,seed=0", "004_clip=none,seed=1"],
        ["005_clip=kernels,seed=0", "006_clip=kernels,seed=1"],
    ]
    assert trials[0].arguments[-2:] == ("--data.seed=0", "--loss.clip=all")  # as it was run: another order would differ
    assert outcome is not None
    assert len(outcome.kept) == 4


def test_count_takes_the_first_of_a_grid_and_adds_to_random_draws(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch)
    assert len(run_sweep(make(GRID, count=3), options)[1]) == 3
    assert make(GRID, count=99).count == 4
    elsewhere = replace(options, directory=options.directory / "random")
    few = run_sweep(make(BAYES, "random", count=2), elsewhere)[1]
    more = run_sweep(make(BAYES, "random", count=5), elsewhere)[1]
    assert more[:2] == few
    assert stand_in.rounds[-1] == [trial.name for trial in more[2:]]


def test_a_dry_run_writes_nothing(make: Callable[..., Plan], options: ExecutionOptions) -> None:
    lines: list[str] = []
    outcome, _ = run_sweep(make(GRID), replace(options, dry_run=True), progress=lines.append)
    assert outcome is None
    assert len(lines) == 4
    assert lines[0].startswith("segan_pl fit --config segan_cat --model.objective.init_args.clip=all --data.seed=0")
    assert not options.directory.exists()


def test_a_dry_run_of_bayes_shows_its_first_round(make: Callable[..., Plan], options: ExecutionOptions) -> None:
    lines: list[str] = []
    asked = replace(options, dry_run=True, parallel=2)
    assert run_sweep(make(BAYES, "bayes", count=5), asked, progress=lines.append)[0] is None
    assert len(lines) == 3
    assert lines[2] == "# and 3 more, which follow from the results"
    assert not options.directory.exists()


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


def test_a_folder_of_another_search_is_refused(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIn(monkeypatch)
    run_sweep(make(BAYES, "random", count=1), options)
    with pytest.raises(UsageError, match=r"holds another search \(different: seed\); choose another --output"):
        run_sweep(make(BAYES, "random", count=1, seed=1), options)
    with pytest.raises(UsageError, match=r"different: method, parameters"):
        run_sweep(make(GRID), options)


def test_names_are_short_and_file_names() -> None:
    path = Path(sweeping.__file__)
    long = {f"a{number}": {"values": ["x" * 30, "y"]} for number in range(5)}
    odd = {"data.modalities": {"values": [["t1", "flair"], None]}, "b": {"values": ["a/b c", "d"]}, "c": {"value": 1}}
    for parameters, expected in ((long, "001_a0=" + "x" * 30), (odd, "001_modalities=t1+flair,b=a-b-c")):
        sweep = sweep_of(parameters, path)
        name = name_of(sweep, sweeping.grid(sweep.parameters)[0])
        assert name.startswith(expected)
        assert len(name) <= LONGEST_NAME


def sweep_of(parameters: dict[str, Any], path: Path) -> Any:
    from segan_pl.experiments.parameters import read_parameters
    from segan_pl.experiments.sweep_file import SweepFile

    return SweepFile(path, "?", "grid", "val/dice_wt", "maximize", tuple(read_parameters(parameters)), ("fit",))


# -- bayes -------------------------------------------------------------------------------------------------------------


def by_rate(values: dict[str, Any]) -> float:
    return 1 - abs(values["rate"] - 0.03) / (values["rate"] + 0.03)


def test_bayes_runs_rounds_of_as_many_trials_as_run_side_by_side(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch, by_rate)
    outcome, trials = run_sweep(make(BAYES, "bayes", count=5), replace(options, parallel=2))
    assert [len(names) for names in stand_in.rounds] == [2, 2, 1]
    assert outcome is not None
    assert len(outcome.finished) == len(trials) == 5


def test_bayes_that_was_stopped_chooses_what_it_would_have_chosen(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandIn(monkeypatch, by_rate)
    _, whole = run_sweep(make(BAYES, "bayes", count=14), replace(options, directory=options.directory / "whole"))
    run_sweep(make(BAYES, "bayes", count=11), options)
    outcome, parts = run_sweep(make(BAYES, "bayes", count=14), options)
    assert parts == whole
    assert outcome is not None
    assert len(outcome.kept) == 11


def test_bayes_runs_a_failed_trial_again_with_the_next_call_and_not_before(
    make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(monkeypatch, by_rate)
    names = [
        trial.name
        for trial in run_sweep(make(BAYES, "bayes", count=1), replace(options, directory=options.directory / "a"))[1]
    ]
    stand_in.broken, stand_in.rounds = set(names), []
    outcome, _ = run_sweep(make(BAYES, "bayes", count=3), options)
    assert [len(one) for one in stand_in.rounds] == [1, 1, 1]
    assert outcome is not None
    assert (list(outcome.failed), len(outcome.finished)) == (names, 2)
    stand_in.broken, stand_in.rounds = set(), []
    again, _ = run_sweep(make(BAYES, "bayes", count=3), options)
    assert stand_in.rounds == [names]
    assert again is not None
    assert again.exit_code == 0


def test_bayes_is_not_submitted(make: Callable[..., Plan], options: ExecutionOptions) -> None:
    with pytest.raises(UsageError, match="--slurm: bayes chooses a trial by the results of others"):
        run_sweep(make(BAYES, "bayes", count=3), replace(options, slurm=True))


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
    goal: str, order: list[float], make: Callable[..., Plan], options: ExecutionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"a.weight": {"values": [0.4, 1.0, 0.1, 0.7]}, "b": {"value": "same"}}
    asked = make(parameters, goal=goal)
    stand_in = StandIn(monkeypatch, lambda values: values["a.weight"])
    stand_in.broken = {"004_weight=0.7"}
    if goal == "minimize":
        stand_in.score = lambda values: values["a.weight"] / 100
    _, trials = run_sweep(asked, options)
    rows = table(asked.sweep, trials, options.directory)
    assert [row.values["a.weight"] for row in rows] == [*order, 0.7]
    assert rows[3].state == "failed"
    assert rows[3].score is None
    columns, lines = cells(asked.sweep, rows)
    assert columns == ["trial", "weight", "val/dice_wt", "best epoch", "epochs", "state", "error"]
    assert lines[3] == ["004", "0.7", "", "", "", "failed", "diverged"]
    assert text(columns, lines).splitlines()[4].split() == ["004", "0.7", "failed", "diverged"]
    for path in write(asked.sweep, rows, options.directory, ["a note"]):
        assert path.is_file()
    with (options.directory / "results.csv").open(newline="") as file:
        saved = list(csv.DictReader(file))
    assert [float(row["a.weight"]) for row in saved] == [*order, 0.7]
    assert [row["state"] for row in saved] == ["finished"] * 3 + ["failed"]
    page = (options.directory / "results.md").read_text()
    assert f"grid, {goal} val/dice_wt; 3 of 4 trials have finished." in page
    assert page.endswith("a note.\n")


def test_a_trial_that_did_not_run_yet_has_a_row(make: Callable[..., Plan], options: ExecutionOptions) -> None:
    asked = make(GRID)
    trials = [asked.trial(point) for point in sweeping.grid(asked.sweep.parameters)]
    assert {row.state for row in table(asked.sweep, trials, options.directory)} == {"not run"}


def test_a_damaged_memory_is_refused(make: Callable[..., Plan], options: ExecutionOptions) -> None:
    options.directory.mkdir()
    (options.directory / "sweep.json").write_text(json.dumps({"points": []}))
    with pytest.raises(UsageError, match=r"sweep\.json: not readable as a sweep"):
        run_sweep(make(GRID), options)
