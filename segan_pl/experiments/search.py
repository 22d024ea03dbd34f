"""Which values the trials of a sweep get: all of a grid, random draws, or what a model of the results proposes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segan_pl.errors import UsageError
from segan_pl.experiments.parameters import Parameter


@dataclass(frozen=True)
class Point:
    """What one trial tries.

    Attributes:
        number: From 1, in the order in which points were chosen.
        values: One for each parameter, constants included.
        shares: Where a drawn value lies: the share of its distribution below it, or the index of a category (bayes).
        name: Of its trial, once it has one; a sweep that grows would give another.
    """

    number: int
    values: Mapping[str, Any]
    shares: Mapping[str, float] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Told:
    """A point's result.

    Attributes:
        point: What was tried.
        score: What came of it; None where the trial failed.
    """

    point: Point
    score: float | None


def grid(parameters: Sequence[Parameter], first: int = 1) -> list[Point]:
    """Every combination, the last parameter changing fastest.

    Args:
        parameters: All of them with `choices`.
        first: The number of the first point.
    """
    combinations = itertools.product(*(one.choices or [] for one in parameters))
    names = [one.name for one in parameters]
    return [Point(number, dict(zip(names, values, strict=True))) for number, values in enumerate(combinations, first)]


def draw(parameters: Sequence[Parameter], number: int, seed: int) -> Point:
    """A random point, which depends on the seed and its number only."""
    source = random.Random(f"{seed}/{number}")
    shares = {one.name: max(source.random(), 1e-12) for one in parameters if not one.is_constant}
    return Point(number, {one.name: one.at(shares.get(one.name, 0.0)) for one in parameters}, shares)


def propose(
    parameters: Sequence[Parameter], told: Sequence[Told], numbers: Sequence[int], *, maximize: bool, seed: int
) -> list[Point]:
    """Points that promise most after what was told (Optuna's tree-structured Parzen estimator).

    Nothing is kept between calls but what is told, so a search that was stopped goes on. The first ten are random.

    Args:
        parameters: Those that vary, and constants.
        told: The trials that have ended.
        numbers: Of the points that are asked for; they are chosen to differ from each other.
        maximize: Whether larger scores are better.
        seed: Of the sampler, with the first number.

    Raises:
        UsageError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError("method bayes needs Optuna: pip install 'segan_pl[sweeps]'; grid and random do not") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces = {one.name: _space(one) for one in parameters if not one.is_constant}
    sampler = optuna.samplers.TPESampler(seed=seed * 100_003 + numbers[0], constant_liar=True)
    study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
    complete, fail = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
    for one in told:
        state = fail if one.score is None else complete
        params = dict(one.point.shares)
        study.add_trial(optuna.create_trial(state=state, params=params, distributions=spaces, value=one.score))
    points = []
    for number in numbers:
        shares = study.ask(spaces).params
        points.append(Point(number, {one.name: _value(one, shares.get(one.name, 0.0)) for one in parameters}, shares))
    return points


def _space(parameter: Parameter) -> Any:
    """The share below a value is searched, so every distribution is as likely a priori as the file says."""
    import optuna

    if parameter.kind == "categorical":
        return optuna.distributions.CategoricalDistribution(range(len(parameter.choices or [])))
    return optuna.distributions.FloatDistribution(1e-6, 1 - 1e-6)


def _value(parameter: Parameter, share: float) -> Any:
    choices = parameter.choices
    return choices[int(share)] if parameter.kind == "categorical" and choices else parameter.at(share)
