"""`fit --help` is a page that a reader takes in, printed at once; `--help all` has every option."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from segan_pl.__main__ import main
from segan_pl.cli.short_help import short_help, without_all

COMMANDS = ("fit", "validate", "test")


@pytest.fixture(scope="module")
def every_option() -> set[str]:
    """The long options of `fit`, which those of the others are among."""
    done = subprocess.run(
        [sys.executable, "-m", "segan_pl", "fit", "--help", "all"], check=True, capture_output=True, text=True
    )
    return set(re.findall(r"--[\w.]+", done.stdout))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_short_help_fits_a_terminal_and_names_options_that_are_there(
    command: str, every_option: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith(f"usage: segan_pl {command} ")
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 110
    # of one network or optimiser, of a checkpoint, of the program itself
    elsewhere = re.compile(r"--(model\.(networks|optimizers)\..*|KEY\.KEY|ckpt_path|debug|root)")
    named = {option for option in re.findall(r"--[\w.]+", text) if not elsewhere.fullmatch(option)}
    assert len(named) > 12
    assert named <= every_option


@pytest.mark.parametrize("command", COMMANDS)
def test_the_short_help_imports_no_library(command: str) -> None:
    code = (
        f"import sys; from segan_pl.__main__ import main; code = main([{command!r}, '-c', 'segan_cat', '-h']);"
        "print(code, sorted({'torch', 'lightning', 'numpy', 'yaml', 'segan_pl.cli.main'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_all_is_a_word_of_help_alone() -> None:
    assert short_help(["fit", "--help", "all"]) is None
    assert short_help(["fit", "--model.subsets", "all"]) is None
    assert without_all(["fit", "--model.subsets", "all", "--help", "all"]) == [
        "fit",
        "--model.subsets",
        "all",
        "--help",
    ]
    assert short_help(["fit", "--help", "--model.subsets", "all"]) is not None
