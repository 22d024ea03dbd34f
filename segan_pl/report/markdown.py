"""The report's tables as Markdown, for a paper's draft or an issue."""

from __future__ import annotations

from collections.abc import Sequence

from segan_pl.evaluation.comparison_tables import escaped
from segan_pl.report.content import (
    FAILURES,
    NOT_THE_SAME,
    PUBLISHED,
    Report,
    differences,
    failure_rows,
    origins,
    published_rows,
    score_table,
)
from segan_pl.report.subsets import COLUMNS, subset_origins, subset_rows


def markdown(report: Report) -> str:
    """Where the scores come from, and the tables of the page but for every case and the runs' whole configurations."""
    columns, rows = score_table(report)
    lines = [*_lines(origins(report)), "", *_table(columns, rows)] if report.scored else ["No run has scores of cases."]
    if published := published_rows(report):
        lines += ["", "## Beside the published numbers", "", NOT_THE_SAME, "", *_table(PUBLISHED, published)]
    if subsets := subset_rows(report.runs):
        origin = _lines(subset_origins(report.runs))
        lines += ["", "## Subsets of the modalities", "", *origin, "", *_table(COLUMNS, subsets)]
    if failures := failure_rows(report):
        lines += ["", "## Failures and empty masks", "", *_table(FAILURES, failures)]
    settings, differing = differences(report.runs)
    if differing:
        lines += ["", "## Settings in which the runs differ", "", *_table(settings, differing)]
    notes = ["", *_lines(report.notes)] if report.notes else []
    return "\n".join([f"# {', '.join(escaped(run.name) for run in report.runs)}", "", *lines, *notes]) + "\n"


def _lines(texts: Sequence[str]) -> list[str]:
    """A list, so that each stands on a line of its own."""
    return [f"- {escaped(text)}" for text in texts]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(' '.join(escaped(cell).split()) for cell in cells)} |"

    return [line(columns), line(["---"] * len(columns)), *map(line, rows)]
