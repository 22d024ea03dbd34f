"""A study on disk: its trials, what became of each, and where their runs lie.

In a study's folder, study.json lists the trials in order; trials/<name>.json says how one ended, the .log beside it
what it printed; runs/<name>/ is the run's folder of a `fit`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from segan_pl.data.volume import CaseError
from segan_pl.errors import UsageError
from segan_pl.files import write_whole

State = Literal["finished", "failed", "skipped"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]{0,119}")
PLACEHOLDER = re.compile(r"\{(run|best):([^{}]+)\}")


@dataclass(frozen=True)
class Trial:
    """One command of a study.

    Attributes:
        name: Unique in the study; a file name.
        arguments: Of `segan_pl`, from the command on. "{run:NAME}" stands for the folder of trial NAME, "{best:NAME}"
            for its best checkpoint; both are filled when the trial starts.
        after: Trials that must have finished before, beside those that placeholders name.
        values: What tells it from the others, for tables; plain values.
    """

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """All trials that must have finished before."""
        named = (match[2] for argument in self.arguments for match in PLACEHOLDER.finditer(argument))
        return tuple(dict.fromkeys([*self.after, *named]))


def run_folder(directory: Path, name: str) -> Path:
    """Where a trial's run lies."""
    return directory / "runs" / name


def best_checkpoint(run: Path) -> Path:
    """The checkpoint that a run kept as its best.

    Raises:
        CaseError: It kept none.
    """
    found = [path for path in (run / "checkpoints").glob("epoch*_dice*.ckpt") if _dice(path) is not None]
    if not found:
        raise CaseError(f"{run}: no best checkpoint in {run / 'checkpoints'}; let the run finish an epoch")
    return max(found, key=lambda path: (_dice(path) or 0.0, path.name))


def _dice(path: Path) -> float | None:
    match = re.fullmatch(r"epoch\d+_dice(-?\d+\.\d+)(?:-v\d+)?", path.stem)
    return float(match[1]) if match else None


def filled(trial: Trial, directory: Path) -> list[str]:
    """A trial's command line, placeholders filled.

    Raises:
        CaseError: A checkpoint that it needs is not there.
    """

    def value(match: re.Match[str]) -> str:
        run = run_folder(directory, match[2])
        return str(run if match[1] == "run" else best_checkpoint(run))

    return [PLACEHOLDER.sub(value, argument) for argument in with_directory(trial, directory)]


def with_directory(trial: Trial, directory: Path) -> list[str]:
    """A trial's arguments; a `fit` without a folder of its own gets its place in the study."""
    arguments = list(trial.arguments)
    own = any(argument.split("=", 1)[0] == "--run.directory" for argument in arguments)
    if arguments[0] == "fit" and not own:
        arguments += ["--run.directory", str(run_folder(directory, trial.name))]
    return arguments


# -- what became of them -----------------------------------------------------------------------------------------------


def trial_state(directory: Path, name: str) -> dict[str, Any] | None:
    """How a trial ended: name, arguments, state, exit_code, seconds, started, error; None when it has not.

    Raises:
        CaseError: The file is damaged.
    """
    file = directory / "trials" / f"{name}.json"
    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        _ = state["state"], state["arguments"]
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{file}: not readable as a trial's end ({error}); remove it to run the trial again") from error
    return state


def write_state(directory: Path, trial: Trial, state: State, **more: Any) -> None:
    """Record how a trial ended."""
    record = {"name": trial.name, "arguments": list(trial.arguments), "state": state, "values": dict(trial.values)}
    write_whole(directory / "trials" / f"{trial.name}.json", json.dumps({**record, **more}, indent=1) + "\n")


def is_finished(directory: Path, name: str) -> bool:
    """Whether a trial need not run again."""
    state = trial_state(directory, name)
    return state is not None and state["state"] == "finished"


# -- the list ----------------------------------------------------------------------------------------------------------


def save_trials(trials: Sequence[Trial], directory: Path) -> None:
    """Check the trials, and keep them as the study's list; trials of an earlier, other list stay in it.

    Raises:
        UsageError: Names that repeat, needs that no trial meets, or a trial that has finished with other arguments.
    """
    known = {trial.name: trial for trial in load_trials(directory)} if (directory / "study.json").is_file() else {}
    require_sound(trials, known)
    for trial in trials:
        state = trial_state(directory, trial.name)
        if state is not None and state["state"] == "finished" and tuple(state["arguments"]) != trial.arguments:
            raise UsageError(_other_arguments(directory, trial, state["arguments"]))
    merged = {**known, **{trial.name: trial for trial in trials}}
    text = json.dumps([asdict(trial) for trial in merged.values()], indent=1)
    write_whole(directory / "study.json", text + "\n")


def load_trials(directory: Path) -> list[Trial]:
    """The trials of a study's folder.

    Raises:
        UsageError: The folder holds no study.
    """
    file = directory / "study.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return [Trial(one["name"], tuple(one["arguments"]), tuple(one["after"]), one["values"]) for one in raw]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not readable as a study ({error}); give the folder of a study") from error


def require_sound(trials: Sequence[Trial], known: Mapping[str, Trial] | None = None) -> None:
    """Raise UsageError for a name that is no file name or repeats, or for needs that cannot be met in this order."""
    before: set[str] = set(known or {}) - {trial.name for trial in trials}
    for trial in trials:
        if not NAME.fullmatch(trial.name):
            raise UsageError(f"trial {trial.name!r}: expected a name of letters, digits and . _ + = , -")
        if trial.name in before:
            raise UsageError(f"trial {trial.name}: stands there twice; expected each once")
        if unmet := [name for name in trial.needs if name not in before]:
            raise UsageError(f"trial {trial.name}: needs {', '.join(unmet)}, which no trial before it is")
        before.add(trial.name)


def _other_arguments(directory: Path, trial: Trial, old: Sequence[str]) -> str:
    gone = [argument for argument in old if argument not in trial.arguments]
    new = [argument for argument in trial.arguments if argument not in old]
    return (
        f"{directory}: trial {trial.name} has finished with other arguments ({' '.join(gone) or 'fewer'} -> "
        f"{' '.join(new) or 'fewer'}); choose another --output or the same arguments"
    )
