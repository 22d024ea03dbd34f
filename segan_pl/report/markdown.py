"""The report's tables as Markdown, for a paper's draft or an issue."""

from __future__ import annotations

from segan_pl.report.content import Report, origins, score_table


def markdown(report: Report) -> str:
    """Where the scores come from, and the table of scores."""
    columns, rows = score_table(report)
    lines = [*origins(report), "", *_table(columns, rows)] if report.scored else ["No run has scores of cases."]
    return "\n".join([f"# {', '.join(run.name for run in report.runs)}", "", *lines, *report.notes]) + "\n"


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), line(["---"] * len(columns)), *map(line, rows)]
