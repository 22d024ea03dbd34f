"""CPU seconds of `segan_pl report` on many runs, against importing Matplotlib and drawing as many bare figures as SVG.

In turns, each in a process of its own with one thread. The runs are generated: 100 epochs of a game with its losses,
learning rates, gradient norms and Dice of three regions, and a validation of 20 cases. No warning may be printed.

OMP_NUM_THREADS=1 python benchmarks/bench_report.py [--runs 30] [--rounds 5]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

REGIONS = ("wt", "tc", "et")
BARE = """
import io
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
for _ in range({figures}):
    figure = Figure(figsize=(6.4, 3.4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for run in range({runs}):
        axes.plot(range(100), range(100))
    figure.savefig(io.StringIO(), format="svg")
"""


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_run(folder: Path, number: int) -> Path:
    """A finished run's small files."""
    draw = random.Random(number)
    epochs = []
    for epoch in range(100):
        row: dict[str, object] = {"epoch": epoch, "seconds": 60}
        row |= {f"val/dice_{region}": round(0.9 - 0.5 / (epoch + 1) + draw.gauss(0, 0.01), 4) for region in REGIONS}
        for network in ("segmentor", "critic"):
            row |= {f"train/{network}_loss": 1 / (epoch + 1), f"gradient_norm/{network}": draw.random() + 0.1}
            row |= {f"lr/{network}": 2e-5 * (1 - epoch / 100)}
        epochs.append({**row, "val/loss": 1 / (epoch + 1), "gap_spread/critic_gap": draw.random() + 0.1})
    write_rows(folder / "metrics.csv", epochs)
    scores = []
    for case in range(20):
        for region in REGIONS:
            counts = {"tp": 90, "fp": 10, "fn": 10, "tn": 1000}
            values = {name: round(draw.random(), 4) for name in ("dice", "precision", "sensitivity", "specificity")}
            about = {"case": f"case_{case}", "patient": f"case_{case}", "region": region, "status": "scored"}
            scores.append({**about, **counts, **values, "empty": "neither"})
    write_rows(folder / "scores" / "val_epoch_0099.csv", scores)
    (folder / "config.yaml").write_text(f"data: {{root: /data}}\nseed_everything: {number}\n")
    (folder / "split.json").write_text(json.dumps({"train": [], "val": [f"case_{n}" for n in range(20)], "test": []}))
    return folder


def cpu_seconds(argv: list[str]) -> float:
    """User and system time of a command that must succeed and warn of nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if "Warning" in done.stdout + done.stderr:
        raise SystemExit(f"the command warned:\n{done.stdout}{done.stderr}")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        runs = [str(make_run(Path(work) / f"run_{number:02}", number)) for number in range(options.runs)]
        page = Path(work) / "page" / "index.html"
        report = [sys.executable, "-m", "segan_pl", "report", *runs, "--output", str(page)]
        cpu_seconds(report)
        figures = len(list((page.parent / "figures").glob("*.svg")))
        bare = [sys.executable, "-c", BARE.format(figures=figures, runs=options.runs)]
        taken = [(cpu_seconds(report), cpu_seconds(bare)) for _ in range(options.rounds)]
        size = page.stat().st_size / 1e6
    ours, theirs = (min(one) for one in zip(*taken, strict=True))
    print(f"report of {options.runs} runs, {figures} figures, {size:.1f} MB: {ours:.2f} CPU s")
    print(f"as many bare figures of Matplotlib: {theirs:.2f} CPU s; ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
