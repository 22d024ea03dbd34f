"""Which points a search tries."""

from __future__ import annotations

import builtins
import json
import warnings
from typing import Any

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.parameters import read_parameters
from segan_pl.experiments.search import Point, Told, draw, grid, propose

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

    assert texts([point.values for point in points]) == texts(theirs)
    assert [point.number for point in points] == list(range(1, 25))


def test_the_last_parameter_of_a_grid_changes_fastest() -> None:
    points = grid(read_parameters({"b": {"values": [1, 2]}, "a": {"values": [3, 4]}}))
    assert [tuple(point.values.values()) for point in points] == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_a_random_point_depends_on_seed_and_number_only() -> None:
    assert draw(MIXED, 5, 0) == draw(MIXED, 5, 0)
    assert draw(MIXED, 5, 0).values != draw(MIXED, 6, 0).values
    assert draw(MIXED, 5, 0).values != draw(MIXED, 5, 1).values
    assert draw(MIXED, 5, 0).values["fixed"] == 7


def test_random_points_spread_as_the_distribution_says() -> None:
    rates = [draw(MIXED, number, 3).values["rate"] for number in range(400)]
    below = sum(rate < 0.01 for rate in rates) / 400  # half of a logarithmic range
    assert 0.4 < below < 0.6
    assert all(1e-4 <= rate <= 1 for rate in rates)


def search(rounds: int, seed: int, parallel: int = 1) -> list[Told]:
    """A search for rate 0.03 of the good kind."""
    told: list[Told] = []
    while len(told) < rounds:
        numbers = list(range(len(told) + 1, len(told) + 1 + parallel))
        points = propose(MIXED, told, numbers, maximize=True, seed=seed)
        told.extend(Told(point, score(point)) for point in points)
    return told


def score(point: Point) -> float:
    rate = point.values["rate"]
    return -abs(rate - 0.03) / rate + (point.values["kind"] == "good")


def test_bayes_finds_more_in_its_later_half_than_random_draws_do() -> None:
    told = search(30, seed=1)
    later = sorted((one.score for one in told[15:] if one.score is not None), reverse=True)
    drawn = sorted((score(draw(MIXED, number, 1)) for number in range(15)), reverse=True)
    assert sum(later[:8]) > sum(drawn[:8])
    assert sum(one.point.values["kind"] == "good" for one in told[15:]) >= 11


def test_bayes_goes_on_from_what_was_told_as_if_it_had_never_stopped() -> None:
    told = search(12, seed=4)
    again = [Told(Point(one.point.number, one.point.values, one.point.shares), one.score) for one in told[:11]]
    (proposed,) = propose(MIXED, json_round_trip(again), [12], maximize=True, seed=4)
    assert proposed.values == told[11].point.values


def json_round_trip(told: list[Told]) -> list[Told]:
    return [
        Told(
            Point(one.point.number, json.loads(json.dumps(one.point.values)), json.loads(json.dumps(one.point.shares))),
            one.score,
        )
        for one in told
    ]


def test_points_of_one_round_differ_and_a_failed_trial_tells_nothing() -> None:
    points = propose(MIXED, [], [1, 2, 3], maximize=False, seed=0)
    assert len({point.values["rate"] for point in points}) == 3
    failed = [Told(point, None) for point in points]
    assert propose(MIXED, failed, [4], maximize=False, seed=0)[0].number == 4


def test_bayes_without_optuna_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *others: Any, **more: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'segan_pl\[sweeps\]'"):
        propose(MIXED, [], [1], maximize=True, seed=0)
