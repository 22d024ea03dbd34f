"""Completion by the shell: the script, and what bash makes of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from segan_pl.__main__ import COMMANDS, main
from segan_pl.cli.completion import CONFIGS, FILES, FOLDERS, completer_of

PRESSED = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
_shtab_segan_pl segan_pl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both scripts."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh"):
        command = [sys.executable, "-m", "segan_pl", "--completion", shell]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        (folder / shell).write_text(done.stdout)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_accepts_the_script_and_every_command_is_in_it(scripts: Path, shell: str) -> None:
    text = (scripts / shell).read_text()
    assert all(f"_shtab_segan_pl_{name}_option" in text for name in COMMANDS)
    assert "complete -o bashdefault -o default -F" in text or shell == "zsh"  # files where nothing else fits
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-n", str(scripts / shell)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pre", {"prepare", "predict"}),
        ("fit --trainer.max_e", {"--trainer.max_epochs"}),
        ("fit -c lgg_", {"lgg_quick"}),
        ("plan --overw", {"--overwrite"}),
        ("predict --part u", {"unlabelled"}),
        ("postprocess --ckpt_path la", {"last.ckpt"}),
        ("check --root da", {"data"}),
        ("experiment lg", {"lgg"}),
        ("demo --o", {"--output"}),
    ],
)
def test_a_command_an_option_and_a_value_are_completed(
    scripts: Path, tmp_path: Path, line: str, offered: set[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "last.ckpt").touch()
    command = ["bash", "-c", PRESSED, "bash", str(scripts / "bash"), "segan_pl", *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {one.strip() for one in done.stdout.split()} == offered


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "fish"]) == 2
    assert "segan_pl: error: --completion fish: expected bash or zsh" in capsys.readouterr().err


def test_values_that_are_paths_are_files_and_closed_choices_are_left_to_the_parser() -> None:
    assert completer_of("config", {"action": "config"}) == CONFIGS
    assert completer_of("data.root", {"type": str}) == FOLDERS
    assert completer_of("ckpt_path", {"type": str | list[str] | None}) == FILES
    assert completer_of("missing", {"type": Literal["zero", "drop"]}) is None
    assert completer_of("workers", {"type": int | None}) is None
    assert completer_of("overwrite", {"type": bool}) is None
