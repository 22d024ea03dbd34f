"""The comparison's table: each system's Dice fold by fold and pooled, and what it cost."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segan_pl.evaluation.statistics.summaries import mean_intervals

COLUMNS = (
    "system",
    "fold",
    "n",
    "dice",
    "low",
    "high",
    "median",
    "below_0.5",
    "train_cpu_s",
    "predict_cpu_s",
    "iterations",
)
Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Trained:
    """One training that was scored.

    Attributes:
        system: Its name, "NAME, mirrored" where mirror images were averaged at test time.
        fold: From 0.
        dice: Case to whole-volume Dice.
        patients: Case to patient.
        train_cpu_s: Of the whole command.
        predict_cpu_s: Of all test cases.
        iterations: Batches seen.
        scores: Folder of its metrics_per_case.csv.
    """

    system: str
    fold: int
    dice: Mapping[str, float]
    patients: Mapping[str, str]
    train_cpu_s: float
    predict_cpu_s: float
    iterations: int
    scores: Path


def read_runs(folder: Path) -> list[Trained]:
    """All scored trainings in SYSTEM/fold<K>_seed<S>, by system and fold."""
    found = []
    for table in sorted(folder.glob("*/fold*_seed*/scores*/metrics_per_case.csv")):
        ending = table.parent.name.removeprefix("scores")
        run = table.parents[1]
        cost = json.loads((run / "cost.json").read_text())
        with table.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["region"] == "wt"]
        found.append(
            Trained(
                system=run.parent.name + (", mirrored" if ending else ""),
                fold=int(run.name.partition("_")[0].removeprefix("fold")),
                dice={row["case"]: float(row["dice"]) for row in rows if row["dice"]},
                patients={row["case"]: row["patient"] or row["case"] for row in rows},
                train_cpu_s=cost["training_cpu_s"],
                predict_cpu_s=cost[f"prediction{ending}_cpu_s"],
                iterations=cost["iterations"],
                scores=table.parent,
            )
        )
    return found


def table_rows(runs: Sequence[Trained]) -> list[Row]:
    """One row for each system and fold, and one of all folds; a case's seeds are averaged first, as are the costs."""
    rows: list[Row] = []
    for system in sorted({one.system for one in runs}):
        own = [one for one in runs if one.system == system]
        folds = sorted({one.fold for one in own})
        for label, taken in (*((str(fold), [fold]) for fold in folds), ("all", folds)):
            chosen = [one for one in own if one.fold in taken]
            scores: dict[str, list[float]] = defaultdict(list)
            for one in chosen:
                for case, dice in one.dice.items():
                    scores[case].append(dice)
            patients = {case: patient for one in chosen for case, patient in one.patients.items()}
            means = np.array([np.mean(scores[case]) for case in sorted(scores)])
            low, high = mean_intervals(means[:, None], [patients[case] for case in sorted(scores)])
            rows.append(
                {
                    "system": system,
                    "fold": label,
                    "n": len(means),
                    "dice": round(float(means.mean()), 4),
                    "low": round(float(low[0]), 4),
                    "high": round(float(high[0]), 4),
                    "median": round(float(np.median(means)), 4),
                    "below_0.5": int((means < 0.5).sum()),
                    "train_cpu_s": round(float(np.mean([one.train_cpu_s for one in chosen])), 1),
                    "predict_cpu_s": round(float(np.mean([one.predict_cpu_s for one in chosen])), 1),
                    "iterations": round(float(np.mean([one.iterations for one in chosen]))),
                }
            )
    return rows


def write_table(rows: Sequence[Row], file: Path) -> str:
    """Write the rows as CSV, and return them as a Markdown table."""
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(str(row[column]) for column in COLUMNS) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
