"""Completion by the shell: the script, and what bash and zsh make of it."""

from __future__ import annotations

import os
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

# zsh completes in a terminal alone, so one shell holds another in a pseudo-terminal, types the line and presses Tab.
# The inner one writes down what its `compadd` would offer, and ends.
TYPED = r"""
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner "source $1"
zpty -r inner said '*ready*'
zpty -w -n inner "$2"$'\t'
while zpty -r inner said; do; done
"""
INNER = r"""
PROMPT= fpath=(SCRIPTS $fpath)
autoload -Uz compinit && compinit -D -u
comppostfuncs=(exit)
compadd() {
    # with -O, -A or -D it only fills an array
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    print -rl -- $hits >> OFFERED
    builtin compadd "$@"
}
print ready
"""
LINES = [
    ("pre", {"prepare", "predict"}),
    ("fit --trainer.max_e", {"--trainer.max_epochs"}),
    ("fit -c lgg_", {"lgg_quick"}),
    ("plan --overw", {"--overwrite"}),
    ("predict --part u", {"unlabelled"}),
    ("postprocess --ckpt_path la", {"last.ckpt"}),
    ("check --root da", {"data"}),
    ("experiment lg", {"lgg"}),
    ("demo --o", {"--output"}),
]


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
@pytest.mark.parametrize(("line", "offered"), LINES)
def test_a_command_an_option_and_a_value_are_completed(
    scripts: Path, tmp_path: Path, line: str, offered: set[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "last.ckpt").touch()
    command = ["bash", "-c", PRESSED, "bash", str(scripts / "bash"), "segan_pl", *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {one.strip() for one in done.stdout.split()} == offered


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
@pytest.mark.parametrize(("line", "offered"), LINES)
def test_zsh_completes_the_same(scripts: Path, tmp_path: Path, line: str, offered: set[str]) -> None:
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    (here / "last.ckpt").touch()
    (tmp_path / "_segan_pl").write_text((scripts / "zsh").read_text())
    inner = tmp_path / "inner.zsh"
    inner.write_text(INNER.replace("SCRIPTS", str(tmp_path)).replace("OFFERED", str(tmp_path / "offered")))
    command = ["zsh", "-f", "-c", TYPED, "zsh", str(inner), f"segan_pl {line}"]
    subprocess.run(command, cwd=here, env={**os.environ, "TERM": "xterm"}, check=True, timeout=120)
    assert {*(tmp_path / "offered").read_text().split()} == offered


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
