"""Which points a search tries."""

from __future__ import annotations

import builtins
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.runs import Run, run_folder, write_state
from segan_pl.experiments.sweep.file import SweepFile
from segan_pl.experiments.sweep.parameters import read_parameters
from segan_pl.experiments.sweep.search import Search, draw, grid, values_at

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, on an option that the package still spells as in version 1
    from sweeps.grid_search import grid_search_next_runs

GRID = {
    "a": {"values": [1, 2, 2]},
    "b": {"values": [None, [3, 4]]},
    "c": {"value": "same"},
    "d": {"min": 1, "max": 2},
    "e": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.4},
}
MIXED = read_parameters(
    {
        "rate": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0},
        "kind": {"values": ["good", "bad"]},
        "fixed": {"value": 7},
    }
)


def test_a_grid_has_the_combinations_of_wandbs() -> None:
    runs = grid_search_next_runs([], {"method": "grid", "parameters": GRID}, n=100)
    theirs = [{name: value["value"] for name, value in run.config.items()} for run in runs if run]
    points = grid(read_parameters(GRID))
    assert len(points) == 2 * 2 * 2 * 3

    def texts(combinations: list[Any]) -> set[str]:
        return {json.dumps(combination, sort_keys=True) for combination in combinations}

    assert texts(points) == texts(theirs)


def test_the_last_parameter_of_a_grid_changes_fastest() -> None:
    points = grid(read_parameters({"b": {"values": [1, 2]}, "a": {"values": [3, 4]}}))
    assert [tuple(values.values()) for values in points] == [(1, 3), (1, 4), (2, 3), (2, 4)]


def drawn(number: int, seed: int) -> dict[str, Any]:
    return values_at(MIXED, draw(MIXED, number, seed))


def test_a_random_trial_depends_on_seed_and_number_only() -> None:
    assert drawn(5, 0) == drawn(5, 0)
    assert drawn(5, 0) != drawn(6, 0)
    assert drawn(5, 0) != drawn(5, 1)
    assert drawn(5, 0)["fixed"] == 7


def test_random_trials_spread_as_the_distribution_says() -> None:
    rates = [drawn(number, 3)["rate"] for number in range(400)]
    below = sum(rate < 0.01 for rate in rates) / 400  # half of a logarithmic range
    assert 0.4 < below < 0.6
    assert all(1e-4 <= rate <= 1 for rate in rates)


def open_search(directory: Path, seed: int) -> Search:
    sweep = SweepFile(Path("some.yaml"), "?", "bayes", "val/dice_wt", "maximize", tuple(MIXED), ("fit",))
    return Search(sweep, directory, seed=seed)


def finish(directory: Path, name: str, score: float) -> None:
    folder = run_folder(directory, name)
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(f"epoch,val/dice_wt\n0,{score}\n")
    write_state(directory, Run(name, ("fit",)), "finished")


def score(values: Mapping[str, Any]) -> float:
    """A search for rate 0.03 of the good kind."""
    return -abs(values["rate"] - 0.03) / values["rate"] + (values["kind"] == "good")


def test_bayes_finds_more_in_its_later_half_than_random_draws_do(tmp_path: Path) -> None:
    search = open_search(tmp_path, seed=1)
    for _ in range(30):
        (trial,) = search.propose(1)
        finish(tmp_path, trial.name, score(trial.values))
        search.tell()
    values = [trial.values for trial in search.trials]
    later = sorted(map(score, values[15:]), reverse=True)
    assert sum(later[:8]) > sum(sorted((score(drawn(number, 1)) for number in range(15)), reverse=True)[:8])
    assert sum(one["kind"] == "good" for one in values[15:]) >= 11


def test_a_search_that_is_opened_again_proposes_what_it_would_have_proposed(tmp_path: Path) -> None:
    proposed = []
    for place in ("whole", "parts"):
        search = open_search(tmp_path / place, seed=4)
        for number in range(12):
            if number == 11 and place == "parts":
                search = open_search(tmp_path / place, seed=4)
            (trial,) = search.propose(1)
            finish(tmp_path / place, trial.name, score(trial.values))
            search.tell()
        proposed.append(search.trials)
    assert proposed[0] == proposed[1]


def test_the_trials_of_one_round_differ(tmp_path: Path) -> None:
    trials = open_search(tmp_path, seed=0).propose(3)
    assert len({trial.values["rate"] for trial in trials}) == 3
    assert [trial.number for trial in trials] == [1, 2, 3]


def test_a_sweep_without_optuna_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *others: Any, **more: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'segan_pl\[sweeps\]'"):
        open_search(tmp_path, seed=0)
