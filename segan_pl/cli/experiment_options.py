"""The command line of `segan_pl experiment`: the data set, values of the plan, and what every fit is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace

from segan_pl.cli.commands.options import DataSetOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.split.choice import SplitChoice
from segan_pl.data.split.strata import COLUMNS
from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.config_layers import defines_model, refuse_two_models, require_system_first
from segan_pl.experiments.plan.expansion import first_files, require_consistent
from segan_pl.experiments.plan.placeholders import VARIABLE
from segan_pl.experiments.plan.plan import DRAWN, Plan
from segan_pl.experiments.plan.plan_runs import config_file, lasting
from segan_pl.experiments.runner import Runner, add_runner_options, runner_of
from segan_pl.experiments.shipped import FLAGS, config_paths, option_value
from segan_pl.experiments.study_files import EXPERIMENT, require_own_folder
from segan_pl.files import require_writable

OURS = (
    *("--run.directory", "--seed_everything", "--data.seed", "--ckpt_path", *FLAGS),
    *("--finetuning.init_from", "--finetuning.parts"),
)
FORWARDED = ("layout", "labels", "native_labels", "missing", "origin_tolerance_mm", "split_leaks")
SETTLED = ("root", "modalities", "split_file", "fold", "val_fraction", "test_fraction", "stratify_by", "split_seed")
FORMS: Mapping[type, str] = {list: "a list, e.g. [a,b]", dict: "a mapping, e.g. {a: b}"}
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
        fold: Which of its folds, where the plan takes one split.
        split_leftovers: Usable cases that the split file does not name: "ignore" them with a note, or "refuse".
        split_leaks: A patient on two sides of the split file: "refuse", or "allow" with a note.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    stratify_by: tuple[str, ...] = COLUMNS
    split_seed: int = 0
    split_file: str | None = None
    fold: int | None = None
    split_leftovers: Literal["refuse", "ignore"] = "ignore"
    split_leaks: Literal["refuse", "allow"] = "refuse"

    @property
    def choice(self) -> SplitChoice:
        """How the cases are parted."""
        fractions, by = (self.val_fraction, self.test_fraction), self.stratify_by
        file, seed = (self.split_file, self.fold), self.split_seed
        return SplitChoice(*fractions, by, *file, self.split_leftovers, self.split_leaks, seed)


@dataclass(frozen=True)
class Call:
    """A parsed command line.

    Attributes:
        plan: With the values of --set.
        options: Which data set, and how it is split.
        settings: The command's own options.
        runner: Who carries out the runs.
        directory: The study's folder, absolute.
        folds: As many as --set asks for; None where it does not.
        data: What every fit is told of the data, but for its root.
        configs: Names or paths of further configuration files of every fit.
        extra: Arguments of every fit, last.
    """

    plan: Plan
    options: StudyDataOptions
    settings: Namespace
    runner: Runner
    directory: Path
    folds: int | None
    data: tuple[str, ...]
    configs: tuple[str, ...]
    extra: tuple[str, ...]


def parsed(plan: Plan, own: list[str], extra: list[str]) -> Call:
    """Parse what is before "--", and refuse what contradicts the study.

    Args:
        plan: As its file says.
        own: The command's options.
        extra: What follows "--".

    Raises:
        UsageError: What was typed wrongly, or a folder that holds something else.
    """
    require_consistent(plan)
    given = _given(plan, own)
    plan = replace(plan, values={**plan.values, **given})
    files = first_files(plan)
    system = [part for file in files for part in ("--config", str(config_file(plan, file)))]
    says = f"{plan.title}. What is given after -- goes to every fit, e.g. -- --trainer.max_epochs 30."
    to_every_fit: list[str] = []
    options, settings = parse(
        [f"experiment {plan.name}", *system, *own], says, _add_arguments, StudyDataOptions, forward=to_every_fit
    )
    apart = [part for one in own for part in (one.split("=", 1) if one.partition("=")[0] in FLAGS else [one])]
    configs = [lasting(str(path)) for path in config_paths(apart)]
    found = [config_file(plan, file) for file in (*files, *configs)]
    if not any(defines_model(file) for file in found):
        raise UsageError(f"{plan.name}: {files[0]} has no model; expected a system file, e.g. segan_cat")
    refuse_two_models(found)
    require_system_first(found)
    _require_extra(to_every_fit, "", plan)
    _require_extra(extra, " after --", plan)
    if plan.split == "named":
        _require_named(plan, own)
    runner, directory = runner_of(settings), Path(settings.output).expanduser()
    if settings.report and (settings.dry_run or settings.slurm):
        raise UsageError("--report runs nothing; leave out --dry_run and --slurm")
    if runner.writes:
        require_writable(directory, f"--output {settings.output}")
        drawn = [name for name, table in plan.tables.items() if table.form in DRAWN]
        require_own_folder(directory, EXPERIMENT, drawn)
    if options.missing == "zero":
        raise UsageError("--data.missing zero: the runs are compared over complete cases; use refuse or drop")
    typed = [field for field in FORWARDED if option_value(own, f"--data.{field}") is not None]
    data = [part for field in typed for part in (f"--data.{field}", str(getattr(options, field)))]
    if options.fold is not None:  # the fold of a data file is one of another file
        data += ["--data.fold", "null"]
    everywhere = (*to_every_fit, *extra)
    folds = given.get("folds") if plan.split == "folds" else None
    return Call(plan, options, settings, runner, directory.resolve(), folds, tuple(data), tuple(configs), everywhere)


def _add_arguments(parser: OneLineErrors) -> None:
    add = parser.add_argument
    add("--tables", type=str | None, help="some of the plan's tables, e.g. I,II (default: all that the data allow)")
    add("--seeds", type=str | None, help="e.g. 0,1,2: everything is run once for each (default: the plan's)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="another value of the plan, e.g. size=_small")
    add("--report", type=bool, default=False, help="write the tables of what is there, run nothing")
    add_runner_options(parser)


def _given(plan: Plan, own: Sequence[str]) -> dict[str, Any]:
    """The values of --set, each read as YAML; a list that runs and rows are repeated over may be empty.

    Raises:
        UsageError: The plan has no such value, or one of another form.
    """
    values, found = plan.values, {}
    rows = [row for table in plan.tables.values() for row in table.rows]
    over = [(one.each, one.pool) for one in plan.runs.values()] + [(row.each, row.pool) for row in rows]
    # Of an empty one the runs and rows are left out; cases and what is taken together cannot be.
    repeated = {one for each, _ in over for one in each.values() if isinstance(one, str)}
    repeated -= {str(one) for _, pool in over for one in pool.values()}
    given = [own[n + 1] for n, one in enumerate(own[:-1]) if one == "--set"]
    for text in [*given, *(one.partition("=")[2] for one in own if one.startswith("--set="))]:
        name, equals, value = text.partition("=")
        if name not in values:
            raise UsageError(f"--set {text}: {plan.name} has no value {name}; {nearest(name, values)}")
        if not equals:
            raise UsageError(f"--set {text}: expected {name}=VALUE")
        try:
            read = yaml.safe_load(value) if value else ""
        except yaml.YAMLError as error:
            raise UsageError(f"--set {text}: not readable as YAML: {' '.join(str(error).split())}") from error
        form, words = next((pair for pair in FORMS.items() if isinstance(values[name], pair[0])), (object, ""))
        if values[name] is not None and (not isinstance(read, form) or (not words and isinstance(read, list | dict))):
            raise UsageError(f"--set {text}: expected {words or 'one value'}")
        if read == {} or (read == [] and name not in repeated):
            raise UsageError(f"--set {text}: is empty; expected {words}")
        found[name] = read
    return found


def _require_named(plan: Plan, own: Sequence[str]) -> None:
    """Refuse options of a split where the plan names the cases.

    Raises:
        UsageError: One is given.
    """
    for field in ("split_file", "fold", "val_fraction", "test_fraction", "split_seed", "split_leftovers"):
        if option_value(own, f"--data.{field}") is not None:
            lists = ", ".join(f"--set {name[1:-1]}=[...]" for name in plan.parts.values() if isinstance(name, str))
            raise UsageError(f"--data.{field}: {plan.name} names its cases; leave it out, or name others: {lists}")


def _require_extra(extra: Sequence[str], where: str, plan: Plan) -> None:
    """Refuse options of fit that the study itself gives, and those by which the plan tells its runs apart.

    Raises:
        UsageError: One is among them.
    """
    if extra and not extra[0].startswith("-"):
        raise UsageError(f"{extra[0]!r} after --: expected options of segan_pl fit, e.g. -- --trainer.max_epochs 30")
    apart = {
        f"--{option}"
        for run in plan.runs.values()
        for option, value in run.options.items()
        if {match[1] for match in VARIABLE.finditer(str(value))} & {"seed", *run.each}
    }
    for argument in extra:
        name = argument.partition("=")[0]
        if name in apart:
            raise UsageError(f"{name}{where}: {plan.name} tells its runs apart by it; leave it out")
        if name in OURS:
            raise UsageError(f"{name}{where}: the experiment sets it; leave it out (configuration files go before --)")
        if name.startswith("--data.") and name.removeprefix("--data.") in CASES:
            raise UsageError(f"{name} after --: it says which cases are used; give it before --")


def chosen_tables(plan: Plan, text: str | None) -> tuple[str, ...] | None:
    """The tables of `--tables`, in any order and case.

    Raises:
        UsageError: One is unknown, or there is none.
    """
    if text is None:
        return None
    known = {name.lower(): name for name in plan.tables}
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name.lower() not in known:
            raise UsageError(f"--tables {name}: unknown; {nearest(name, plan.tables)}")
    if not names:
        raise UsageError(f"--tables is empty; known: {', '.join(plan.tables)}")
    return tuple(known[name.lower()] for name in names)


def seed_list(text: str) -> tuple[int, ...]:
    """Whole numbers between commas, each once.

    Raises:
        UsageError: Something else.
    """
    parts = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise UsageError(f"--seeds {text}: expected whole numbers from 0, each once, e.g. 0,1,2")
    return tuple(map(int, parts))
