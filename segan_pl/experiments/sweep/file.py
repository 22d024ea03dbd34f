"""A W&B sweep file, read for a search on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.config_layers import defines_model
from segan_pl.experiments.shipped import FLAGS, find_config, find_sweep, with_data_root
from segan_pl.experiments.sweep.parameters import Parameter, read_parameters

Method = Literal["grid", "random", "bayes"]
Goal = Literal["maximize", "minimize"]

KEYS = {"apiVersion", "kind", "controller", "description", "program", "entity", "project", "method", "command", "name"}
KEYS |= {"metric", "early_terminate", "parameters", "run_cap"}
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")  # W&B's
MACRO = re.compile(r"\$\{([^}]*)\}")
ARGS, ARGS_FILE = "${args}", "${args_json_file}"
LOGGING = ("--run.loggers", "--run.wandb_offline", "--run.log_best_checkpoint")


@dataclass(frozen=True)
class SweepFile:
    """What is searched, by what, and for what.

    Attributes:
        path: The file.
        question: Its `description`.
        method: How trials are chosen.
        metric: Column of a run's metrics.csv whose best value counts.
        goal: What is best.
        parameters: In the file's order.
        fixed: Arguments of `segan_pl` that every trial has, from the command on; environment variables not yet filled.
        run_cap: The number of trials that the file asks for; None where it does not.
        notes: What of the file is not done here.
    """

    path: Path
    question: str
    method: Method
    metric: str
    goal: Goal
    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]
    run_cap: int | None = None
    notes: tuple[str, ...] = ()


def read_sweep(name: str) -> SweepFile:
    """The sweep of a file, or of a shipped one by name.

    Raises:
        UsageError: There is none, or it asks for what is not run here.
    """
    path = find_sweep(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "parameters" not in content:
        raise UsageError(f"{path}: not a sweep file; expected method, metric, command and parameters")
    try:
        return _sweep(path, content)
    except UsageError as error:
        raise UsageError(f"{path.name}: {error}") from error


def _sweep(path: Path, content: dict[str, Any]) -> SweepFile:
    if unknown := sorted(set(content) - KEYS):
        raise UsageError(f"{unknown[0]}: no key of a sweep file; {nearest(unknown[0], KEYS)}")
    if content.get("method") not in get_args(Method):
        raise UsageError(f"method {content.get('method')} is not run here; known: {', '.join(get_args(Method))}")
    notes = []
    if "early_terminate" in content:
        notes.append("early_terminate is for W&B's server; here every trial runs to its own end")
    metric = content.get("metric")
    if metric is None:
        metric = {"name": "val/dice_wt", "goal": "maximize"}
        notes.append("no metric in the file; val/dice_wt, maximize is taken")
    if not isinstance(metric, dict) or not metric.get("name"):
        raise UsageError("metric: expected {name: val/dice_wt, goal: maximize}")
    goal = metric.get("goal", "minimize")  # W&B's default
    if goal not in get_args(Goal):
        raise UsageError(f"metric.goal {goal}: expected maximize or minimize")
    notes += [f"metric.{key} is for W&B's server and is not used here" for key in metric if key in ("target", "impute")]
    fixed = fixed_arguments(content.get("command") or DEFAULT_COMMAND, str(content.get("program") or "segan_pl"))
    if any(argument.partition("=")[0] in LOGGING for argument in fixed):
        notes.append(
            "the file's --run.loggers is for W&B's agent; -- --run.loggers [wandb] logs the trials of a call here"
        )
    parameters = tuple(read_parameters(content["parameters"]))
    method = content["method"]
    for one in parameters:
        if method == "grid" and one.choices is None:
            raise UsageError(f"parameter {one.name}: {one.kind} has no list of values for a grid; use method random")
        if method == "bayes" and one.kind == "categorical_w_probabilities":
            raise UsageError(f"parameter {one.name}: probabilities mean nothing to bayes; leave them out")
    return SweepFile(
        path=path,
        question=str(content.get("description") or content.get("name") or path.stem),
        method=content["method"],
        metric=str(metric["name"]),
        goal=goal,
        parameters=parameters,
        fixed=fixed,
        run_cap=content.get("run_cap"),
        notes=tuple(notes),
    )


def fixed_arguments(command: Sequence[Any], program: str) -> tuple[str, ...]:
    """The arguments of `segan_pl` in a sweep's command, without the place of the trial's own.

    Raises:
        UsageError: The command is not `segan_pl fit ...`, or writes a trial's arguments in another form.
    """
    parts = [str(part) for part in command]
    known = ("env", "interpreter", "program", "args", "args_json_file")
    for macro in [match[1] for part in parts for match in MACRO.finditer(part)]:
        if macro not in known and not macro.startswith("envvar:"):
            raise UsageError(
                f"command: ${{{macro}}} is not understood here; write the trial's options as --config {ARGS_FILE}"
            )
    places = [number for number, part in enumerate(parts) if part in (ARGS, ARGS_FILE, f"--config={ARGS_FILE}")]
    if len(places) != 1 or (parts[places[0]] == ARGS_FILE and parts[places[0] - 1] not in FLAGS):
        expected = f"expected --config {ARGS_FILE}, or {ARGS}, once, for the options of each trial"
        raise UsageError(f"command: {expected}; found {' '.join(parts)}")
    # a trial that runs here has its values as options, whichever way they reach the runs of W&B's agent
    before = parts[: places[0] - (parts[places[0]] == ARGS_FILE)]
    rest = [program if part == "${program}" else part for part in (*before, *parts[places[0] + 1 :])]
    if rest and rest[0] in ("${env}", "/usr/bin/env", "env"):
        rest.pop(0)
    if rest and (rest[0] == "${interpreter}" or re.fullmatch(r"python[\d.]*", Path(rest[0]).name)):
        rest.pop(0)
        rest = rest[1:] if rest[:1] == ["-m"] else rest
    if not rest or Path(rest[0]).name not in ("segan_pl", "segan_pl.exe"):
        raise UsageError(f"command: expected segan_pl fit ..., found {' '.join(parts)}")
    if rest[1:2] != ["fit"]:
        raise UsageError(f"command: expected segan_pl fit, found segan_pl {' '.join(rest[1:2]) or '(nothing)'}")
    return tuple(rest[1:])


def filled_arguments(fixed: Sequence[str], extra: Sequence[str] = ()) -> list[str]:
    """The fixed arguments of all trials: those of the file, environment variables filled in, then the extra ones.

    The extra arguments replace those of the file, whose variables then need not be set. A system among their `--config`
    replaces the file's, other `--config` are added. The file's `--run.loggers` is left out: there is no server that the
    trials of a local search belong to.

    Raises:
        UsageError: A variable is not set.
    """
    fixed, extra = with_data_root(fixed), with_data_root(extra)
    given = {argument.partition("=")[0] for argument in extra if argument.startswith("--")} - set(FLAGS)
    own, added = _with_system(_options(fixed), _options(extra))
    kept = [option for option in own if option[0].partition("=")[0] not in given.union(LOGGING)]
    return [
        *(MACRO.sub(_variable, part) for option in kept for part in option),
        *(part for option in added for part in option),
    ]


def _with_system(own: list[list[str]], added: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """The file's options with the added system in the place of its own, and the other added options."""
    system = next((option for option in added if _is_system(option)), None)
    place = next((number for number, option in enumerate(own) if _is_system(option)), None)
    if system is None or place is None:
        return own, added
    return [*own[:place], system, *own[place + 1 :]], [option for option in added if option is not system]


def _is_system(option: Sequence[str]) -> bool:
    """Whether an option is a `--config` with a model."""
    flag, equals, value = option[0].partition("=")
    name = value if equals else "".join(option[1:2])
    return flag in FLAGS and bool(name) and not MACRO.search(name) and defines_model(find_config(name))


def _options(arguments: Sequence[str]) -> list[list[str]]:
    """Each option with the values that follow it."""
    found: list[list[str]] = []
    for argument in arguments:
        if found and not argument.startswith("-") and found[-1][0].startswith("-") and "=" not in found[-1][0]:
            found[-1].append(argument)
        else:
            found.append([argument])
    return found


def _variable(match: re.Match[str]) -> str:
    """What the environment holds for a macro of the command."""
    name = match[1].partition(":")[2]
    if name not in os.environ:
        raise UsageError(
            f"the sweep's command needs the environment variable {name}; set it, or give the option of "
            f"{match.string!r} after --"
        )
    return os.environ[name]
