"""Values as W&B's agent writes them, built by the agent's own code and parsed by our parsers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@dataclass
class Scaling:
    crop: tuple[int, int, int] | Literal["nonzero"] | None = (8, 8, 8)
    orientation: str | None = "RAS"
    name: str = "plain"


class Loss:
    def __init__(self, weight: float = 1.0, layers: list[int] | None = None, epochs: int = 1) -> None: ...


@dataclass
class Settings:
    batch_size: int = 1
    seed: int | bool = 0
    limit: int | float = 1
    rate: float = 1.0
    name: str = "run"
    folder: str | None = "here"
    depth: int | None = 3
    patch: tuple[int, int] = (1, 1)
    modalities: list[str] | None = None
    sizes: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    flag: bool = False
    weights: dict[str, float] | None = None
    anything: Any = 0
    preparation: Scaling = field(default_factory=Scaling)
    optional: Scaling | None = field(default_factory=Scaling)


@cache
def parser(kind: type[ArgumentParser] = OneLineErrors) -> ArgumentParser:
    made = kind(prog="test", exit_on_error=False)
    made.add_class_arguments(Settings, "data")
    made.add_argument("--loss", type=Loss)
    return made


def agent_arguments(values: Mapping[str, Any], form: str = "args") -> list[str]:
    """What W&B's agent puts in the place of ${args}."""
    return create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})[form]


@pytest.mark.parametrize("form", ["args", "args_no_equals"])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("batch_size", 2.0, 2),
        ("batch_size", 1e3, 1000),
        ("batch_size", "1e3", 1000),
        ("batch_size", -4.0, -4),
        ("depth", 1e20, 10**20),
        ("depth", 2**53 + 1, 2**53 + 1),  # no float is this number
        ("depth", f"{2**53 + 1}.0", 2**53 + 1),
        ("depth", "1e400", 10**400),
        ("depth", "010", 10),
        ("depth", None, None),
        ("seed", 7.0, 7),
        ("limit", 1.0, 1.0),
        ("rate", 2, 2.0),
        ("rate", 1e-05, 1e-5),
        ("folder", None, None),
        ("folder", "1e3", "1e3"),
        ("name", "None", "None"),
        ("name", "2.0", "2.0"),
        ("name", "(1, 2)", "(1, 2)"),
        ("patch", (96, 96), (96, 96)),
        ("patch", [96.0, 128.0], (96, 128)),
        ("modalities", ["t1", "flair"], ["t1", "flair"]),
        ("modalities", ("t1",), ["t1"]),
        ("modalities", None, None),
        ("sizes", (1.0, 2), [1, 2]),
        ("rates", (1, 2.5), [1.0, 2.5]),
        ("flag", True, True),
        ("flag", False, False),
        ("weights", {"dice": 1.0, "gap": 0.5}, {"dice": 1.0, "gap": 0.5}),
        ("weights", None, None),
        ("anything", None, None),
        ("anything", 1.0, 1.0),
        ("preparation.crop", (96, 96, 96), (96, 96, 96)),
        ("preparation.crop", None, None),
        ("preparation.crop", "nonzero", "nonzero"),
        ("optional.crop", (96, 96.0, 96), (96, 96, 96)),
        ("optional.crop", None, None),
        ("optional.orientation", None, None),
    ],
)
def test_a_value_reaches_its_option_with_its_type(form: str, name: str, value: Any, expected: Any) -> None:
    found = parser().parse_args(agent_arguments({f"data.{name}": value}, form))[f"data.{name}"]
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(expected, list | tuple):
        assert [type(one) for one in found] == [type(one) for one in expected]


def test_nested_values_set_what_they_name_and_leave_the_rest() -> None:
    nested = {"batch_size": 8.0, "preparation": {"crop": None}, "optional": {"crop": (4, 4, 4.0), "orientation": None}}
    data = parser().parse_args(["--data.name=kept", *agent_arguments({"data": nested})]).data
    assert (data.batch_size, data.name, data.preparation.crop, data.preparation.orientation) == (8, "kept", None, "RAS")
    assert (data.optional.crop, data.optional.orientation, data.optional.name) == ((4, 4, 4), None, "plain")


def test_a_class_and_its_arguments_may_stand_in_one_value() -> None:
    name = f"{Loss.__module__}.Loss"
    value = {"class_path": name, "init_args": {"weight": 0, "layers": (1.0, 2.0), "epochs": 1e1}}
    loss = parser().parse_args(agent_arguments({"loss": value})).loss
    assert loss.class_path == name
    assert (loss.init_args.weight, loss.init_args.layers, loss.init_args.epochs) == (0.0, [1, 2], 10)


def test_arguments_of_a_class_are_typed_by_the_class() -> None:
    first = [f"--loss={Loss.__module__}.Loss", "--loss.init_args.layers=[3]"]
    later = agent_arguments({"loss.init_args.layers": None, "loss.init_args.epochs": 2.0})
    settings = parser().parse_args([*first, *later]).loss.init_args
    assert (settings.layers, settings.epochs) == (None, 2)


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("--data.batch_size=2.5", "--data.batch_size 2.5: expected a whole number"),
        ("--data.batch_size=None", "expected a whole number"),
        ("--data.batch_size=1e999999999", "expected a whole number"),
        (f"--data.batch_size=1e{'9' * 30}", "expected a whole number"),
        ("--data.rate=None", "expected a number"),
        ("--data.patch=(1, 2, 3)", "expected 2 whole numbers, e.g. [1,1]"),
        ("--data.unknown=None", "data.unknown"),
        ("--data={'unknown': None}", "data.unknown"),
    ],
)
def test_what_does_not_fit_is_still_refused(argument: str, error: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parser().parse_args([argument])
    assert error in str(refusal.value)
    assert "\n" not in str(refusal.value)


TYPED = {
    "batch_size": st.integers(),
    "limit": st.integers() | st.floats(allow_nan=False, allow_infinity=False, width=32),
    "rate": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "depth": st.none() | st.integers(),
    "patch": st.tuples(st.integers(), st.integers()),
    "modalities": st.none() | st.lists(st.sampled_from(["t1", "None", "2.0", "a b"]), min_size=1),
    "rates": st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32)),
    "anything": st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.floats(0, 1)),
    "preparation": st.fixed_dictionaries({"crop": st.none() | st.lists(st.integers(), min_size=3, max_size=3)}),
}


@given(st.sampled_from(sorted(TYPED)).flatmap(lambda name: st.tuples(st.just(name), TYPED[name])))
def test_what_is_typed_in_json_means_what_it_meant_to_the_plain_parser(typed: tuple[str, Any]) -> None:
    name, value = typed
    argument = f"--data.{name}={json.dumps(value)}"
    assert parser().parse_args([argument]) == parser(ArgumentParser).parse_args([argument])


@given(st.sampled_from(sorted(TYPED)).flatmap(lambda name: st.tuples(st.just(name), TYPED[name])))
def test_what_the_agent_writes_means_what_json_means(typed: tuple[str, Any]) -> None:
    name, value = typed
    agent = parser().parse_args(agent_arguments({f"data.{name}": value}))
    assert agent == parser(ArgumentParser).parse_args([f"--data.{name}={json.dumps(value)}"])


@pytest.mark.parametrize(
    ("line", "there", "others"),
    [
        (["--there"], True, []),
        (["--there", "--x", "1"], True, []),
        (["--there", "one", "two"], True, ["one", "two"]),
        (["one", "two", "--there"], True, ["one", "two"]),
        (["--there", "false", "one"], False, ["one"]),
        (["--there=False"], False, []),
        (["--maybe", "null", "--there=true"], True, []),
    ],
)
def test_an_option_of_true_or_false_may_stand_without_a_value(line: list[str], there: bool, others: list[str]) -> None:
    parser = OneLineErrors()
    parser.add_argument("--there", type=bool, default=False)
    parser.add_argument("--maybe", type=bool | None)
    parser.add_argument("--x", type=int, default=0)
    parser.add_argument("others", nargs="*")
    found = parser.parse_args(line)
    assert (found.there, found.others, found.maybe) == (there, others, None)


def test_a_wrong_value_of_true_or_false_is_named() -> None:
    parser = OneLineErrors()
    parser.add_argument("--there", type=bool, default=False)
    for wrong in ("ture", "0", "n"):
        with pytest.raises(UsageError, match=rf"^--there {wrong}: expected true or false$"):
            parser.parse_args(["--there", wrong])
