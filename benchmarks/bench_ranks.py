"""The speed of N ranks against one with the same joined batch, on the cores of this machine (gloo), in turns.

One rank has all threads, N ranks share them. The ratio is that of the joined batches a second: 1.0 means that the
second rank costs nothing. `--against wrapped` compares N ranks with the same N below PyTorch's wrapper for all networks
at once (ddp_find_unused_parameters_true), which reduces every network's gradients in every phase.

python benchmarks/bench_ranks.py [--ranks 2] [--batch 8] [--steps 6] [--rounds 3] [--against one | wrapped]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy

from segan_pl.data.module import MRIDataModule
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.segan import SegAN
from segan_pl.training.ddp import PhaseDDP
from segan_pl.training.system import AdversarialSegmentation

WARM_UP = 2
CORES = len(os.sched_getaffinity(0))


class Clock(L.Callback):
    """Seconds from batch to batch."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Look at the clock."""
        self.ticks.append(time.perf_counter())


def one_rank(options: argparse.Namespace) -> None:
    """Train as one of several ranks, and print the median seconds of a step."""
    torch.set_num_threads(max(1, CORES // options.world))
    batch = options.batch // options.world
    data = MRIDataModule(
        str(options.cohort), cache_dir=str(options.cache), batch_size=batch, val_fraction=0.3, workers=0
    )
    system = AdversarialSegmentation(
        {"segmentor": partial(Segmentor, width=options.width), "critic": partial(Critic, width=options.width)},
        SegAN(),
        modalities=list(data.modalities),
        labels="whole_tumour",
    )
    wrapped = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
    ranks: dict[str, Any] = {"devices": options.world}
    if options.world > 1:
        ranks["strategy"] = wrapped if options.wrapped else PhaseDDP(process_group_backend="gloo")
    clock = Clock()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=2 * (WARM_UP + options.steps),  # each of two networks counts a step
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[clock],
        **ranks,
    )
    trainer.fit(system, datamodule=data)
    gaps = [b - a for a, b in zip(clock.ticks, clock.ticks[1:], strict=False)]
    print(f"seconds {statistics.median(gaps[WARM_UP - 1 :])}")


def seconds(line: list[str], world: int, *, wrapped: bool = False) -> float:
    """Median seconds of a step of `world` ranks, each a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    own = [sys.executable, "-W", "ignore", __file__, *line, "--world", str(world), *(["--wrapped"] if wrapped else [])]
    there = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    processes = [
        subprocess.Popen(
            own,
            env={**there, "LOCAL_RANK": str(rank), "NODE_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(world)
    ]
    said = [process.communicate()[0] for process in processes]
    return max(float(text.rpartition("seconds ")[2]) for text in said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="patches of the joined batch")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", default="one", choices=["one", "wrapped"])
    parser.add_argument("--world", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--wrapped", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cohort", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.world:
        one_rank(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        cohort, cache = Path(folder) / "cohort", Path(folder) / "cache"
        make_cohort(cohort, cases=6, shape=(48, 180, 180))
        MRIDataModule(str(cohort), cache_dir=str(cache), val_fraction=0.3).prepare_data()
        given = {"batch": options.batch, "width": options.width, "steps": options.steps}
        line = [f"--{name}={value}" for name, value in {**given, "cohort": cohort, "cache": cache}.items()]
        other = (
            partial(seconds, line, 1)
            if options.against == "one"
            else partial(seconds, line, options.ranks, wrapped=True)
        )
        rows = [(other(), seconds(line, options.ranks)) for _ in range(options.rounds)]
    print(f"cpu, {CORES} cores, torch {torch.__version__}; 4x160x160, width {options.width}, alternating, float32")
    name = "1 rank" if options.against == "one" else f"{options.ranks} ranks, wrapped"
    for number, (before, now) in enumerate(rows):
        print(
            f"round {number}: {name} {options.batch / before:.2f} slices/s, {options.ranks} ranks "
            f"{options.batch / now:.2f} slices/s, ratio {before / now:.2f}"
        )
    print(f"median ratio {options.ranks} ranks / {name}: {statistics.median(a / b for a, b in rows):.2f}")


if __name__ == "__main__":
    main()
