"""The command line of `segan_pl experiment`: the data set, the study's own options, and what every fit is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from segan_pl.commands.options import DataSetOptions, parse
from segan_pl.data.cohort import Cohort
from segan_pl.data.strata import COLUMNS, require_columns
from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.execution import ExecutionOptions, add_execution_options, execution_options
from segan_pl.files import require_writable
from segan_pl.parsing import OneLineErrors
from segan_pl.shipped import FLAGS, defines_model, find_config, refuse_two_models, require_system_first

AFTER = "What stands after -- goes to every fit, e.g. -- --trainer.max_epochs 30."
OURS = ("--run.directory", "--seed_everything", "--data.seed", "--init_from", "--train", "--ckpt_path", *FLAGS)
FORWARDED = ("layout", "labels", "native_labels", "missing", "split_leaks")
SETTLED = ("root", "modalities", "split_file", "fold", "val_fraction", "test_fraction", "stratify_by", "split_seed")
CASES = (*FORWARDED, *SETTLED, "split_leftovers")


@dataclass(frozen=True)
class StudyDataOptions(DataSetOptions):
    """Which data set, and how it is split, once for all runs.

    Attributes:
        val_fraction: Of the patients.
        test_fraction: Of the patients; where there is a test part, it is what is scored.
        stratify_by: Columns that make the strata.
        split_seed: Of the drawing.
        split_file: A split that exists, instead of drawing one.
        fold: Which of its folds (tables).
        split_leaks: A patient on two sides of the split file: "refuse", or "allow" with a note.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    stratify_by: tuple[str, ...] = COLUMNS
    split_seed: int = 0
    split_file: str | None = None
    fold: int | None = None
    split_leaks: Literal["refuse", "allow"] = "refuse"


@dataclass(frozen=True)
class Call:
    """A parsed command line: the data set, the command's own options, and what every fit is given."""

    options: StudyDataOptions
    settings: Namespace
    execution: ExecutionOptions
    cohort: Cohort
    directory: Path
    data: tuple[str, ...]
    configs: tuple[str, ...]
    extra: tuple[str, ...]


def parsed(name: str, says: str, arguments: list[str], add: Callable[[OneLineErrors], None]) -> Call:
    """Parse, refuse what contradicts the study, and find the cases."""
    own, extra = _parted(arguments)
    system = _value(own, "--system")
    first = ["--config", str(_system_file(system))] if system is not None else []

    def add_all(parser: OneLineErrors) -> None:
        parser.add_argument("--system", type=str, required=True, help="a system file, e.g. segan_cat")
        add(parser)
        add_execution_options(parser)
        parser.add_argument("--report", action="store_true", help="write the tables of what is there, run nothing")

    options, settings = parse([name, *first, *own], f"{says} {AFTER}", add_all, StudyDataOptions)
    configs = [_lasting(value) for value in _configs(own)]
    files = [find_config(system or ""), *map(find_config, configs)]
    refuse_two_models(files)
    require_system_first(files)
    _require_extra(extra)
    execution = execution_options(settings)
    if settings.report and (execution.dry_run or execution.slurm):
        raise UsageError("--report runs nothing; leave out --dry-run and --slurm")
    if not execution.dry_run:
        require_writable(execution.directory, f"--output {settings.output}")
    if options.missing == "zero":
        raise UsageError("--data.missing zero: the runs are compared over complete cases; use refuse or drop")
    require_columns((cohort := options.find(mask=True)).cases, options.stratify_by)
    directory = execution.directory.resolve()
    typed = [field for field in FORWARDED if _value(own, f"--data.{field}") is not None]
    given = [part for field in typed for part in (f"--data.{field}", str(getattr(options, field)))]
    whole_file = ("--data.fold", "null") if options.fold is not None else ()  # a data file's fold is of another file
    data = ("--data.root", str(Path(options.root).expanduser().resolve()), *given, *whole_file)
    settings.system = _lasting(settings.system)
    return Call(options, settings, execution, cohort, directory, data, tuple(configs), tuple(extra))


def _parted(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before "--", and after it."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def _value(arguments: Sequence[str], name: str) -> str | None:
    """The last value of `--name value` or `--name=value`."""
    found = None
    for number, argument in enumerate(arguments):
        if argument == name and number + 1 < len(arguments):
            found = arguments[number + 1]
        elif argument.startswith(f"{name}="):
            found = argument.partition("=")[2]
    return found


def _configs(arguments: Sequence[str]) -> list[str]:
    """The configuration files that were typed, in order."""
    out = []
    for number, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in FLAGS and equals:
            out.append(value)
        elif argument in FLAGS and number + 1 < len(arguments):
            out.append(arguments[number + 1])
    return out


def _system_file(system: str) -> Path:
    try:
        path = find_config(system)
    except UsageError as error:
        raise UsageError(str(error).replace("--config", "--system", 1)) from error
    if not defines_model(path):
        raise UsageError(f"--system {system}: has no model; give a system file, e.g. segan_cat, and others with -c")
    return path


def _lasting(name: str) -> str:
    """A file's path from everywhere; a shipped file's name as it is."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def _require_extra(extra: Sequence[str]) -> None:
    """Refuse options of fit that the study itself gives.

    Raises:
        UsageError: One is among them.
    """
    if extra and not extra[0].startswith("-"):
        raise UsageError(f"{extra[0]!r} after --: expected options of segan_pl fit, e.g. -- --trainer.max_epochs 30")
    for argument in extra:
        name = argument.partition("=")[0]
        if name in OURS:
            raise UsageError(
                f"{name} after --: the experiment sets it; leave it out (configuration files go before --)"
            )
        if name.startswith("--data.") and name.removeprefix("--data.") in CASES:
            raise UsageError(f"{name} after --: it says which cases are used; give it before --")


def listed(flag: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Names between commas, in the order of `known`.

    Raises:
        UsageError: One is unknown, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"{flag} {name}: unknown; {nearest(name, known)}")
    if not names:
        raise UsageError(f"{flag} is empty; known: {', '.join(known)}")
    return tuple(one for one in known if one in names)


def seed_list(text: str) -> tuple[int, ...]:
    """Whole numbers between commas, each once.

    Raises:
        UsageError: Something else.
    """
    parts = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise UsageError(f"--seeds {text}: expected whole numbers from 0, each once, e.g. 0,1,2")
    return tuple(map(int, parts))
