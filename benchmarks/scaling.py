"""How CPU time and memory grow: with cases, modalities, width, patch and ranks. A figure of slopes, and a table.

Every point is a process of its own, forked once the libraries are there: CPU seconds, and the largest memory above
what the fork began with. Steps are of SegAN-CAT's networks in 2-D and of MONAI's U-Net in 3-D, the median of a few,
loading included. A slope is that of the line through the logarithms: with 1 the cost doubles when its axis does, with
2 it is four times as much.

OMP_NUM_THREADS=1 python -m benchmarks.scaling [--draw]  # --draw: the figure of the table that is there
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import resource
import socket
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.bench_step import processor
from segan_pl.__main__ import main as command
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.files import csv_text
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.ddp import PhaseDDP
from segan_pl.training.system import AdversarialSegmentation

FOLDER = Path(__file__).parent / "scaling"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "scaling.png"
CASES, SMALL = (10, 100, 1000), (8, 32, 32)
LARGE = (48, 160, 160)  # of the three cases that steps are taken from
BATCHES = 10
"""Of an epoch, and of loading, whatever the number of cases."""
MODALITIES = ("flair", "t1", "t1ce", "t2")
HEAD = ("axis", "what", "at", "cpu_seconds", "memory_mb")


class Clock(L.Callback):
    """CPU seconds from batch to batch."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Look at the clock."""
        self.ticks.append(time.process_time())


def module(root: Path, **given: Any) -> MRIDataModule:
    """The data of generated cases, whole volumes, in this process."""
    settings: dict[str, Any] = {"preparation": Preparation(crop=None), "stratify_by": (), "val_fraction": 0.34}
    return MRIDataModule(
        str(root / "data"), cache_dir=str(root / "cache"), workers=0, prepare_workers=1, **settings | given
    )


def steps(
    root: Path,
    *,
    count: int = 5,
    width: int = 16,
    patch: Sequence[int] = (96, 96),
    batch: int = 4,
    modalities: int = 4,
    world: int = 1,
) -> float:
    """CPU seconds of a step on prepared cases, as one of `world` ranks."""
    names = MODALITIES[:modalities]
    data = module(root, batch_size=batch, patch=tuple(patch), modalities=names)
    game = {"segmentor": partial(Segmentor, width=width), "critic": partial(Critic, width=width)}
    if len(patch) == 3:
        game = {"segmentor": partial(MonaiSegmentor, kind="UNet", spatial_dims=3, width=width, levels=4)}
    system = AdversarialSegmentation(
        game,
        SegAN() if len(patch) == 2 else Supervised(),
        modalities=list(names),
        labels="whole_tumour",
    )
    clock = Clock()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=len(game) * count,  # each network counts a step
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[clock],
        devices=world,
        **({"strategy": PhaseDDP(process_group_backend="gloo")} if world > 1 else {}),
    )
    trainer.fit(system, datamodule=data)
    return statistics.median(np.diff(clock.ticks[1:]))  # the first steps choose kernels


def epoch(root: Path) -> None:
    """Open a prepared cohort and train for `BATCHES` batches."""
    steps(root, count=BATCHES, width=4, patch=(16, 16), batch=8)


def load(root: Path) -> None:
    """Open a prepared cohort and read `BATCHES` batches."""
    data = module(root, batch_size=8, patch=(16, 16))
    data.prepare_data()
    data.setup("fit")
    for _, _batch in zip(range(BATCHES), data.train_dataloader(), strict=False):
        pass


def run(*line: str) -> None:
    """A command of the package."""
    if command(list(line)):
        raise RuntimeError(" ".join(line))


def measured(works: Sequence[Callable[[], float | None]]) -> tuple[float, float]:
    """CPU seconds and MB of memory of functions that run at the same time, each in a fork.

    What a function returns stands for its process's CPU seconds. Several are ranks: their sums.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank, work in enumerate(works):
        read, write = os.pipe()
        if pid := os.fork():
            os.close(write)
            children.append((pid, read))
            continue
        code = 1
        try:
            if len(works) > 1:
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(len(works))}
                os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
            before = resident()
            began = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                found = work()
            seconds = time.process_time() - began if found is None else found
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            os.write(write, json.dumps([seconds, most - before]).encode())
            code = 0
        finally:
            os._exit(code)
    rows = []
    for pid, read in children:
        with os.fdopen(read) as pipe:
            text = pipe.read()
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a measurement ended in an error; call its function without the fork to see it")
        rows.append(json.loads(text))
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def resident() -> float:
    """MB of this process now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3


def points(folder: Path) -> Mapping[tuple[str, str, float], Sequence[Callable[[], float | None]]]:
    """What is measured, by (axis, what, at), in this order: a cohort is prepared before it is read."""
    made: dict[tuple[str, str, float], Sequence[Callable[[], float | None]]] = {}
    step = partial(steps, folder / "large")
    for number in (1, 2, 4):
        made["modalities", "2-D step", number] = [partial(step, modalities=number)]
    for width in (8, 16, 32, 64):
        made["width", "2-D step", width] = [partial(step, width=width)]
    for side in (64, 96, 128, 160):
        made["patch", "2-D step", side] = [partial(step, patch=(side, side))]
    for side in (32, 48, 64):
        made["patch", "3-D step", side] = [partial(step, patch=(side, side, side), width=8, batch=1)]
    for world in (1, 2):
        made["ranks", "2-D step, all ranks", world] = [partial(step, batch=8 // world, world=world)] * world
    for cases in CASES:
        root = folder / str(cases)
        data = f"--root={root / 'data'}"
        prepare = partial(run, "prepare", data, f"--data.cache_dir={root / 'cache'}", "--data.preparation.crop=null")
        made["cases", "check", cases] = [partial(run, "check", data, "--workers=1")]
        made["cases", "prepare", cases] = [partial(prepare, "--data.prepare_workers=1")]
        made["cases", f"train, {BATCHES} batches", cases] = [partial(epoch, root)]
        made["cases", f"load {BATCHES} batches", cases] = [partial(load, root)]
    return made


def measure(table: Path) -> None:
    """Fill the table; each row is printed as it comes."""
    rows: list[dict[str, str]] = []
    machine = f"{processor()}, {os.cpu_count()} CPUs, torch {torch.__version__}, one thread"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_cohort(folder / "large" / "data", cases=3, shape=LARGE)
        for number in (1, 2, 4):  # each set of modalities has a cache of its own
            module(folder / "large", modalities=MODALITIES[:number]).prepare_data()
        make_cohort(folder / str(max(CASES)) / "data", cases=max(CASES), shape=SMALL)
        cases = sorted((folder / str(max(CASES)) / "data").rglob("BraTS19_*"), key=lambda one: one.name)
        cases = [one for one in cases if one.is_dir()]
        for number in CASES[:-1]:
            for one in cases[:number]:
                there = folder / str(number) / "data" / one.relative_to(folder / str(max(CASES)) / "data")
                there.parent.mkdir(parents=True, exist_ok=True)
                there.symlink_to(one)
        for (axis, what, at), works in points(folder).items():
            seconds, memory = measured(works)
            row = (axis, what, f"{at:g}", f"{seconds:.4g}", f"{memory:.0f}")
            rows.append(dict(zip((*HEAD, "machine"), (*row, machine), strict=True)))
            print(*row, flush=True)
            table.write_text(csv_text(rows))


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Of the line through the logarithms."""
    return float(np.polyfit(np.log(at), np.log(np.maximum(values, 1e-3)), 1)[0])


def draw(table: Path, figure: Path) -> None:
    """Panels of CPU seconds above panels of memory, one column for each axis; slopes in the legends and printed."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    sheet = Figure(figsize=(3 * len(axes), 6), layout="constrained")
    panels = sheet.subplots(2, len(axes), sharey="row")
    print("| with | of | slope of CPU time | slope of memory |\n|---|---|---|---|")
    for column, axis in enumerate(axes):
        for what in dict.fromkeys(row["what"] for row in rows if row["axis"] == axis):
            own = [row for row in rows if row["axis"] == axis and row["what"] == what]
            at = [float(row["at"]) for row in own]
            slopes = []
            for panel, key in zip(panels[:, column], HEAD[3:], strict=True):
                values = [max(float(row[key]), 1e-3) for row in own]
                slopes.append(slope(at, values))
                panel.loglog(at, values, marker="o", label=f"{what}: {slopes[-1]:.2f}")
            print(f"| {axis} | {what} | {slopes[0]:.2f} | {slopes[1]:.2f} |")
        ticks = sorted({float(row["at"]) for row in rows if row["axis"] == axis})
        for panel in panels[:, column]:
            panel.set_xlabel(axis)
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
            panel.legend(fontsize=7)
            panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("CPU s")
    panels[1, 0].set_ylabel("MB above the libraries")
    sheet.savefig(figure, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--output", type=Path, default=FOLDER, help="of the table")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    options.output.mkdir(exist_ok=True)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if not options.draw:
        measure(options.output / "points.csv")
    draw(options.output / "points.csv", options.figure)


if __name__ == "__main__":
    main()
