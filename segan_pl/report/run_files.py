"""What a run left in its folder, read for the report; no tensor."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segan_pl.errors import UsageError
from segan_pl.evaluation.kept import best_kept
from segan_pl.evaluation.saved_files import csv_rows, json_file, mapping, metrics_rows, yaml_file
from segan_pl.evaluation.statistics.run_tables import holds_scores, home_of
from segan_pl.evaluation.statistics.scored_runs import ScoredRun, read_run
from segan_pl.evaluation.statistics.seeds import parse_run

# As `segan_pl predict` calls its table, or a part of it.
PREDICTIONS = re.compile(r"predictions(_\d+of\d+)?\.csv")


@dataclass(frozen=True)
class RunFiles:
    """One run, or one evaluation.

    Attributes:
        name: As the page calls it.
        folder: As given.
        home: Of the run's files, which lies around the folder of an evaluation in it; else the folder.
        config: config.yaml, or empty.
        environment: environment.json, or empty.
        commands: Lines of command.txt.
        split: split.json, or empty.
        cases: Rows of cases.csv.
        epochs: Rows of metrics.csv, oldest first: each epoch's, and before it those of validations within it.
        scored: Per-case scores; None where the folder holds none.
        summary: summary.json of an evaluation, or empty.
        predictions: Rows of what `segan_pl predict` wrote (case, seconds, refused, notes) in the folder or one inside.
    """

    name: str
    folder: Path
    home: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    commands: tuple[str, ...]
    split: Mapping[str, Any]
    cases: tuple[Mapping[str, str], ...]
    epochs: tuple[Mapping[str, str], ...]
    scored: ScoredRun | None
    summary: Mapping[str, Any]
    predictions: tuple[Mapping[str, str], ...]


def read_files(text: str) -> RunFiles:
    """A run by "folder" or "name=folder"; a folder's own name may hold "=".

    Raises:
        UsageError: No such folder, nothing in it that a report could show, or nothing says which of its scores.
        CaseError: A file of it cannot be used.
    """
    name, places = parse_run(text)
    if len(places) > 1:
        raise UsageError(f"{text}: {len(places)} runs of one name; a report shows each: give a=RUN b=RUN")
    folder = places[0]
    if not folder.is_dir():
        raise UsageError(f"no run {folder}; give a run's folder, or one that `segan_pl evaluate` wrote")
    scored = read_run(folder) if holds_scores(folder) else None
    home = home_of(scored.table.path) if scored else folder
    epochs = tuple(metrics_rows(home / "metrics.csv"))
    if scored is None and not epochs:
        raise UsageError(f"{folder}: neither metrics.csv nor scores of cases; give a run's folder or an evaluation's")
    config = yaml_file(home / "config.yaml")
    command = home / "command.txt"
    # Folder and experiment: unique on a page in most cases, and short.
    experiment = mapping(config.get("run")).get("experiment")
    inside_a_run = bool(config) and not (folder / "config.yaml").is_file()
    place = f"{folder.resolve().parent.name}/{folder.name}" if inside_a_run else folder.resolve().name
    tables = [file for file in sorted([*home.glob("*.csv"), *home.glob("*/*.csv")]) if PREDICTIONS.fullmatch(file.name)]
    predicted = [rows for file in tables if (rows := csv_rows(file))]
    return RunFiles(
        name=name or (f"{experiment} {place}" if experiment else place),
        folder=folder,
        home=home,
        config=config,
        environment=json_file(home / "environment.json"),
        commands=tuple(command.read_text("utf-8", "replace").splitlines()) if command.is_file() else (),
        split=json_file(home / "split.json"),
        cases=tuple(csv_rows(home / "cases.csv")),
        epochs=epochs,
        scored=scored,
        summary=json_file(scored.table.path.with_name("summary.json")) if scored else {},
        # another file of such a name is none of predict's tables
        predictions=tuple(row for rows in predicted if {"case", "refused"} <= set(rows[0]) for row in rows),
    )


def when(row: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> float:
    """Where a row of metrics.csv is on an axis of epochs: a validation in the middle of epoch 3 at 2.5.

    An epoch that has not ended is as long as it has come so far.
    """
    epoch = float(row["epoch"])
    if not (batch := row.get("batch")):
        return epoch
    seen = float(row["batches_seen"]) - float(batch)  # before this epoch
    ends = [float(one["batches_seen"]) - seen for one in rows if one["epoch"] == row["epoch"]]
    return epoch - 1 + float(batch) / max(*ends, float(batch))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and text."""
    out: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, (list, Mapping)) else str(value)
    return out


def without_masks(run: RunFiles) -> str:
    """Why a run with scores has no case to look at, and the commands that give its masks, ready to be typed."""
    best = best_kept(run.home / "checkpoints")
    data = mapping(run.config.get("data"))
    root = data.get("root") or "DATA"
    part = "test" if run.split.get("test") else "val"
    predictions, evaluation = str(run.home / "predictions"), str(run.home / "evaluation")
    checkpoint = str(best.path) if best else "CHECKPOINT"
    predict = ["predict", "--ckpt_path", checkpoint, "--root", str(root), "--part", part, "--output", predictions]
    evaluate = ["evaluate", "--pred", predictions, "--root", str(root), "--output", evaluation]
    if (labels := data.get("native_labels", "auto")) != "auto":  # what the masks hold, where the user said it
        evaluate += ["--data.native_labels", labels if isinstance(labels, str) else json.dumps(labels)]
    return (
        "no case can be looked at: its scores were kept without masks. These give them:\n"
        f"{shlex.join(['segan_pl', *predict])}\n{shlex.join(['segan_pl', *evaluate])}"
    )
