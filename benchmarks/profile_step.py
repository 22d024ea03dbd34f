"""The ten largest costs of a training step inside `fit`, and a trace of it for a browser (chrome://tracing, Perfetto).

    OMP_NUM_THREADS=1 python -m benchmarks.profile_step [--steps 5] [--trace step.json] -- -c segan_cat_small --root D

What stands after `--` are the arguments of `segan_pl fit`. Loading, transfer, the step and Lightning are all in it.
The first steps are left out; the run ends after the last one that is profiled and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile

from segan_pl.__main__ import main as command

WARM_UP = 3


class Profiled(Callback):
    """Profiles some steps of the first epoch, which ends with them."""

    def __init__(self, steps: int) -> None:
        self.steps, self.device, self.done = steps, "cpu", 0
        cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self.profile = profile(activities=[ProfilerActivity.CPU, *cuda])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """From the end of a step to the end of another."""
        self.device, self.done = trainer.strategy.root_device.type, batch_idx + 1
        if self.device == "cuda":
            torch.cuda.synchronize()
        if batch_idx == WARM_UP - 1:
            self.profile.start()
        elif batch_idx == WARM_UP + self.steps - 1:
            self.profile.stop()


def main() -> int:
    """Profile, print, and perhaps write the trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--trace", help="a JSON file that is not there yet")
    parser.add_argument("fit", nargs=argparse.REMAINDER, help="-- and the arguments of fit")
    options = parser.parse_args()
    if options.trace and Path(options.trace).exists():
        parser.error(f"--trace {options.trace}: is there already; give another file")
    found = Profiled(options.steps)
    fit = L.Trainer.fit

    def profiled(trainer: L.Trainer, *given: Any, **more: Any) -> None:
        trainer.callbacks.append(found)  # type: ignore[attr-defined]
        fit(trainer, *given, **more)

    L.Trainer.fit = profiled  # type: ignore[method-assign]
    batches = f"--trainer.limit_train_batches={WARM_UP + options.steps}"
    with tempfile.TemporaryDirectory() as folder:
        ours = [batches, "--trainer.max_epochs=1", "--trainer.limit_val_batches=0", f"--run.directory={folder}/run"]
        code = command(["fit", *[one for one in options.fit if one != "--"], *ours])
    if code:
        return code
    if found.done < WARM_UP + options.steps:
        sys.exit(f"the epoch has {found.done} batches, expected at least {WARM_UP + options.steps}; give fewer --steps")
    table = found.profile.key_averages().table(sort_by=f"self_{found.device}_time_total", row_limit=10)
    print(f"{options.steps} steps after the first {WARM_UP}, the ten largest costs by themselves:\n{table}")
    if options.trace:
        found.profile.export_chrome_trace(options.trace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
