"""The comparison of docs/lgg.md: five systems on the three splits of TCGA-LGG, and paired differences.

Trains what is not there yet (about 4 minutes a run on two quiet cores), then prints the tables as Markdown.

python benchmarks/lgg.py --root ../shared/data/lgg [--directory runs/lgg] [--table-only]
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

SYSTEMS = ("segan_cat_small", "segan_dice_small", "segan_small", "segmentor_small", "segmentor_small_adamw")
SPLITS = (0, 1, 2)


def train(root: Path, run: Path, system: str, split: int) -> None:
    """One run, unless it is finished."""
    if (run / "done").exists():
        return
    command = [
        sys.executable,
        "-m",
        "segan_pl",
        "fit",
        "--config",
        system,
        "--config",
        "lgg",
        f"--data.root={root}",
        f"--data.split_file={root}/splits/lgg_40_10_{split}.json",
        f"--run.directory={run}",
    ]
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    (run / "done").touch()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read(run: Path) -> tuple[int, float, float, dict[str, float], float]:
    """Best epoch, its Dice, mean of the last three epochs, Dice a case at the best epoch, and seconds of training."""
    metrics = rows(run / "metrics.csv")
    dice = [float(row["val/dice_wt"]) for row in metrics]
    best = int(np.argmax(dice))
    scores = rows(run / "scores" / f"val_epoch_{int(metrics[best]['epoch']):04d}.csv")
    cases = {row["case"]: float(row["dice"]) for row in scores}
    seconds = sum(float(row["seconds"]) for row in metrics)
    return best, dice[best], float(np.mean(dice[-3:])), cases, seconds


def patient_differences(first: Sequence[dict[str, float]], second: Sequence[dict[str, float]]) -> np.ndarray:
    """First minus second, one number a patient: the mean over the splits in whose validation the patient is."""
    gathered = defaultdict(list)
    for one, other in zip(first, second, strict=True):
        for case in one:
            gathered[case].append(one[case] - other[case])
    return np.array([np.mean(values) for values in gathered.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/lgg"))
    parser.add_argument("--directory", type=Path, default=Path("runs/lgg"))
    parser.add_argument("--table-only", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    results = {}
    for system in SYSTEMS:
        for split in SPLITS:
            if not options.table_only:
                train(options.root, options.directory / system / f"split{split}", system, split)
        done = [options.directory / system / f"split{split}" for split in SPLITS]
        if all((run / "done").exists() for run in done):
            results[system] = [read(run) for run in done]
    print("| system | split 0 | split 1 | split 2 | mean at the best epoch | last three epochs | minutes a run |")
    print("|---|---|---|---|---|---|---|")
    for system, runs in results.items():
        best, last = np.mean([run[1] for run in runs]), np.mean([run[2] for run in runs])
        each = " | ".join(f"{run[1]:.3f} (epoch {run[0]})" for run in runs)
        minutes = np.mean([run[4] for run in runs]) / 60
        print(f"| {system} | {each} | **{best:.3f}** | {last:.3f} ({last / best:.2f} of it) | {minutes:.1f} |")
    print(
        "\n| against segan_cat_small | patients | mean difference | 95 % interval | Wilcoxon p |\n|---|---|---|---|---|"
    )
    for system in results:
        if system == SYSTEMS[0]:
            continue
        differences = patient_differences([run[3] for run in results[system]], [run[3] for run in results[SYSTEMS[0]]])
        interval = stats.bootstrap((differences,), np.mean, rng=np.random.default_rng(0), n_resamples=9999)
        low, high = interval.confidence_interval
        p = stats.wilcoxon(differences).pvalue
        print(f"| {system} | {len(differences)} | {differences.mean():+.3f} | {low:+.3f} to {high:+.3f} | {p:.3f} |")
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
