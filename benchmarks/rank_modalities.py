"""Short single-modality trainings on generated cohorts: FLAIR should show the whole tumour best and T1 worst.

The order is that of SegAN-CAT's Table II (BraTS 2019: FLAIR 0.763, T2 0.675, T1c 0.587, T1 0.542). The seed makes the
cohort, the split, the weights and the order of batches.

python benchmarks/rank_modalities.py [--seeds 10 11 12] [--directory /tmp/rank]
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

from segan_pl.data.synthetic.cohort import make_cohort_once

TRAININGS = ("flair", "t2", "t1ce", "t1", "t1,t1ce,t2,flair")


def train(cohort: Path, run: Path, modalities: str, seed: int, epochs: int) -> float:
    """Mean validation Dice of the last three epochs, so that no epoch is chosen."""
    if not (run / "done").exists():
        command = [
            sys.executable,
            "-m",
            "segan_pl",
            "fit",
            "--config",
            "demo",
            f"--root={cohort}",
            f"--data.modalities=[{modalities}]",
            f"--data.seed={seed}",
            f"--data.split_seed={seed}",
            f"--seed_everything={seed}",
            f"--trainer.max_epochs={epochs}",
            f"--run.directory={run}",
            f"--model.schedule.init_args.total_iters={epochs}",
            "--run.preview_every=0",
        ]
        run.mkdir(parents=True, exist_ok=True)  # a killed run is continued
        with (run / "log.txt").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
        (run / "done").touch()
    with (run / "metrics.csv").open(newline="") as file:
        scores = [float(row["val/dice_wt"]) for row in csv.DictReader(file)]
    return sum(scores[-3:]) / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--directory", type=Path, default=Path("runs/rank_modalities"))
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    print(f"whole-tumour Dice, mean of the last 3 of {options.epochs} epochs, {options.cases // 4} validation cases")
    print("| seed | " + " | ".join(TRAININGS) + " |\n|" + "---|" * (len(TRAININGS) + 1))
    for seed in options.seeds:
        cohort = options.directory / f"cohort{seed}"
        make_cohort_once(cohort, cases=options.cases, shape=(32, 96, 96), seed=seed)
        scores = [
            train(cohort, options.directory / f"seed{seed}_{names.replace(',', '_')}", names, seed, options.epochs)
            for names in TRAININGS
        ]
        print(f"| {seed} | " + " | ".join(f"{score:.3f}" for score in scores) + " |", flush=True)


if __name__ == "__main__":
    main()
