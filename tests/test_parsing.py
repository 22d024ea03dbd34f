from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segan_pl.commands.options import DataSetOptions, parse
from segan_pl.errors import UsageError
from segan_pl.parsing import OneLineErrors, explain


def add_nothing(parser: OneLineErrors) -> None:
    """A command without options of its own."""


def test_a_system_file_gives_what_the_command_knows_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "system.yaml"
    content = {"model": {"lr": 1}, "data": {"root": "a", "modalities": ["t1"], "batch_size": 3, "missing": "drop"}}
    file.write_text(yaml.safe_dump(content))
    options, _ = parse(["check", "--config", str(file), "--data.root=b"], "Checks.", add_nothing)
    assert options == DataSetOptions("b", modalities=["t1"], missing="drop")


def test_a_shipped_file_is_found_by_name() -> None:
    options, _ = parse(["check", "--config", "lgg", "--data.root=b"], "Checks.", add_nothing)
    assert (options.layout, options.missing) == ("lgg", "drop")


def test_an_unknown_option_is_one_line_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["check", "--data.rot=b"], "Checks.", add_nothing)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Did you mean 'data.root'?" in error


def test_a_shortened_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["check", "--data.root=b", "--data.modal=[t1]"], "Checks.", add_nothing)
    assert "data.modal" in capsys.readouterr().err


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("a: [")
    with pytest.raises(UsageError, match=r"bad.yaml: not readable as YAML"):
        parse(["check", "--config", str(file)], "Checks.", add_nothing)


def test_a_message_without_an_unknown_key_stays_as_it_is_on_one_line() -> None:
    assert explain("wrong\n  value", ["data.root"]) == "wrong value"
