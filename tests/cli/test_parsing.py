from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from segan_pl.cli.commands.options import DataSetOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError


@pytest.fixture(autouse=True)
def own_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes below may be imported."""
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "tests")


def add_nothing(parser: OneLineErrors) -> None:
    """A command without options of its own."""


def test_a_system_file_gives_what_the_command_knows_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "system.yaml"
    content = {"model": {"lr": 1}, "data": {"root": "a", "modalities": ["t1"], "batch_size": 3, "missing": "drop"}}
    file.write_text(yaml.safe_dump(content))
    options, _ = parse(["check", "--config", str(file), "--root=b"], "Checks.", add_nothing, DataSetOptions)
    assert options == DataSetOptions("b", modalities=["t1"], missing="drop")


def test_a_shipped_file_is_found_by_name() -> None:
    options, _ = parse(["check", "--config", "lgg", "--root=b"], "Checks.", add_nothing, DataSetOptions)
    assert (options.layout, options.missing) == ("lgg", "drop")


def test_an_unknown_option_is_one_line_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"^--data.rot: no such option; did you mean --data.root\?$"):
        parse(["check", "--data.rot=b"], "Checks.", add_nothing, DataSetOptions)
    with pytest.raises(UsageError, match=r"^--rot: no such option; did you mean --root\?$"):
        parse(["check", "--rot=b"], "Checks.", add_nothing, DataSetOptions)


@pytest.mark.parametrize(("old", "now"), [("input", "root"), ("ref", "root"), ("part_of_split", "part")])
def test_an_option_that_was_called_otherwise_is_refused_with_its_name(old: str, now: str) -> None:
    with pytest.raises(UsageError, match=rf"^--{old}: no such option; did you mean --{now}\?$"):
        parse(["predict", "--root=b", f"--{old}=c"], "Predicts.", add_nothing, DataSetOptions)


def test_a_shortened_option_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--data.modal: no such option; did you mean --data.modalities"):
        parse(["check", "--root=b", "--data.modal=[t1]"], "Checks.", add_nothing, DataSetOptions)


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("a: [")
    with pytest.raises(UsageError, match=r"bad.yaml: not readable as YAML"):
        parse(["check", "--config", str(file)], "Checks.", add_nothing, DataSetOptions)


# -- what was typed wrongly, in the words of the user ------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """A dataclass: its fields stand right below its option."""

    kind: Literal["whole", "nonzero"] = "whole"
    size: tuple[int, int] = (1, 1)


class Layer:
    """A class: its arguments stand below `init_args`."""

    def __init__(self, kind: Literal["UNet", "SegResNet"] = "UNet", width: int = 1) -> None:
        self.kind, self.width = kind, width


class Outer:
    """A class that takes one of the others."""

    def __init__(self, layer: Layer | None = None, box: Box | None = None) -> None:
        self.layer, self.box = layer, box


@dataclass(frozen=True)
class Foreign:
    """A class outside the package that refuses its argument."""

    size: int = 1

    def __post_init__(self) -> None:
        raise ValueError("foreign")


def refused(kind: Any, *arguments: str) -> str:
    """The one line of a parser with an option `--x` of a type."""
    parser = OneLineErrors(prog="segan_pl x")
    parser.add_argument("--x", type=kind)
    with pytest.raises(UsageError) as refusal:
        parser.parse_args(arguments)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


PAIR = tuple[int, int] | Literal["all"] | None
PATCH = tuple[int, int] | tuple[int, int, int]
LAYER = f"--x={__name__}.Layer"
OUTER = [f"--x={__name__}.Outer", f"--x.init_args.layer={__name__}.Layer"]


@pytest.mark.parametrize(
    ("kind", "arguments", "line"),
    [
        (list[str], ["--x=a"], "--x a: expected a list, e.g. [a]"),
        (Sequence[str], ["--x", "a"], "--x a: expected a list, e.g. [a]"),
        (list[str] | None, ["--x=a,b"], "--x a,b: expected a list, e.g. [a,b]"),
        (tuple[int, int], ["--x=7"], "--x 7: expected 2 whole numbers, e.g. [7,7]"),
        (tuple[float, ...], ["--x=7"], "--x 7: expected a list, e.g. [7]"),
        (PATCH, ["--x=7"], "--x 7: expected 2 or 3 whole numbers, e.g. [7,7]"),
        (PATCH, ["--x=1,2,3"], "--x 1,2,3: expected 2 or 3 whole numbers, e.g. [1,2,3]"),
        (PATCH, ["--x=[1]"], "--x [1]: expected 2 or 3 whole numbers, e.g. [1,1]"),
        (tuple[float, float], ["--x=[0.5]"], "--x [0.5]: expected 2 numbers, e.g. [0.5,0.5]"),
        (PAIR, ["--x=al"], "--x al: expected 2 whole numbers, all or null; did you mean all?"),
        (int | None, ["--x=a"], "--x a: expected a whole number or null"),
        (int | float | None, ["--x=a"], "--x a: expected a number or null"),
        (Literal["a", "bcd"], ["--x=bce"], "--x bce: expected a or bcd; did you mean bcd?"),
        (Literal["a", "bcd"], ["--x=foo"], "--x foo: expected a or bcd"),
        (Box | None, ["--x.kind=whle"], "--x.kind whle: expected whole or nonzero; did you mean whole?"),
        (Box | None, ["--x.size=3"], "--x.size 3: expected 2 whole numbers, e.g. [3,3]"),
        (
            Layer,
            [LAYER, "--x.init_args.kind=Unet"],
            "--x.init_args.kind Unet: expected UNet or SegResNet; did you mean UNet?",
        ),
        (
            Outer,
            [*OUTER, "--x.init_args.layer.init_args.kind=foo"],
            "--x.init_args.layer.init_args.kind foo: expected UNet or SegResNet",
        ),
        (Outer, [*OUTER, "--x.init_args.box.kind=foo"], "--x.init_args.box.kind foo: expected whole or nonzero"),
    ],
)
def test_a_wrong_value_is_told_with_its_whole_option_and_what_was_expected(
    kind: Any, arguments: list[str], line: str
) -> None:
    assert refused(kind, *arguments) == line


def test_an_unknown_argument_of_a_class_is_told_with_done_so_far() -> None:
    line = refused(Layer, LAYER, "--x.init_args.widht=3")
    assert line == f"--x.init_args.widht: not accepted by {__name__}.Layer; did you mean --x.init_args.width?"


def test_a_class_behind_another_member_of_a_union_is_not_taken_for_text() -> None:
    assert "width" in refused(str | Layer, LAYER, "--x.init_args.width=a")


def test_a_class_that_does_not_exist_is_told_with_the_one_that_was_meant() -> None:
    line = refused(Layer, f"--x={__name__}.Lyer")
    assert line == f"--x {__name__}.Lyer: no such class; did you mean {__name__}.Layer?"


def test_a_wrong_value_in_a_file_is_told_as_one_on_the_line(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("data: {root: a, modalities: t1, missing: drp}")
    with pytest.raises(UsageError, match=r"^--data.missing drp: expected refuse, zero or drop; did you mean drop\?$"):
        parse(["check", "--config", str(file), "--data.modalities=[t1]"], "Checks.", add_nothing, DataSetOptions)


def test_a_missing_option_is_told_as_it_is_typed() -> None:
    with pytest.raises(UsageError, match=r"^--root is missing: give the folder of cases$"):
        parse(["check"], "Checks.", add_nothing, DataSetOptions)


def test_what_is_taken_by_place_is_missing_without_hyphens() -> None:
    parser = OneLineErrors()
    parser.add_argument("sweep")
    with pytest.raises(UsageError, match="required: sweep"):
        parser.parse_args([])


# -- what our classes refuse -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    """An option that is one of our classes or nothing."""

    preparation: Preparation | None = None
    other: Preparation | None = None


def built(tmp_path: Path, *texts: str) -> None:
    """Build a Holder of configuration files a, b, ..."""
    parser = OneLineErrors()
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Holder, "data")
    files = [tmp_path / f"{name}.yaml" for name, _ in zip("abc", texts, strict=False)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    parser.build(parser.parse_args([f"--config={file}" for file in files]))


SCALED = "data: {preparation: {crop: nonzero, margin: [1, 0]}}"
MARGIN = r"margin is \(1, 0\); expected voxels >= 0, with crop 'nonzero' or 'scaled' only"


def test_what_a_class_of_ours_refuses_is_told_in_its_words_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--data.preparation: {MARGIN}$"):
        built(tmp_path, SCALED.replace("nonzero", "[8, 8, 8]"))
    with pytest.raises(UsageError, match=rf"^--data.other: {MARGIN}$"):
        built(tmp_path, SCALED, "data: {other: {margin: [1, 0]}}")


def test_files_that_were_mixed_are_named_and_no_others(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=rf"^--data.preparation: {MARGIN} \(set by several --config files, .*: a, c\)$"
    ):
        built(tmp_path, SCALED, "data: {other: {crop: null}}", "data: {preparation: {crop: [8, 8, 8]}}")


def test_an_error_that_is_not_ours_stays_as_it_is() -> None:
    parser = OneLineErrors()
    parser.add_argument("--x", type=Foreign | None)
    with pytest.raises(ValueError, match="Union") as found:
        parser.build(parser.parse_args(["--x.size=-1"]))
    assert not isinstance(found.value, UsageError)
