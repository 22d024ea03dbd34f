"""The report of a plan: its tables, figures and claims as Markdown, CSV files, and a page that needs nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from segan_pl.data.case import CaseError
from segan_pl.experiments.plan.cell import Expansion
from segan_pl.experiments.plan.cells import Point, Result, results
from segan_pl.experiments.plan.claims import Finding, findings, lines
from segan_pl.experiments.plan.comparisons import (
    DIFFERENCES,
    REACHED,
    difference_rows,
    holm_note,
    reached,
    reached_rows,
)
from segan_pl.experiments.plan.drawings import against, bands
from segan_pl.experiments.plan.page_tables import WORDS, case_rows, matrix, panels, rows, table_texts
from segan_pl.experiments.plan.plan import TablePlan
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.runs import best_checkpoint, is_finished, run_folder
from segan_pl.files import csv_text
from segan_pl.report.figures import Drawn, as_png, as_svg
from segan_pl.report.page import page as filled_in


@dataclass(frozen=True)
class Page:
    """What is written of a study.

    Attributes:
        study: What was asked for.
        expansion: Its runs and cells.
        results: One for each cell, in the tables' order.
        findings: The claims, tested.
        notes: On the data and their split.
        facts: How the numbers came about.
    """

    study: Study
    expansion: Expansion
    results: Sequence[Result]
    findings: Sequence[Finding]
    notes: Sequence[str]
    facts: Sequence[str]

    def of(self, table: TablePlan) -> list[Result]:
        """A table's results."""
        return [one for one in self.results if one.cell.table == table.name]

    @cached_property
    def tables(self) -> list[TablePlan]:
        """Those that have cells."""
        return [table for table in self.study.shown if self.of(table)]

    @cached_property
    def drawn(self) -> dict[str, Drawn]:
        """Table to its figure."""
        out = {}
        for table in self.tables:
            found, title = self.of(table), self.study.text(table.title)
            if table.form == "heat_map":
                out[table.name] = Drawn(table.name, matrix(found), title)
            elif table.form == "curves":
                out[table.name] = Drawn(table.name, bands(panels(table, found, self.study.directory)), title)
            elif table.form == "against":
                figure = against(reached(table, found), table.against, WORDS.get(table.metrics[0], table.metrics[0]))
                out[table.name] = Drawn(table.name, figure, title)
        return out

    @cached_property
    def shown(self) -> dict[str, object]:
        """What the templates experiment.html and experiment.md name."""
        directory = self.study.directory
        return {
            "title": f"segan_pl experiment: {self.study.plan.title}",
            "heading": self.study.plan.title,
            "plan": self.study.plan.name,
            "facts": self.facts,
            "notes": self.notes,
            "claims": lines(self.findings),
            "tables": [
                (self.study.text(table.title), table.name, table_texts(table, self.of(table), directory))
                for table in self.tables
            ],
            "drawn": self.drawn,
            "unfinished": self.unfinished,
            "ensemble": predict_line(self.ensemble) if self.ensemble else "",
        }

    @cached_property
    def unfinished(self) -> list[str]:
        """Every run of a row that has no scores, and why."""
        out = []
        for one in self.results:
            for name, state in one.states.items():
                if state != "finished":
                    reason = one.reasons.get(name, "")
                    why = f" (needs {reason})" if reason and state == "skipped" else f" ({reason})" if reason else ""
                    out.append(f"{one.cell.table}: {one.cell.label}, {name}: {state}{why}")
        return out

    @cached_property
    def ensemble(self) -> list[str]:
        """The checkpoints whose models can decide together; none until every one of them has finished."""
        names, directory = [name for names in self.expansion.ensemble.values() for name in names], self.study.directory
        if not all(is_finished(directory, one) for one in names):
            return []
        try:
            return [str(best_checkpoint(run_folder(directory, one))) for one in names]
        except CaseError:  # a checkpoint was taken away: the tables are written all the same
            return []


def read_page(study: Study, expansion: Expansion, notes: Sequence[str], facts: Sequence[str]) -> Page:
    """Read what has finished.

    Raises:
        CaseError: A table of scores is damaged.
    """
    found = results(study.directory, expansion.cells, study.plan.tables)
    patients = max((mean.patients for one in found for mean in one.means.values()), default=0)
    means = (
        f"Means over cases, each averaged over the seeds; in brackets 95 % bootstrap intervals over patients (at most "
        f"{patients}); differences between seeds are not in the intervals."
    )
    about = [study.text(sentence) for sentence in study.plan.about]
    printed = any(cell.published for cell in expansion.cells)
    theirs = ["The papers' numbers are of other data, never of these."] if printed else []
    said = [
        holm_note(table, [one for one in found if one.cell.table == table.name])
        for table in study.shown
        if table.form == "differences"
    ]
    every = [*facts, *about, means, *theirs, *filter(None, said)]
    return Page(study, expansion, found, findings(expansion.claims, found), notes, every)


def files(page: Page) -> dict[str, bytes | str]:
    """Every file of the report: name to content."""
    plan = page.study.plan
    out: dict[str, bytes | str] = {
        "report.md": filled_in("experiment.md", **page.shown),
        "tables.csv": csv_text(rows(page.results, plan.tables)),
        "index.html": filled_in("experiment.html", **page.shown),
    }
    for name, drawn in page.drawn.items():
        out |= {f"{name}.svg": as_svg(drawn.figure), f"{name}.png": as_png(drawn.figure)}
    for table in (one for one in page.tables if one.form == "curves"):
        points = [
            {"value": value, "row": name, **point._asdict()}
            for value, series in panels(table, page.of(table), page.study.directory).items()
            for name, series_points in series.items()
            for point in series_points
        ]
        out[f"{table.name}.csv"] = csv_text(points, ["value", "row", *Point._fields])
    for table in page.tables:
        if table.form == "differences":
            out[f"{table.name}.csv"] = csv_text(difference_rows(table, page.of(table)), DIFFERENCES)
        elif table.form == "against":
            out[f"{table.name}.csv"] = csv_text(reached_rows(table, page.of(table)), REACHED)
    if plan.split == "folds":
        metrics = list(dict.fromkeys(metric for table in page.tables for metric in table.metrics))
        out["pooled.csv"] = csv_text(case_rows(page.results, metrics), ["run", "case", "patient", "region", *metrics])
    if page.ensemble:
        facts = {"checkpoints": page.ensemble, "combine": "mean"}
        out |= {"ensemble.json": json.dumps(facts, indent=1) + "\n", "ensemble.txt": predict_line(page.ensemble) + "\n"}
    return out


def predict_line(checkpoints: Sequence[str]) -> str:
    """The command that lets several models decide together."""
    return shlex.join(["segan_pl", "predict", "--ckpt_path", *checkpoints, "--root", "CASES", "--output", "MASKS"])
