"""A paper's experiments as a YAML file: which runs, which tables and figures, which claims; read and checked here.

docs/experiments.md explains the keys. What a plan is on some data is in `expansion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.plan.parts import mapping, part, require_choice
from segan_pl.experiments.shipped import shipped_folder
from segan_pl.experiments.study_files import require_table_names
from segan_pl.report.published import COLUMNS

Kind = Literal["fit", "test", "predict", "evaluate", "atlas"]
Form = Literal["lines", "heat_map", "patients", "curves", "differences", "against"]
SplitKind = Literal["one", "folds", "named", "none"]
FACTS = ("model", "trained_on", "tested_on", "fine_tuning")
"""What tells the rows of tables.csv apart, in the words of published.csv."""
DRAWN = ("heat_map", "curves", "against", "differences")
"""Forms with files of their own, figures or numbers."""
GIVEN = ("modalities", "root", "output", "labels", "seed")
"""Placeholders that are there without a value of the plan: by the data, and the seed of a run."""
PARTS = ("train", "unlabelled", "test")
"""Of a split whose cases the plan names."""


@dataclass(frozen=True)
class RunPlan:
    """Runs of one pattern.

    Attributes:
        name: E.g. "segan_cat_{one}"; each seed's run has "_seed<seed>" behind it.
        kind: The command of `segan_pl`.
        of: Of a fit its configuration files; of a test, predict or evaluate the pattern of the runs that it is about;
            of an atlas its method.
        each: Variable to a list of the values, for every combination of which there is a run.
        pool: Of a predict: variable to a list, for every combination of which one model takes part.
        options: Of the command, without the dashes. A list of one text is repeated over `pool`.
        at_most: Option of fit to a limit: it becomes what the first file and those of the command line say, and no more
            than the limit.
        checkpoint: Which of the models' a test or predict takes.
        cases: Of a predict and its evaluate: the input; by default the cases that the study scores, those of its fold
            for a run with a variable "fold" where the split is "folds".
    """

    name: str
    kind: Kind
    of: tuple[str, ...]
    each: Mapping[str, Any] = field(default_factory=dict)
    pool: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)
    checkpoint: Literal["best", "last"] = "best"
    cases: str | None = None


@dataclass(frozen=True)
class RowPlan:
    """Rows of a table.

    Attributes:
        label: What the row is called.
        run: The pattern of the runs whose scores it shows; None shows published numbers only.
        each: Variable to a list, for every combination of which there is a row.
        pool: Variable to a list: the runs of all combinations are taken together (folds, splits).
        facts: Some of `FACTS`.
        published: Columns of published.csv to the value, or a list of values, of the rows next to which it is set; the
            plan's and the table's are added. None where the row has none.
        reference: Of a table of differences: the pattern of the runs from which the row's differ.
        series: Of a figure against a number: which line the row is a point of.
        at: The number, e.g. "{n}".
    """

    label: str
    run: str | None = None
    each: Mapping[str, Any] = field(default_factory=dict)
    pool: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Any] | None = None
    reference: str | None = None
    series: str | None = None
    at: str | None = None


@dataclass(frozen=True)
class TablePlan:
    """A table or a figure.

    Attributes:
        name: As `--tables` takes it.
        title: Its heading.
        rows: In order.
        form: "lines", "heat_map" (models by what they are scored on), "patients" (a column for each patient), "curves"
            (by epoch), "differences" (each row's from its reference's, over the same patients) or "against" (a line for
            each series over its rows' numbers).
        metrics: Columns of the score tables.
        regions: By default the whole tumour, or where the runs do not score it their first; "all" of them.
        statistics: "mean", and "median", or "sd" of the seeds' means, where these are shown too.
        against: Of that form: what the number is, for the axis.
        cost: Whether the minutes of training and the seconds for each volume that was predicted are shown.
        learning: A column of metrics.csv. Adds the best epoch, the last three epochs and the minutes of the runs; of
            curves, how the names of the columns begin that are drawn.
        published: As of a row.
    """

    name: str
    title: str
    rows: tuple[RowPlan, ...]
    form: Form = "lines"
    metrics: tuple[str, ...] = ("dice", "precision", "sensitivity")
    regions: tuple[str, ...] | Literal["all"] | None = None
    statistics: tuple[Literal["mean", "median", "sd"], ...] = ("mean",)
    against: str = ""
    cost: bool = False
    learning: str | None = None
    published: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClaimPlan:
    """One row's Dice is said to be higher than another's.

    Attributes:
        text: What is said.
        better: Pattern of the runs that are said to be better; of several, the first that a row of the tables shows.
        worse: The same of the other.
        each: Variable to a list, for every combination of which there is a claim.
        pool: As of a row.
        group: Claims of one group are one claim, which holds when all do; "" is a claim of its own.
    """

    text: str
    better: tuple[str, ...]
    worse: tuple[str, ...]
    each: Mapping[str, Any] = field(default_factory=dict)
    pool: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True)
class Ensemble:
    """The runs whose models can decide together once all have finished, for `segan_pl predict`."""

    run: str
    pool: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A whole file.

    Attributes:
        name: The file's stem.
        title: Of the report.
        runs: Name to pattern.
        tables: Name to table, in order.
        about: Sentences of the report on how the numbers came about.
        modalities: Those that the lists name; one that the data lack leaves every list. Empty: those of the data.
        least_modalities: With fewer the plan is refused.
        split: "one" for all runs, "folds" (`values` has their number), "named" by `parts`, or "none": the runs name
            their own.
        parts: Of a named split: "train", "unlabelled" and "test" to lists of cases, or to the values that hold them. No
            run that trains is told of the test cases.
        seeds: Every run is made once for each, unless `--seeds` says others.
        published: As of a row.
        values: Lists, words and mappings that placeholders name; `--set` changes them.
        claims: Of the paper.
        ensemble: Where there is one.
    """

    name: str
    title: str
    runs: Mapping[str, RunPlan]
    tables: Mapping[str, TablePlan]
    about: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    least_modalities: int = 1
    split: SplitKind = "one"
    parts: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    published: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[ClaimPlan, ...] = ()
    ensemble: Ensemble | None = None


def shipped_plans() -> dict[str, Path]:
    """Name to file of the plans that travel with the package."""
    return {path.stem: path for path in sorted((shipped_folder("configs") / "experiments").glob("*.yaml"))}


def read_plan(name: str) -> Plan:
    """The plan that a name means: a path to a file, which wins, or the stem of a shipped one.

    Raises:
        UsageError: There is no such file, or something in it is not understood; with the nearest match.
    """
    path, shipped = Path(name).expanduser(), shipped_plans()
    if not path.is_file():
        if name.removesuffix(".yaml") not in shipped:
            raise UsageError(f"experiment {name}: no such file, and no shipped plan; {nearest(name, shipped)}")
        path = shipped[name.removesuffix(".yaml")]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    where = str(path)
    content = mapping(content, where)
    for key in ("runs", "tables"):
        if not mapping(content.get(key) or {}, f"{where}: {key}"):
            raise UsageError(f"{where}: {key} is missing")
    runs = {str(name): _run(f"{where}: run {name}", str(name), one) for name, one in content["runs"].items()}
    tables = {str(name): _table(f"{where}: table {name}", str(name), one) for name, one in content["tables"].items()}
    plan = part(Plan, where, {**content, "name": path.stem, "runs": runs, "tables": tables})
    require_table_names({name: table.form in DRAWN for name, table in tables.items()}, where)
    _require_columns(f"{where}: published", plan.published)
    if not plan.seeds or min(plan.seeds) < 0 or len(set(plan.seeds)) < len(plan.seeds):
        raise UsageError(f"{where}: seeds {[*plan.seeds]}: expected whole numbers from 0, each once, e.g. [0, 1, 2]")
    for name, value in plan.values.items():
        if name in GIVEN:
            raise UsageError(f"{where}: values: {name}: the data or the run say it; choose another name")
        if value in ([], {}):
            raise UsageError(f"{where}: values: {name}: is empty; expected at least one")
    if plan.split == "folds" and not isinstance(plan.values.get("folds"), int):
        raise UsageError(f"{where}: split folds: expected their number as values.folds")
    for name in plan.parts:
        require_choice(f"{where}: parts", name, PARTS)
    if (plan.split == "named") != bool(plan.parts) or (plan.parts and not {"train", "test"} <= plan.parts.keys()):
        raise UsageError(
            f"{where}: split {plan.split}: expected parts, train and test among them, for split named alone"
        )
    return plan


def _run(where: str, name: str, content: Any) -> RunPlan:
    content = dict(mapping(content, where))
    kinds = [kind for kind in get_args(Kind) if kind in content]
    if len(kinds) != 1:
        raise UsageError(f"{where}: expected one of {', '.join(get_args(Kind))}; found {', '.join(kinds) or 'none'}")
    of = content.pop(kinds[0])
    run = part(RunPlan, where, {**content, "name": name, "kind": kinds[0], "of": of})
    if not run.of or (run.kind != "fit" and len(run.of) > 1):
        words: dict[str, str] = {"fit": "configuration files", "atlas": "its method"}
        expected = words.get(run.kind, "the name of one pattern of runs")
        raise UsageError(f"{where}: {run.kind}: expected {expected}, found {', '.join(run.of) or 'none'}")
    return run


def _table(where: str, name: str, content: Any) -> TablePlan:
    table = part(TablePlan, where, {**mapping(content, where), "name": name})
    for number, row in enumerate(table.rows, 1):
        for fact in row.facts:
            require_choice(f"{where}: row {number}: facts", fact, FACTS)
        _require_columns(f"{where}: row {number}: published", row.published or {})
        if lacking := [fact for fact in FACTS[1:3] if table.form == "heat_map" and fact not in row.facts]:
            raise UsageError(
                f"{where}: row {number}: a heat_map is of trained_on and tested_on; add facts.{lacking[0]}"
            )
        needed = {"differences": ("run", "reference"), "against": ("run", "series", "at")}.get(table.form, ())
        if without := [name for name in needed if getattr(row, name) is None]:
            raise UsageError(f"{where}: row {number}: a table of {table.form} needs {without[0]} in each row")
    _require_columns(f"{where}: published", table.published)
    if table.form == "heat_map" and "dice" not in table.metrics:
        raise UsageError(f"{where}: a heat_map shows Dice; expected dice among its metrics")
    if table.form == "curves" and table.learning is None:
        raise UsageError(f"{where}: curves: expected the column of metrics.csv as learning, e.g. val/dice_wt")
    return table


def _require_columns(where: str, selection: Mapping[str, Any]) -> None:
    for column in selection:
        if column not in COLUMNS:
            raise UsageError(f"{where}: {column}: no column of published.csv; {nearest(column, COLUMNS)}")
