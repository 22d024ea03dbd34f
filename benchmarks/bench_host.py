"""What a training step costs the host: `fit` on networks that compute next to nothing, against a bare loop over them.

SegAN-CAT, width 1, patches of 16x16, in batches of 8. Two runs of the command, one of twice as many steps, differ by
its steps alone: loading, the step, Lightning and every callback. CPU time of one thread, so that other programs count
for little.

    OMP_NUM_THREADS=1 python benchmarks/bench_host.py [--profile 30]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import torch

from benchmarks.bench_step import bare_step
from segan_pl.__main__ import main as command
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.training.phase_loop import rmsprop

BATCH, SIDE = 8, 16


def bare(steps: int) -> float:
    """CPU seconds of a step."""
    segmentor, critic = Segmentor(4, 1, width=1), Critic(5, width=1)
    optimizers = [rmsprop(segmentor.parameters()), rmsprop(critic.parameters())]
    image = torch.rand(BATCH, 4, SIDE, SIDE)
    target = (torch.rand(BATCH, 1, SIDE, SIDE) > 0.9).float()
    began = time.process_time()
    for _ in range(steps):
        bare_step(segmentor, critic, optimizers, image, target, alternating=True, cast=nullcontext)
    return (time.process_time() - began) / steps


def fit(folder: Path, steps: int, name: str) -> float:
    """CPU seconds of `segan_pl fit` for one epoch of so many steps."""
    networks = {f"model.networks.{network}.init_args.width": 1 for network in ("segmentor", "critic")}
    settings = {
        "data.root": folder / "cohort",
        "data.cache_dir": folder / "cache",
        "data.batch_size": BATCH,
        "data.patch": f"[{SIDE},{SIDE}]",
        "data.sampling.batches": steps,
        "data.workers": 0,
        "trainer.max_epochs": 1,
        "trainer.limit_val_batches": 0,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "run.directory": folder / name,
        "run.loggers": "[]",
        **networks,
    }
    line = ["fit", "--config", "segan_cat", *(f"--{key}={value}" for key, value in settings.items())]
    said = StringIO()
    began = time.process_time()
    with redirect_stdout(said), redirect_stderr(said):
        code = command(line)
    if code:
        sys.exit(said.getvalue())
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", type=int, default=0, help="print so many of the costliest functions instead")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_cohort(folder / "cohort", cases=6, shape=(32, 48, 48))
        fit(folder, 5, "first")
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(fit, folder, options.steps, "profiled")
            pstats.Stats(profile).sort_stats("tottime").print_stats(options.profile)
            return
        bare(10)
        rows = []
        for number in range(options.rounds):
            short, long = (fit(folder, times * options.steps, f"{number} {times}") for times in (1, 2))
            rows.append((1e3 * bare(options.steps), 1e3 * (long - short) / options.steps))
            alone, inside = rows[-1]
            print(f"round {number}: bare {alone:.2f} ms, fit {inside:.2f} ms a step, ratio {inside / alone:.2f}")
    print(f"median ratio: {statistics.median(inside / alone for alone, inside in rows):.2f}")


if __name__ == "__main__":
    main()
