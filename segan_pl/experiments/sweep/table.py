"""A sweep's results: one row for each trial, the best first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segan_pl.evaluation.saved_files import metrics_rows
from segan_pl.experiments.runs import Run, run_folder, run_state
from segan_pl.experiments.study_files import study_output
from segan_pl.experiments.sweep.file import Goal, SweepFile
from segan_pl.files import csv_text


@dataclass(frozen=True)
class Score:
    """The best of a run.

    Attributes:
        value: Of the metric.
        epoch: In which it was reached; the first such.
        epochs: That the run has recorded.
    """

    value: float
    epoch: int
    epochs: int


@dataclass(frozen=True)
class Row:
    """A trial's line.

    Attributes:
        trial: Its name.
        state: "finished", "failed", "skipped", or "not run".
        values: Of the parameters.
        score: Of a finished trial whose run has recorded the metric.
        seconds: That it took; None where it has not ended.
        error: What it said last.
    """

    trial: str
    state: str
    values: dict[str, Any]
    score: Score | None
    seconds: float | None
    error: str


def best_score(run: Path, metric: str, goal: Goal) -> Score | None:
    """The best value of a column of metrics.csv; None where it has no finite value."""
    rows = metrics_rows(run / "metrics.csv")
    found = [(float(row[metric]), int(row["epoch"])) for row in rows if row.get(metric)]
    found = [(value, epoch) for value, epoch in found if math.isfinite(value)]
    if not found:
        return None
    sign = -1 if goal == "maximize" else 1
    value, epoch = min(found, key=lambda one: (sign * one[0], one[1]))
    return Score(value, epoch, len({row["epoch"] for row in rows}))


def table(sweep: SweepFile, trials: Sequence[Run], directory: Path) -> list[Row]:
    """All trials, the best score first, those without one last in their order."""
    rows = []
    for trial in trials:
        state = run_state(directory, trial.name) or {}
        name, error = str(state.get("state", "not run")), str(state.get("error") or "")
        score = best_score(run_folder(directory, trial.name), sweep.metric, sweep.goal) if name == "finished" else None
        if name == "finished" and score is None:
            error = f"no finite {sweep.metric} in metrics.csv"
        rows.append(Row(trial.name, name, dict(trial.values), score, state.get("seconds"), error))
    sign = -1 if sweep.goal == "maximize" else 1
    return sorted(rows, key=lambda row: (row.score is None, sign * row.score.value if row.score else 0.0, row.trial))


def cells(sweep: SweepFile, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Columns and text; a parameter with one value for all trials has no column."""
    names = [one.name for one in sweep.parameters if not one.is_constant]
    last = [name.rpartition(".")[2] for name in names]
    short = [word if last.count(word) == 1 else name for word, name in zip(last, names, strict=True)]
    columns = ["trial", *short, sweep.metric, "best epoch", "epochs", "state", "error"]
    lines = []
    for row in rows:
        score = row.score
        numbers = [f"{score.value:.4f}", str(score.epoch), str(score.epochs)] if score else ["", "", ""]
        values = [_text(row.values.get(name)) for name in names]
        lines.append([row.trial.partition("_")[0], *values, *numbers, row.state, row.error])
    return columns, lines


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def text(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table for the screen; an empty last column is left out."""
    if not any(line[-1] for line in lines):
        columns, lines = columns[:-1], [line[:-1] for line in lines]
    widths = [max(len(line[number]) for line in [columns, *lines]) for number in range(len(columns))]
    joined = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [columns, *lines]
    ]
    return "\n".join(line.rstrip() for line in joined)


def write(sweep: SweepFile, rows: Sequence[Row], directory: Path, notes: Sequence[str] = ()) -> list[Path]:
    """Write results.csv, exact, and results.md."""
    names = [one.name for one in sweep.parameters]
    columns = ["trial", "state", *names, sweep.metric, "best_epoch", "epochs", "seconds", "error"]
    lines = []
    for row in rows:
        score = row.score
        numbers = [score.value, score.epoch, score.epochs] if score else ["", "", ""]
        values = [row.trial, row.state, *(row.values.get(name) for name in names), *numbers, row.seconds, row.error]
        lines.append(dict(zip(columns, values, strict=True)))
    finished = sum(row.state == "finished" for row in rows)
    head = [f"# {sweep.path.stem}", "", sweep.question, ""]
    head += [f"{sweep.method}, {sweep.goal} {sweep.metric}; {finished} of {len(rows)} trials have finished.", ""]
    titles, shown = cells(sweep, rows)
    body = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in line] for line in shown)]
    out = [*head, *(f"| {' | '.join(line)} |" for line in body), *(f"\n{note}." for note in notes)]
    texts = {"results.csv": csv_text(lines, columns), "results.md": "\n".join(out) + "\n"}
    return [study_output(directory, name).write(text) for name, text in texts.items()]
