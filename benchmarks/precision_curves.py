"""Losses of every shipped system in bf16-mixed and in 32-true: the same short run of `segan_pl fit` in both.

Each system of configs/systems, and each objective of configs/objectives over one of them, is made small alike for all
of its runs: 40 steps on a generated cohort, its optimisers, schedule, losses and augmentation as shipped. A third run
in 32-true begins with other weights: what bfloat16 changes is little where it is less than what these change. Points of
a curve are means of five steps. A gap is the largest distance of a curve from float32's, as a share of that's largest
value.

OMP_NUM_THREADS=1 python -m benchmarks.precision_curves [--only unet2d unet2d+vat]  # what the table lacks
OMP_NUM_THREADS=1 python -m benchmarks.precision_curves --draw  # table and figure of what is there
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure

from segan_pl.__main__ import main as command
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.experiments.shipped import find_config, shipped_folder

FOLDER = Path(__file__).parent / "precision_curves"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "precision_curves.png"
EPOCHS, STEPS = 8, 5
RUNS = {"float32": ("32-true", 0), "bfloat16": ("bf16-mixed", 0), "float32, other weights": ("32-true", 1)}
SHAPE = (24, 48, 48)
UNLABELLED = {"n_labelled": 3, "labelled_per_batch": 2}
# An objective goes over this system, unless it is of volumes or of what a label needs.
OVER = {"critic": "strong2d_small", "reciprocal_critic": "strong3d", "bcp_tissues": "dynunet2d"}
LABELLED_ALONE = ("critic", "reciprocal_critic", "vat_supervised")


def systems() -> list[str]:
    """All that ships: NAME of a system, or SYSTEM+OBJECTIVE."""
    alone, objectives = (
        sorted(path.stem for path in (shipped_folder("configs") / kind).glob("*.yaml"))
        for kind in ("systems", "objectives")
    )
    return [*alone, *(f"{OVER.get(one, 'unet2d')}+{one}" for one in objectives)]


def smaller(system: str) -> dict[str, Any]:
    """Options that make a system's step cheap; the game and how it is optimised stay."""
    name, _, objective = system.partition("+")
    file = yaml.safe_load(find_config(name).read_text())
    model, data = file["model"], file["data"]
    flat = len(data["patch"]) == 2 or data["patch"][0] == 1
    side = 64 if "segan_isic" in str(model["networks"]) else 32  # its critic halves six times
    # these halve four times or five, and 1 or 2 voxels of depth are refused in bfloat16
    depth = 32 if any(name in str(model["networks"]) for name in ("few_shot", "mednext", "swin_unetr")) else 24
    patch = [side, side] if len(data["patch"]) == 2 else [1, 32, 32] if flat else [depth, 32, 32]
    if "swin_unetr" in str(model["networks"]):
        patch = [32, 32, 64]  # its deepest level needs more than one voxel
    options: dict[str, Any] = {"data.patch": patch, "data.batch_size": 8 if flat else 2}
    for network, given in model["networks"].items():
        init = given.get("init_args", {})
        few = 12 if "swin_unetr" in given["class_path"] else 16 if flat else 8  # Swin UNETR takes multiples of 12
        least: dict[str, Any] = {"width": min(init.get("width", 16), few)}
        if "levels" in init:
            least["levels"] = min(init["levels"], 5 if flat else 4)
        if init.get("deep_supervision"):
            least["deep_supervision"] = 2
        if "pretrained" in init:
            least["pretrained"] = None
        if "filters" in init:
            least["filters"] = 8
        if "patch" in init:
            least["patch"] = patch
        options |= {f"model.networks.{network}.init_args.{option}": value for option, value in least.items()}
    if "step" in model.get("windows", {}):
        options["model.windows.step"] = patch
    if "Semi" in model["objective"]["class_path"] or "GTGAN" in model["objective"]["class_path"]:
        options |= {"data.batch_size": 4, **{f"data.{key}": value for key, value in UNLABELLED.items()}}
    if "n_labelled" in data:
        options["data.n_labelled"] = 3
        options["data.batch_size"] = 4
    if objective and objective not in LABELLED_ALONE:
        options |= {f"data.{key}": value for key, value in UNLABELLED.items()}
        options["data.batch_size"] = 4
    return options


@dataclass(frozen=True)
class Run:
    """Losses by network, means of `STEPS` steps; the last validation's mean Dice; CPU seconds; what went wrong."""

    losses: Mapping[str, list[float]]
    dice: float
    seconds: float
    refused: str


def fit(system: str, folder: Path, precision: str, seed: int) -> Run:
    """One run of the command in this process."""
    name, _, objective = system.partition("+")
    place = folder / f"{system}-{precision}-{seed}"
    settings = {
        "data.root": folder / "cohort",
        "data.cache_dir": folder / "cache",
        "data.sampling.batches": STEPS,
        "data.workers": 0,
        "data.val_fraction": 0.25,
        "data.test_fraction": 0,
        "data.stratify_by": "[]",
        "data.prepare_workers": 1,
        "data.seed": 0,
        "seed_everything": seed,
        "trainer.max_epochs": EPOCHS,
        "trainer.check_val_every_n_epoch": EPOCHS,
        "trainer.num_sanity_val_steps": 0,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.precision": precision,
        "run.directory": place,
        "run.loggers": "[]",
        "run.preview_every": 0,
        **{key: "null" if value is None else value for key, value in smaller(system).items()},
    }
    files = [name, *([objective] if objective else [])]
    line = ["fit", *(f"--config={one}" for one in files), *(f"--{key}={value}" for key, value in settings.items())]
    said = io.StringIO()
    began = time.process_time()
    with redirect_stdout(said), redirect_stderr(said):
        code = command(line)
    seconds = time.process_time() - began
    losses, dice = curves(place / "metrics.csv") if (place / "metrics.csv").is_file() else ({}, np.nan)
    return Run(losses, dice, seconds, said.getvalue().strip().splitlines()[-1] if code else "")


def curves(metrics: Path) -> tuple[dict[str, list[float]], float]:
    """Each network's whole loss after every epoch, and the last mean Dice, out of a run's metrics.csv."""
    losses: dict[str, list[float]] = {}
    dice = np.nan
    with metrics.open() as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value and key.startswith("train/") and key.endswith("_loss") and key.count("_") == 1:
                    losses.setdefault(key[len("train/") : -len("_loss")], []).append(float(value))
            dice = float(row.get("val/dice_mean") or row.get("val/dice_wt") or dice)
    return losses, dice


def gap(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest distance of a curve from the first, as a share of the first's largest size; NaN if not comparable."""
    a, b = (np.asarray(values, float) for values in (one, other))
    if a.shape != b.shape or not np.isfinite([a, b]).all():
        return float("nan")
    return float(np.abs(a - b).max() / np.abs(a).max()) if a.any() else float(np.abs(b).max())


def quarters(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last quarter."""
    part = max(1, len(values) // 4)
    return float(np.mean(values[:part])), float(np.mean(values[-part:]))


def run_all(names: Sequence[str], table: Path) -> None:
    """Add each run to the table as soon as it is there; what the table has, and is no refusal, is not run again."""
    rows = [row for row in read(table) if not row[2].startswith("refused")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_cohort(folder / "cohort", cases=8, shape=SHAPE)
        # both precisions of every system first
        for system, run in [*product(names, list(RUNS)[:2]), *product(names, list(RUNS)[2:])]:
            if any(row[:2] == [system, run] for row in rows):
                continue
            made = fit(system, folder, *RUNS[run])
            print(f"{system}, {run}: {made.seconds:.1f} CPU s {made.refused}", flush=True)
            rows += [
                [system, run, network, *(f"{value:.5g}" for value in values), f"{made.dice:.4f}"]
                for network, values in made.losses.items()
            ]
            if made.refused:
                rows.append([system, run, "refused: " + made.refused, *[""] * (EPOCHS + 1)])
            with table.open("w", newline="") as file:
                epochs = (f"steps to {STEPS * (epoch + 1)}" for epoch in range(EPOCHS))
                csv.writer(file, lineterminator="\n").writerows([["system", "run", "network", *epochs, "dice"], *rows])


def read(table: Path) -> list[list[str]]:
    """Rows without their head."""
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return list(csv.reader(file))[1:]


def compared(rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """A line for each system and network: first and last quarter in both precisions, gaps, Dice; or what refused it."""
    curve: dict[tuple[str, str], dict[str, list[float]]] = {}
    dice: dict[tuple[str, str], str] = {}
    for system, run, network, *values in rows:
        if network.startswith("refused"):
            yield [system, f"{run} {network}", *[""] * 6]
            continue
        curve.setdefault((system, network), {})[run] = [float(value) for value in values[:-1]]
        dice[system, run] = values[-1]
    plain, low, other = RUNS
    for (system, network), runs in curve.items():
        if plain in runs and low in runs:
            ends = [quarters(runs[run]) for run in (plain, low)]
            yield [
                system,
                network,
                *(f"{full:.3f}, {half:.3f}" for full, half in zip(*ends, strict=True)),
                f"{gap(runs[plain], runs[low]):.4f}",
                f"{gap(runs[plain], runs[other]):.4f}" if other in runs else "",
                f"{dice[system, plain]}, {dice[system, low]}",
                "yes" if np.isfinite([runs[plain], runs[low]]).all() else "no",
            ]


def draw(rows: Sequence[Sequence[str]], figure: Path) -> None:
    """A small panel for each system; a colour for each network."""
    names = list(dict.fromkeys(row[0] for row in rows if len(row) == EPOCHS + 4))
    columns = 6
    lines = -(-len(names) // columns)
    sheet = Figure(figsize=(15, 2.1 * lines), layout="constrained")
    panels = sheet.subplots(lines, columns, squeeze=False)
    styles = dict(zip(RUNS, ("-", "--", ":"), strict=True))
    at = np.arange(1, EPOCHS + 1) * STEPS
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    for name, panel in zip(names, panels.flat, strict=False):
        own = [row for row in rows if row[0] == name and not row[2].startswith("refused")]
        networks = list(dict.fromkeys(row[2] for row in own))
        for _, run, network, *values in own:
            losses = [float(value) for value in values[:-1]]
            panel.plot(at[: len(losses)], losses, styles[run], color=f"C{networks.index(network)}", linewidth=1.2)
        panel.set_title(name, fontsize=8)
        panel.tick_params(labelsize=6)
    for run, style in styles.items():
        panels.flat[0].plot([], [], style, color="black", label=run)
    panels.flat[0].legend(fontsize=6)
    sheet.supxlabel("step", fontsize=8)
    sheet.supylabel("loss of each network", fontsize=8)
    sheet.savefig(figure, dpi=75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="of those that ship")
    parser.add_argument("--draw", action="store_true", help="run nothing")
    parser.add_argument("--output", type=Path, default=FOLDER, help="of the table")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    options.output.mkdir(exist_ok=True)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    table = options.output / "curves.csv"
    if not options.draw:
        run_all(options.only or systems(), table)
    print(
        "| system | network | first quarter, float32, bfloat16 | last quarter | gap | other weights | Dice | finite |"
    )
    print("|---" * 8 + "|")
    for line in compared(read(table)):
        print(f"| {' | '.join(line)} |")
    draw(read(table), options.figure)


if __name__ == "__main__":
    main()
