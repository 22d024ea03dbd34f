"""A study on disk: its runs, and what became of each.

In a study's folder, study.json lists the runs in order; logs/<name>.json says how one ended, logs/<name>.log what it
printed; runs/<name>/ is the folder of a `fit`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.kept import best_kept
from segan_pl.files import write_whole

State = Literal["finished", "failed", "skipped"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]{0,119}")
# no space, so that the YAML mapping {run: 1} of an option is none
PLACEHOLDER = re.compile(r"\{(run|best):([^{}\s]+)\}")


@dataclass(frozen=True)
class Run:
    """One command of a study.

    Attributes:
        name: Unique in the study; a file name.
        arguments: Of `segan_pl`, from the command on. "{run:NAME}" stands for the folder of run NAME, "{best:NAME}"
            for its best checkpoint; both are filled when the run starts.
        after: Runs that must have finished before, in addition to those that placeholders name.
        values: What tells it from the others, for tables; plain values.
    """

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """All runs that must have finished before."""
        named = (match[2] for argument in self.arguments for match in PLACEHOLDER.finditer(argument))
        return tuple(dict.fromkeys([*self.after, *named]))


@dataclass(frozen=True)
class Outcome:
    """What became of a study's runs, by name.

    Attributes:
        finished: Now or earlier.
        failed: Those that ended with an exit code other than 0, each with the last that it said.
        skipped: Those that were not run because a run that they need has failed, each with that run.
        kept: Those of `finished` that an earlier call had finished.
    """

    finished: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        """The outcome of two parts of a study."""
        failed, skipped = {**self.failed, **other.failed}, {**self.skipped, **other.skipped}
        return Outcome((*self.finished, *other.finished), failed, skipped, (*self.kept, *other.kept))

    @property
    def exit_code(self) -> int:
        """0 only when every run has finished."""
        return 1 if self.failed or self.skipped else 0

    def lines(self) -> list[str]:
        """What failed and why, then the counts."""
        total = len(self.finished) + len(self.failed) + len(self.skipped)
        earlier = f" ({len(self.kept)} of them earlier)" if self.kept else ""
        return [
            *(f"failed: {name}: {why}" for name, why in self.failed.items()),
            *(f"skipped: {name}: needs {why}, which has not finished" for name, why in self.skipped.items()),
            f"{total} runs, {len(self.finished)} finished{earlier}, {len(self.failed)} failed, "
            f"{len(self.skipped)} skipped",
        ]


def run_folder(directory: Path, name: str) -> Path:
    """The folder in which a run of a study trains."""
    return directory / "runs" / name


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint that was kept as the best in a folder of `fit`.

    Raises:
        CaseError: It kept none.
    """
    if (best := best_kept(folder / "checkpoints")) is None:
        raise CaseError(f"{folder}: no best checkpoint in {folder / 'checkpoints'}; let the run finish an epoch")
    return best.path


def filled(run: Run, directory: Path) -> list[str]:
    """A run's command line, placeholders filled.

    Raises:
        CaseError: A checkpoint that it needs is not there.
    """

    def value(match: re.Match[str]) -> str:
        folder = run_folder(directory, match[2])
        return str(folder if match[1] == "run" else best_checkpoint(folder))

    return [PLACEHOLDER.sub(value, argument) for argument in with_directory(run, directory)]


def with_directory(run: Run, directory: Path) -> list[str]:
    """A run's arguments; a `fit` without a folder of its own gets its place in the study."""
    arguments = list(run.arguments)
    own = any(argument.split("=", 1)[0] == "--run.directory" for argument in arguments)
    if arguments[0] == "fit" and not own:
        arguments += ["--run.directory", str(run_folder(directory, run.name))]
    return arguments


def command_lines(runs: Sequence[Run], directory: Path) -> list[str]:
    """The commands that a study consists of, with their placeholders unfilled."""
    return [shlex.join(["segan_pl", *with_directory(run, directory)]) for run in runs]


# -- what became of them -----------------------------------------------------------------------------------------------


def run_state(directory: Path, name: str) -> dict[str, Any] | None:
    """How a run ended: name, arguments, state, exit_code, seconds, started, error; None when it has not.

    Raises:
        CaseError: The file is damaged.
    """
    file = directory / "logs" / f"{name}.json"
    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        _ = state["state"], state["arguments"]
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{file}: not readable as a run's end ({error}); remove it to repeat the run") from error
    return state


def write_state(directory: Path, run: Run, state: State, **more: Any) -> None:
    """Record how a run ended."""
    record = {"name": run.name, "arguments": list(run.arguments), "state": state, "values": dict(run.values)}
    write_whole(directory / "logs" / f"{run.name}.json", json.dumps({**record, **more}, indent=1) + "\n")


def is_finished(directory: Path, name: str) -> bool:
    """Whether a run need not be repeated."""
    state = run_state(directory, name)
    return state is not None and state["state"] == "finished"


# -- the list ----------------------------------------------------------------------------------------------------------


def save_runs(runs: Sequence[Run], directory: Path) -> None:
    """Check the runs, and keep them as the study's list; runs of an earlier, other list stay in it.

    Raises:
        UsageError: Names that repeat, needs that no run meets, or a run that has finished with other arguments.
    """
    known = {run.name: run for run in load_runs(directory)} if (directory / "study.json").is_file() else {}
    require_sound(runs, known)
    for run in runs:
        state = run_state(directory, run.name)
        if state is not None and state["state"] == "finished" and tuple(state["arguments"]) != run.arguments:
            gone = [argument for argument in state["arguments"] if argument not in run.arguments]
            new = [argument for argument in run.arguments if argument not in state["arguments"]]
            raise UsageError(
                f"{directory}: run {run.name} has finished with other arguments ({' '.join(gone) or 'fewer'} -> "
                f"{' '.join(new) or 'fewer'}); choose another --output or the same arguments"
            )
    merged = {**known, **{run.name: run for run in runs}}
    text = json.dumps([asdict(run) for run in merged.values()], indent=1)
    write_whole(directory / "study.json", text + "\n")


def load_runs(directory: Path) -> list[Run]:
    """The runs of a study's folder.

    Raises:
        UsageError: The folder holds no study.
    """
    file = directory / "study.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return [Run(one["name"], tuple(one["arguments"]), tuple(one["after"]), one["values"]) for one in raw]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not readable as a study ({error}); give the folder of a study") from error


def require_sound(runs: Sequence[Run], known: Mapping[str, Run] | None = None) -> None:
    """Raise UsageError for a name that is no file name or repeats, or for needs that cannot be met in this order."""
    before: set[str] = set(known or {}) - {run.name for run in runs}
    for run in runs:
        if not NAME.fullmatch(run.name):
            raise UsageError(f"run {run.name!r}: expected a name of letters, digits and . _ + = , -")
        if run.name in before:
            raise UsageError(f"run {run.name}: is given twice; expected each once")
        if unmet := [name for name in run.needs if name not in before]:
            raise UsageError(f"run {run.name}: needs {', '.join(unmet)}, which no run before it is")
        before.add(run.name)
