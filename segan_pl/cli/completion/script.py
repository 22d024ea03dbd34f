"""`segan_pl --completion bash`: a script that completes commands, options and values without starting Python."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
from contextlib import suppress
from typing import Literal
from unittest.mock import patch

from segan_pl.__main__ import COMMANDS
from segan_pl.__main__ import main as program
from segan_pl.cli.completion import FOLDERS
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.errors import UsageError
from segan_pl.experiments.plan.plan import shipped_plans
from segan_pl.experiments.shipped import shipped_configs

SHELLS = ("bash", "zsh")
CONFIGS = {
    "bash": '_segan_pl_configs() {{ compgen -W "{names}" -- "$1"; _shtab_compgen_files "$1"; }}',
    "zsh": "_segan_pl_configs() {{ compadd -- {names}; _files }}",
}
MORE = {"experiment": ("segan_cat",), "fit": ("all",), "validate": ("all",), "test": ("all",)}
"""What a command is given next to --help so that it shows all of its options."""


def main(arguments: list[str]) -> int:
    """Print the script of a shell.

    Args:
        arguments: "--completion" and the shell's name, or both in one.

    Raises:
        UsageError: No such shell.
    """
    given = " ".join(arguments).replace("=", " ", 1).split()[1:]
    if len(given) != 1 or given[0] not in SHELLS:
        raise UsageError(f"--completion {' '.join(given) or 'is alone'}: expected bash or zsh")
    logging.disable(logging.INFO)  # notes on the machine, which fit makes before it shows its help
    print(script(given[0]))
    return 0


def script(shell: str) -> str:
    """The completion of every command, by shtab; it holds for this version and the shipped files of today."""
    root = OneLineErrors(prog="segan_pl")
    root.add_argument("--version", action="store_true", help="the version")
    commands = root.add_subcommands()
    for name, line in COMMANDS.items():
        commands.add_subcommand(name, parser_of(name), help=line)
    names = shlex.quote(" ".join(sorted(shipped_configs()))).strip("'")
    text = root.get_completion_script(f"shtab-{shell}", preambles=[CONFIGS[shell].format(names=names)])
    # jsonargparse lists what it links (data to model) as an option, for which zsh refuses the whole command
    text = re.sub(r'^ +"[^"\[]* --> .*\n', "", text, flags=re.MULTILINE)
    # files where nothing else fits
    return text.replace("complete -o bashdefault", "complete -o bashdefault -o default")


def parser_of(name: str) -> OneLineErrors:
    """The parser of a command: that which would print its help."""
    found: list[argparse.ArgumentParser] = []
    more = MORE.get(name, ())
    keep = patch.object(argparse.ArgumentParser, "print_help", lambda self, file=None: found.append(self))
    with keep, suppress(SystemExit):  # with which argparse ends after the help
        program([name, *more, "--help"] if name == "experiment" else [name, "--help", *more])
    if not found:
        raise UsageError(f"segan_pl {name} --help gave no options; call it to see why")
    parser = found[0]
    if not isinstance(parser, OneLineErrors):  # demo's, which hands on to fit what it does not know
        options = re.findall(r"^  (--\w+)", parser.format_help(), re.MULTILINE)
        parser = OneLineErrors(prog=parser.prog)
        for option in options:
            parser.add_argument(option, type=str)
    elif "data.root" in parser.options():  # which every command takes by its short name
        parser.add_argument("--root", type=str, help="the data set").complete = FOLDERS
    if name == "experiment":
        parser.add_argument("plan", nargs="?", type=Literal[tuple(shipped_plans())], help="a plan")
    return parser
