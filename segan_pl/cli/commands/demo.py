"""The demonstration: generate a cohort, train SegAN-CAT on it, show per-case scores and a picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from segan_pl.cli.main import main as fit
from segan_pl.cli.score_table import OF_ONE_REGION, print_case_table
from segan_pl.data.labels import label_scheme
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.synthetic.cohort import make_cohort_once
from segan_pl.evaluation.kept import validation_name
from segan_pl.evaluation.volumes import best_threshold
from segan_pl.experiments.shipped import find_config
from segan_pl.files import csv_records
from segan_pl.training.callbacks.readings import moment

CASES = 24
SHAPE = (32, 96, 96)


def main(arguments: list[str]) -> int:
    """Generate, train, and show.

    Args:
        arguments: "demo" and its options; further ones go to `fit`.
    """
    parser = argparse.ArgumentParser(prog="segan_pl demo", description=__doc__)
    parser.add_argument("--output", default="demo", type=Path, help="where the cohort and the run go (default demo)")
    options, rest = parser.parse_known_args(arguments[1:])
    cohort, run = options.output / "cohort", options.output / "run"
    if not cohort.exists():
        print(f"generating {CASES} cases of {SHAPE} voxels in {cohort}")
        make_cohort_once(cohort, cases=CASES, shape=SHAPE)
    code = train(cohort, run, rest)
    if code == 0:
        show(cohort, run)
    return code


def train(cohort: Path, run: Path, rest: Sequence[str]) -> int:
    """`segan_pl fit --config demo` on the cohort."""
    command = ["fit", "--config", str(find_config("demo")), f"--root={cohort}", f"--run.directory={run}", *rest]
    print("segan_pl", *command)
    return fit(command)


def show(cohort: Path, run: Path) -> None:
    """Per-case scores at the best epoch next to the best threshold on FLAIR."""
    scores, epoch, batch = best_scores(run)
    names = [row["case"] for row in scores]
    threshold, baseline = flair_threshold(cohort, names)
    scored = {title: [float(row[name] or "nan") for row in scores] for name, title in OF_ONE_REGION.items()}
    console = Console(soft_wrap=False, width=None if Console().is_terminal else 120)
    print_case_table(
        f"validation, whole tumour, {moment(epoch, batch)} (chosen by val/dice_wt)",
        {name: [row[name] for row in scores] for name in ("case", "grade", "institution")},
        {**scored, "Dice of FLAIR threshold": baseline},
        console,
    )
    console.print(
        f"the best single threshold on FLAIR is {threshold:.2f} standard deviations above the brain's mean, "
        f"chosen on these very cases"
    )
    console.print(f"picture: {run / 'previews' / f'{validation_name(epoch, batch)}.png'}")


def best_scores(run: Path) -> tuple[list[dict[str, str]], int, int | None]:
    """Rows of the validation with the highest mean Dice, its epoch, and its batch where it was within the epoch."""
    with (run / "metrics.csv").open(newline="") as file:
        epochs = [row for row in csv_records(file) if row.get("val/dice_wt")]
    best = max(epochs, key=lambda row: float(row["val/dice_wt"]))
    epoch, batch = int(best["epoch"]), int(best["batch"]) if best.get("batch") else None
    with (run / "scores" / f"val_{validation_name(epoch, batch)}.csv").open(newline="") as file:
        return csv_records(file), epoch, batch


def flair_threshold(cohort: Path, names: Sequence[str]) -> tuple[float, list[float]]:
    """Best threshold on these cases' FLAIR, z-scored in the brain, and each one's Dice at it."""
    data = MRIDataModule(str(cohort), modalities=["flair"], preparation=Preparation(crop=None, scaling="zscore"))
    data.find()
    rows = {case.name: row for row, case in enumerate(data.cases)}
    cases: list[Any] = [data.open(rows[name]) for name in names]
    lookup = label_scheme("whole_tumour").table()[0].astype(bool)
    return best_threshold([case.pixels()[0] for case in cases], [lookup[case.label] for case in cases])
