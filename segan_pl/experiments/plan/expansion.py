"""What a plan is on some data: its runs, each after those that it needs, and the cells of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.experiments.plan.placeholders import LeftOutError, Names, combinations, text
from segan_pl.experiments.plan.plan import ClaimPlan, Plan, RowPlan, TablePlan
from segan_pl.experiments.plan.plan_runs import PlanRuns, lasting
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.runs import Run
from segan_pl.report.published import Key, numbers_of, selected


@dataclass(frozen=True)
class Cell:
    """A row of a table: which runs it shows, and next to which published numbers.

    Attributes:
        table: Its name.
        label: What the row is called.
        names: Its runs without their seeds; several where they are pooled; none where only others' numbers are shown.
        facts: What tells it apart, in the words of published.csv.
        runs: Seed to the runs that hold the scores.
        fits: Seed to the runs that were trained for them, where the plan names these.
        printed: The rows of published.csv next to which it is set.
    """

    table: str
    label: str
    names: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    fits: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    printed: tuple[Mapping[str, str], ...] = ()

    @cached_property
    def published(self) -> Mapping[Key, float]:
        """The papers' numbers."""
        return numbers_of(self.printed)


@dataclass(frozen=True)
class Claim:
    """One cell is said to have a higher Dice than another; claims of one group hold when all do."""

    text: str
    better: Cell
    worse: Cell
    group: str = ""


@dataclass(frozen=True)
class Expansion:
    """A plan on some data.

    Attributes:
        runs: Each after those that it needs.
        cells: In the tables' order.
        claims: Between cells.
        ensemble: Seed to the runs whose models decide together.
        notes: What is left out, and why.
    """

    runs: tuple[Run, ...]
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]
    ensemble: Mapping[int, tuple[str, ...]]
    notes: tuple[str, ...]


def expand(study: Study) -> Expansion:
    """All runs and cells of a plan.

    Raises:
        UsageError: The plan names something that it does not have, or the data cannot fill what is asked for.
    """
    plan, there = study.plan, [one for one in study.modalities if one in study.plan.modalities]
    others = [one for one in study.modalities if one not in there]
    if plan.modalities and others:
        raise UsageError(
            f"{plan.name}: its tables are of {', '.join(plan.modalities)}; leave {', '.join(others)} out with "
            f"--data.modalities"
        )
    if plan.modalities and len(there) < plan.least_modalities:
        raise UsageError(
            f"{plan.name}: the data have {', '.join(there) or 'no modality'} alone; it compares modalities and needs "
            f"at least {plan.least_modalities}"
        )
    return _Expansion(study).expanded()


def require_consistent(plan: Plan) -> None:
    """Expand a plan as if the data had everything, so that a wrong name is found before any run.

    Raises:
        UsageError: Something names a run, a list or a value that is not there.
    """
    given = {name: "given" if value is None else value for name, value in plan.values.items()}
    whole = Study(replace(plan, values=given), Path("/study"), "/data", plan.modalities or ("t1", "flair"), ())
    found = _Expansion(whole, strict=True)
    for pattern in plan.runs.values():
        for variables in combinations(pattern.each, whole.names, pattern.name):
            found.runs.run(text(pattern.name, {**whole.names, **variables}), 0)
    found.expanded()


def first_files(plan: Plan) -> list[str]:
    """The configuration files of a plan's first training: its options of the data are those of the study.

    Raises:
        UsageError: The plan has no training.
    """
    for pattern in plan.runs.values():
        if pattern.kind == "fit":
            names = {"modalities": list(plan.modalities), **plan.values}
            first = {**names, **combinations(pattern.each, names, pattern.name)[0]}
            return [lasting(text(file, first)) for file in pattern.of]
    raise UsageError(f"{plan.name}: trains nothing; expected a run of the kind fit")


class _Expansion:
    """Tables and claims, which ask for the runs that they show."""

    def __init__(self, study: Study, *, strict: bool = False) -> None:
        self.study = study
        self.strict = strict
        self.runs = PlanRuns(study, strict=strict)

    def expanded(self) -> Expansion:
        study, cells, notes = self.study, [], []
        if study.lacking:
            notes.append(f"the data have no {', '.join(study.lacking)}: the rows that need it are left out")
        for table in study.shown:
            found, reasons = self._cells(table)
            if not any(cell.names for cell in found):
                why = next(iter(reasons.values()), f"the data have no {', '.join(study.lacking)}")
                if study.tables is not None:
                    raise UsageError(f"--tables {table.name}: {why}; leave {table.name} out of --tables")
                notes.append(f"table {table.name} is left out: {why}")
                continue
            cells += found
            notes += [f"table {table.name} has no {label}: {why}" for label, why in reasons.items()]
        claims = [claim for one in study.plan.claims for claim in self._claims(one, cells)]
        ensemble = {}
        if study.plan.ensemble:
            asked = RowPlan("", study.plan.ensemble.run, pool=study.plan.ensemble.pool)
            ensemble = {seed: self._together(asked, study.names, seed)[1] for seed in study.seeds}
        return Expansion(tuple(self.runs.runs.values()), tuple(cells), tuple(claims), ensemble, tuple(notes))

    # -- cells

    def _cells(self, table: TablePlan) -> tuple[list[Cell], dict[str, str]]:
        """A table's cells, and the label of each that is left out to why."""
        found, reasons = [], {}
        for row in table.rows:
            for variables in combinations(row.each, self.study.names, f"table {table.name}"):
                names: Names = {**self.study.names, **variables}
                before = dict(self.runs.runs)
                label = text(row.label, names)
                try:
                    found.append(self._cell(table, row, label, names))
                except LeftOutError as why:
                    self.runs.runs = before
                    reasons[label] = str(why)
        return found, reasons

    def _cell(self, table: TablePlan, row: RowPlan, label: str, names: Names) -> Cell:
        facts = {key: text(value, names) for key, value in row.facts.items()}
        printed: tuple[Mapping[str, str], ...] = ()
        if row.published is not None:
            selection = {**self.study.plan.published, **table.published, **row.published}
            printed = selected(
                {
                    key: [text(str(one), names) for one in (value if isinstance(value, list) else [value])]
                    for key, value in selection.items()
                }
            )
        if row.run is None:
            return Cell(table.name, label, facts=facts, printed=printed)
        unseeded: tuple[str, ...] = ()
        runs, fits = {}, {}
        for seed in self.study.seeds:
            unseeded, fits[seed] = self._together(row, names, seed)
            scored = [self.runs.tests.get(one, one) for one in unseeded] if table.form != "curves" else unseeded
            runs[seed] = tuple(self.runs.run(one, seed) for one in scored)
        trained = all(self.runs.patterns[one][0].kind == "fit" for one in unseeded)
        return Cell(table.name, label, unseeded, facts, runs, fits if trained else {}, printed)

    def _together(self, row: RowPlan, names: Names, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of a row's runs without the seed, and with it."""
        pooled = combinations(row.pool, names, f"run {row.run}")
        unseeded = tuple(text(row.run or "", {**names, **variables}) for variables in pooled)
        return unseeded, tuple(self.runs.run(name, seed) for name in unseeded)

    def _claims(self, plan: ClaimPlan, cells: Sequence[Cell]) -> list[Claim]:
        """Those whose both sides are cells of the tables."""
        known = {cell.names: cell for cell in reversed(cells) if cell.names}
        found = []
        for variables in combinations(plan.each, self.study.names, "a claim"):
            names = {**self.study.names, **variables}
            sides = [self._side(patterns, plan, names, known) for patterns in (plan.better, plan.worse)]
            if sides[0] and sides[1]:
                found.append(Claim(text(plan.text, names), sides[0], sides[1], plan.group))
        return found

    def _side(
        self, patterns: Sequence[str], plan: ClaimPlan, names: Names, known: Mapping[tuple[str, ...], Cell]
    ) -> Cell | None:
        for pattern in patterns:
            pooled = combinations(plan.pool, names, "a claim")
            asked = tuple(text(pattern, {**names, **variables}) for variables in pooled)
            if self.strict:
                for name in asked:
                    self.runs.pattern(name)
            if asked in known:
                return known[asked]
        return None
