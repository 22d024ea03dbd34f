"""What a sweep file lets a parameter be, against W&B's own package."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.sweep.parameters import Parameter, read_parameters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, on an option that the package still spells as in version 1
    from sweeps.params import HyperParameter

SETTINGS: list[dict[str, Any]] = [
    {"value": 3},
    {"values": ["a", "b", "c"]},
    {"values": [[1], [2], None], "probabilities": [0.2, 0.5, 0.3]},
    {"min": 2, "max": 9},
    {"min": 2.0, "max": 9},
    {"distribution": "uniform", "min": 1, "max": 2},
    {"distribution": "int_uniform", "min": 1, "max": 3},
    {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25},
    {"distribution": "q_uniform", "min": 0, "max": 100, "q": 10},
    {"distribution": "log_uniform", "min": -5, "max": 0},
    {"distribution": "log_uniform_values", "min": 1.0e-5, "max": 0.1},
    {"distribution": "q_log_uniform_values", "min": 1, "max": 1000, "q": 5},
    {"distribution": "normal"},
    {"distribution": "normal", "mu": 3.0, "sigma": 0.5},
    {"distribution": "q_normal", "mu": 10, "sigma": 4, "q": 2},
]


def one(settings: dict[str, Any]) -> Parameter:
    (parameter,) = read_parameters({"x": settings})
    return parameter


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_share_of_a_distribution_is_the_value_that_wandb_draws_for_it(settings: dict[str, Any]) -> None:
    theirs, ours = HyperParameter("x", settings), one(settings)
    for share in (0.013, 0.21, 0.4999, 0.683, 0.87, 0.991):
        assert ours.at(share) == pytest.approx(theirs.ppf(share)), share


def test_whole_bounds_and_steps_give_whole_numbers() -> None:
    assert type(one({"min": 2, "max": 9}).at(0.5)) is int
    assert type(one({"distribution": "q_uniform", "min": 0, "max": 100, "q": 10}).at(0.33)) is int
    assert type(one({"min": 2.0, "max": 9}).at(0.5)) is float


def test_the_ends_of_a_distribution_are_its_bounds() -> None:
    whole = one({"min": 2, "max": 4})
    assert [whole.at(share) for share in (0.0, 0.34, 0.67, 1.0)] == [2, 3, 4, 4]
    log = one({"distribution": "log_uniform_values", "min": 0.001, "max": 10})
    assert [log.at(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.001, 0.1, 10])


def test_nested_parameters_get_dotted_names() -> None:
    nested = {
        "model": {"parameters": {"objective": {"parameters": {"clip": {"values": ["all"]}}}}},
        "seed": {"value": 1},
    }
    assert [parameter.name for parameter in read_parameters(nested)] == ["model.objective.clip", "seed"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"distribution": "beta"}, "parameter x: distribution beta is not run here; .*known: categorical"),
        ({"distribution": "log_uniform_value", "min": 1, "max": 2}, "did you mean 'log_uniform_values'"),
        ({"min": 2, "max": 2}, "min 2 is not below max 2"),
        ({"min": 0.0, "max": "1e-3"}, r"max is '1e-3'; expected a number \(in YAML with a dot"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "needs a min above 0, found 0"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 3}, "int_uniform needs whole numbers"),
        ({"distribution": "q_uniform", "min": 0, "max": 3, "q": 0}, "q is 0; expected a number above 0"),
        ({"distribution": "uniform", "min": 0}, "uniform takes min, max; found min"),
        ({"values": [1], "max": 3}, "categorical takes values; found values, max"),
        ({"values": []}, "expected a list of at least one"),
        ({"values": [1, 2], "probabilities": [0.5]}, "expected 2 that add up to 1"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "expected 2 that add up to 1"),
        ({}, "found nothing"),
        ([1, 2], "expected 'value:', 'values:' or a distribution"),
        ({"parameters": {}}, "parameters of x: expected"),
    ],
)
def test_what_is_no_distribution_is_refused_by_name(settings: Any, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        read_parameters({"x": settings})
