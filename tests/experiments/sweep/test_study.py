"""A sweep as a study: names, numbers, continuation, rounds, and the table; trials are carried out by a stand-in."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from segan_pl.errors import UsageError
from segan_pl.experiments.runner import DryRunner
from segan_pl.experiments.runs import Outcome, Run, is_finished, run_folder, write_state
from segan_pl.experiments.slurm import SlurmRunner
from segan_pl.experiments.sweep.file import read_sweep
from segan_pl.experiments.sweep.search import LONGEST_NAME, grid, name_of
from segan_pl.experiments.sweep.study import Plan, chosen_runs, plan, run_sweep
from segan_pl.experiments.sweep.table import best_score, cells, table, text, write

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
    """A runner that finishes every trial with a score that its values decide; those named in `broken` fail."""

    waits, writes = True, True

    def __init__(self, score: Callable[[dict[str, Any]], float] = lambda values: 0.5, parallel: int = 1) -> None:
        self.score = score
        self.parallel = parallel
        self.broken: set[str] = set()
        self.rounds: list[list[str]] = []

    def progress(self, line: str) -> None:
        pass

    def run_all(self, runs: Sequence[Run], directory: Path) -> Outcome:
        left = [run for run in runs if not is_finished(directory, run.name)]
        self.rounds.append([run.name for run in left])
        for run in left:
            self._run(run, directory)
        done = [run.name for run in runs if is_finished(directory, run.name)]
        failed = {run.name: "diverged" for run in runs if run.name not in done}
        return Outcome(tuple(done), failed, {}, tuple(run.name for run in runs if run not in left))

    def _run(self, trial: Run, directory: Path) -> None:
        if trial.name in self.broken:
            write_state(directory, trial, "failed", exit_code=1, seconds=1.0, error="diverged")
            return
        run = run_folder(directory, trial.name)
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(f"epoch,val/dice_wt\n0,0.01\n1,{self.score(dict(trial.values))}\n")
        write_state(directory, trial, "finished", exit_code=0, seconds=2.0, error="")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "study"


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


def test_a_folder_of_another_search_is_refused(make: Callable[..., Plan], study: Path) -> None:
    stand_in = StandIn()
    run_sweep(make(BAYES, "random", count=1), study, stand_in)
    with pytest.raises(UsageError, match=r"holds another search \(different: seed\); choose another --output"):
        run_sweep(make(BAYES, "random", count=1, seed=1), study, stand_in)
    with pytest.raises(UsageError, match=r"different: method, parameters"):
        run_sweep(make(GRID), study, stand_in)


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


def test_bayes_is_not_submitted(make: Callable[..., Plan], study: Path) -> None:
    with pytest.raises(UsageError, match="--slurm: bayes chooses a trial by the results of others"):
        run_sweep(make(BAYES, "bayes", count=3), study, SlurmRunner())


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


# -- the journal -------------------------------------------------------------------------------------------------------


def test_the_journal_holds_the_scores_and_keeps_a_failed_trial_open(make: Callable[..., Plan], study: Path) -> None:
    stand_in = StandIn(lambda values: 0.1 * (1 + values["data.seed"]))
    stand_in.broken = {"002_clip=all,seed=1"}
    run_sweep(make(GRID), study, stand_in)
    assert [(trial.state.name, trial.value) for trial in journal(study).trials] == [
        ("COMPLETE", 0.1),
        ("RUNNING", None),
        ("COMPLETE", 0.1),
        ("COMPLETE", 0.2),
    ]
    stand_in.broken = set()
    run_sweep(make(GRID), study, stand_in)
    assert [trial.value for trial in journal(study).trials] == [0.1, 0.2, 0.1, 0.2]
    assert journal(study).best_trial.user_attrs["name"] == "002_clip=all,seed=1"


def test_what_finished_before_a_kill_is_told_by_the_next_call(make: Callable[..., Plan], study: Path) -> None:
    class Killed(StandIn):
        def run_all(self, runs: Sequence[Run], directory: Path) -> Outcome:
            super().run_all(runs, directory)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(make(GRID), study, Killed())
    assert {trial.state.name for trial in journal(study).trials} == {"RUNNING"}
    stand_in = StandIn()
    run_sweep(make(GRID), study, stand_in)
    assert stand_in.rounds == [[]]
    assert {trial.state.name for trial in journal(study).trials} == {"COMPLETE"}


def test_a_damaged_journal_and_an_older_sweep_are_refused(make: Callable[..., Plan], study: Path) -> None:
    study.mkdir()
    (study / "sweep.json").write_text("{}")
    with pytest.raises(UsageError, match=r"a sweep of an earlier version \(sweep\.json\); choose another --output"):
        run_sweep(make(GRID), study, StandIn())
    (study / "sweep.json").unlink()
    (study / "search.journal").write_text("{\nnonsense\n")
    with pytest.raises(UsageError, match=r"search\.journal: not readable as a search"):
        run_sweep(make(GRID), study, StandIn())


def journal(study: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(study / "search.journal"))
    return optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
