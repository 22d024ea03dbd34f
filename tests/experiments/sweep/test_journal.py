"""What a sweep's journal holds, and which folders are refused; trials are carried out by a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.runner import DryRunner
from segan_pl.experiments.runs import Outcome, Run
from segan_pl.experiments.sweep.study import Plan, chosen_runs, run_sweep
from tests.experiments.sweep.stand_in import BAYES, GRID, StandIn


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


def test_a_dry_run_and_a_look_at_the_trials_leave_the_journal_as_it_is(make: Callable[..., Plan], study: Path) -> None:
    run_sweep(make(GRID, count=3), study, StandIn())
    (study / "search.journal").chmod(0o444)
    before = contents(study)
    lines: list[str] = []
    run_sweep(make({**GRID, "data.seed": {"values": [0, 1, 2]}}), study, DryRunner(progress=lines.append))
    assert len(lines) == 6
    assert len(chosen_runs(make(GRID).sweep, study)) == 3
    assert contents(study) == before


@pytest.mark.parametrize("text", ["{\nnonsense\n", "5\n", "[]\n", '{"op_code": 4, "worker_id": "a"}\n'])
def test_a_damaged_journal_is_refused(make: Callable[..., Plan], study: Path, text: str) -> None:
    study.mkdir()
    (study / "search.journal").write_text(text)
    refused_as_it_is(make, study, r"search\.journal: not readable as a search")


@pytest.mark.parametrize("name", ["sweep.json", "study.json"])
def test_the_folder_of_another_study_is_refused(make: Callable[..., Plan], study: Path, name: str) -> None:
    study.mkdir()
    (study / name).write_text("[]")
    refused_as_it_is(make, study, rf"holds .* \({name}.*\); choose another --output")


@pytest.mark.parametrize("name", ["sweep", "mine"])
def test_a_journal_of_somebody_elses_is_refused(make: Callable[..., Plan], study: Path, name: str) -> None:
    study.mkdir()
    theirs = optuna.create_study(study_name=name, storage=storage(study), direction="maximize")
    theirs.add_trial(optuna.create_trial(value=0.1))
    refused_as_it_is(make, study, "not readable as a search" if name == "mine" else "study sweep is not of segan_pl")


def test_a_trial_of_somebody_elses_is_refused(make: Callable[..., Plan], study: Path) -> None:
    run_sweep(make(GRID), study, StandIn())
    journal(study).enqueue_trial({"x": 1})
    refused_as_it_is(make, study, r"search\.journal: trial 4 is not of segan_pl sweep; choose another --output")


def test_a_call_that_was_killed_before_it_said_what_is_searched_is_repeated(
    make: Callable[..., Plan], study: Path
) -> None:
    study.mkdir()
    (study / "search.journal").touch()
    assert len(run_sweep(make(GRID, count=1), study, StandIn())[1]) == 1
    again = study / "again"
    again.mkdir()
    optuna.create_study(study_name="sweep", storage=storage(again), direction="maximize")
    assert len(run_sweep(make(GRID, count=1), again, StandIn())[1]) == 1


def refused_as_it_is(make: Callable[..., Plan], study: Path, reason: str) -> None:
    """Each kind of call refuses the folder in one line, and leaves it as it is."""
    before = contents(study)
    for runner in (StandIn(), DryRunner()):
        with pytest.raises(UsageError, match=reason) as refusal:
            run_sweep(make(GRID), study, runner)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UsageError, match=reason):
        chosen_runs(make(GRID).sweep, study)
    assert contents(study) == before


def storage(study: Path) -> optuna.storages.JournalStorage:
    backend = optuna.storages.journal.JournalFileBackend(str(study / "search.journal"))
    return optuna.storages.JournalStorage(backend)


def journal(study: Path) -> optuna.Study:
    return optuna.load_study(study_name="sweep", storage=storage(study))


# -- another search


def test_a_folder_of_another_search_is_refused_with_what_differs(make: Callable[..., Plan], study: Path) -> None:
    run_sweep(make(BAYES, "random", count=1), study, StandIn())
    others = [
        (make(BAYES, "random", count=1, seed=1), "--seed: 0 -> 1"),
        (make(BAYES, "random", goal="minimize", count=1), r'metric: \["val/dice_wt", "maximize"\] -> \[.*"minimize"\]'),
        (
            make({**BAYES, "kind": {"value": 1}}, "random", count=1),
            r'kind: \["categorical", .*\] -> \["constant", .*\]',
        ),
        (make(dict(reversed(BAYES.items())), "random", count=1), r'order: \["rate", "kind"\] -> \["kind", "rate"\]'),
        (
            make(GRID),
            'method: "random" -> "grid"; rate: .* -> nothing; kind: .* -> nothing; .*data.seed: nothing -> .*',
        ),
    ]
    for other, differing in others:
        with pytest.raises(UsageError, match=rf"holds another search \(different: {differing}\); choose another --out"):
            run_sweep(other, study, StandIn())


@pytest.mark.parametrize(
    ("parameters", "goal", "differing"),
    [
        (GRID, "minimize", r'metric: \["val/dice_wt", "maximize"\] -> \["val/dice_wt", "minimize"\]'),
        ({**GRID, "data.seed": {"values": [1, 2]}}, "maximize", r"data\.seed: \[0, 1\] -> \[1, 2\]"),
        ({**GRID, "data.seed": {"values": [0.0, 1]}}, "maximize", r"data\.seed: \[0, 1\] -> \[0\.0, 1\]"),
        ({**GRID, "data.fold": {"value": 0}}, "maximize", r"data\.fold: nothing -> \[0\]"),
        ({"data.seed": GRID["data.seed"]}, "maximize", r'model\S*clip: \["all", "none"\] -> nothing'),
    ],
)
def test_a_folder_of_another_grid_is_refused_with_what_differs(
    make: Callable[..., Plan], study: Path, parameters: dict[str, Any], goal: str, differing: str
) -> None:
    run_sweep(make(GRID), study, StandIn())
    before = contents(study)
    for runner in (StandIn(), DryRunner()):
        with pytest.raises(UsageError, match=rf"holds another search \(different: {differing}\); choose another --out"):
            run_sweep(make(parameters, goal=goal), study, runner)
    with pytest.raises(UsageError, match=differing):
        chosen_runs(make(parameters, goal=goal).sweep, study)
    assert contents(study) == before


def contents(study: Path) -> dict[Path, bytes]:
    """Every file of a study's folder."""
    return {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
