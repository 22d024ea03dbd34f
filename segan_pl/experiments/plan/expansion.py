"""What a plan is on some data: its runs, each after those that it needs, and the cells of its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from segan_pl.errors import UsageError, nearest, own_packages
from segan_pl.experiments.plan.cell import Cell, Claim, Expansion
from segan_pl.experiments.plan.placeholders import UNKNOWN, LeftOutError, Names, combinations, text
from segan_pl.experiments.plan.plan import ClaimPlan, Kind, Plan, RowPlan, TablePlan
from segan_pl.experiments.plan.plan_runs import PlanRuns, lasting
from segan_pl.experiments.plan.study import Study
from segan_pl.report.published import selected

Made = TypeVar("Made")


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
        UsageError: Something names a run, a list, a metric or a value that is not there, or a run of the wrong kind.
    """
    from segan_pl.evaluation.metrics.named import ALIASES, BUILT_IN, DEFINED  # loads SciPy, which --help does without

    for table in plan.tables.values():
        for metric in table.metrics:
            column = ALIASES.get(metric) or (DEFINED[metric].name if metric in DEFINED else "")
            # a metric of one's own needs its package in SEGAN_PL_ALLOW_IMPORTS
            if metric not in BUILT_IN and (column or not own_packages()):
                known = f"its column is {column}" if column else nearest(metric, BUILT_IN)
                raise UsageError(f"{plan.name}: table {table.name}: metrics: {metric}: no column of scores; {known}")
    whole = _with_everything(plan)
    for sentence in (*plan.about, *(table.title for table in plan.tables.values())):
        whole.text(sentence)
    found = _Expansion(whole, strict=True)
    for name in found.runs.patterns:
        found.runs.run(name, 0)
    found.expanded()


def _with_everything(plan: Plan) -> Study:
    """A plan on data that have all it names."""
    given = {name: UNKNOWN if value is None else value for name, value in plan.values.items()}
    return Study(replace(plan, values=given), Path("/study"), "/data", plan.modalities or ("t1", "flair"), ())


def first_files(plan: Plan) -> list[str]:
    """The configuration files of a plan's first training: its options of the data are those of the study.

    Raises:
        UsageError: The plan has no training, or none whose files are known.
    """
    names = {**_with_everything(plan).names, **plan.values}
    why = "trains nothing; expected a run of the kind fit"
    for pattern in (one for one in plan.runs.values() if one.kind == "fit"):
        try:
            for variables in combinations(pattern.each, names, f"{plan.name}: run {pattern.name}"):
                return [lasting(text(file, {**names, **variables})) for file in pattern.of]
            why = f"run {pattern.name}: of {', '.join(map(str, pattern.each.values()))} one is empty"
        except LeftOutError as lacking:
            why = f"run {pattern.name}: {lacking}"
    raise UsageError(f"{plan.name}: {why}")


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
                lacking = f"the data have no {', '.join(study.lacking)}" if study.lacking else "no row shows a run"
                why = next(iter(reasons.values()), lacking)
                if self.strict:
                    raise UsageError(f"{study.plan.name}: table {table.name}: {why}")
                if study.tables is not None:
                    raise UsageError(f"--tables {table.name}: {why}; leave {table.name} out of --tables")
                notes.append(f"table {table.name} is left out: {why}")
                continue
            cells += found
            notes += [f"table {table.name} has no {label}: {why}" for label, why in reasons.items()]
        if not cells:
            raise UsageError(f"{study.plan.name}: nothing is left to run: {'; '.join(notes)}")
        tables = study.plan.tables
        known = {cell.names: cell for cell in reversed(cells) if cell.names and tables[cell.table].form != "curves"}
        claims: list[Claim] = []
        gone: dict[str, str] = {}
        for plan in study.plan.claims:
            made, why_gone = self._every(plan.each, plan.text, partial(self._claim, plan, known))
            claims, gone = [*claims, *made], gone | why_gone
        if gone:
            notes.append(f"claims are left out: {'; '.join(f'{said} ({why})' for said, why in gone.items())}")
        ensembles: list[dict[int, tuple[str, ...]]] = []
        if one := study.plan.ensemble:
            asked = RowPlan("the ensemble", one.run, pool=one.pool)
            ensembles, why_not = self._every({}, asked.label, partial(self._voters, asked))
            notes += [f"{label} is left out: {why}" for label, why in why_not.items()]
        together = next(iter(ensembles), {})
        return Expansion(tuple(self.runs.runs.values()), tuple(cells), tuple(claims), together, tuple(notes))

    def _every(
        self, each: Mapping[str, object], label: str, make: Callable[[str, Names], Made]
    ) -> tuple[list[Made], dict[str, str]]:
        """What is made of every combination, and the label of each that is left out, with its runs, to why."""
        found, reasons = [], {}
        try:
            every = combinations(each, self.study.names, label)
        except LeftOutError as why:
            return [], {label: str(why)}
        for variables in every:
            names: Names = {**self.study.names, **variables}
            before, shown = dict(self.runs.runs), label
            try:
                shown = text(label, names)
                found.append(make(shown, names))
            except LeftOutError as why:
                self.runs.runs = before
                reasons[shown] = str(why)
        return found, reasons

    # -- cells

    def _cells(self, table: TablePlan) -> tuple[list[Cell], dict[str, str]]:
        """A table's cells, and the label of each that is left out to why."""
        found: dict[str, Cell] = {}
        reasons: dict[str, str] = {}
        for row in table.rows:
            cells, why = self._every(row.each, row.label, partial(self._cell, table, row))
            reasons |= why
            for cell in cells:
                if cell.label in found:
                    raise UsageError(
                        f"{self.study.plan.name}: table {table.name} has two rows {cell.label!r}; expected labels that "
                        f"tell them apart, with every variable of each"
                    )
                found[cell.label] = cell
        return list(found.values()), reasons

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
        kinds: Sequence[Kind] = ("fit",) if table.form == "curves" else ("fit", "test", "evaluate")
        unseeded: tuple[str, ...] = ()
        runs, fits = {}, {}
        for seed in self.study.seeds:
            unseeded, fits[seed] = self._together(row, names, seed, kinds)
            scored = [self.runs.tests.get(one, one) for one in unseeded] if table.form != "curves" else unseeded
            runs[seed] = tuple(self.runs.run(one, seed) for one in scored)
        trained = all(self.runs.patterns[one][0].kind == "fit" for one in unseeded)
        reference = {}
        if row.reference is not None:
            asked = replace(row, run=row.reference)
            reference = {seed: self._together(asked, names, seed, kinds)[1] for seed in self.study.seeds}
        series = None
        if row.series is not None and row.at is not None:
            series = (text(row.series, names), self._number(table, text(row.at, names)))
        needed = self.runs.needed_by(name for seeded in runs.values() for name in seeded)
        fits = fits if trained else {}
        return Cell(table.name, label, unseeded, facts, runs, fits, printed, reference, series, needed)

    def _number(self, table: TablePlan, said: str) -> float:
        try:
            return math.nan if said == UNKNOWN else float(said)
        except ValueError:
            where = f"{self.study.plan.name}: table {table.name}"
            raise UsageError(f"{where}: at: expected a number, found {said}") from None

    def _together(
        self, row: RowPlan, names: Names, seed: int, kinds: Sequence[Kind]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of a row's runs without the seed, and with it."""
        pooled = combinations(row.pool, names, f"run {row.run}")
        unseeded = tuple(text(row.run or "", {**names, **variables}) for variables in pooled)
        return unseeded, tuple(self.runs.run(name, seed, kinds) for name in unseeded)

    def _voters(self, row: RowPlan, _: str, names: Names) -> dict[int, tuple[str, ...]]:
        return {seed: self._together(row, names, seed, ("fit",))[1] for seed in self.study.seeds}

    # -- claims

    def _claim(self, plan: ClaimPlan, known: Mapping[tuple[str, ...], Cell], said: str, names: Names) -> Claim:
        pooled = [{**names, **variables} for variables in combinations(plan.pool, names, said)]
        sides = []
        for patterns in (plan.better, plan.worse):
            asked = [tuple(text(pattern, one) for one in pooled) for pattern in patterns]
            if self.strict:
                for name in (name for side in asked for name in side):
                    self.runs.pattern(name)
            cell = next((known[side] for side in asked if side in known), None)
            if cell is None:
                why = f"no row of scores shows {' or '.join('+'.join(side) for side in asked)}"
                raise UsageError(f"{self.study.plan.name}: claim {said}: {why}") if self.strict else LeftOutError(why)
            sides.append(cell)
        return Claim(said, sides[0], sides[1], plan.group)
