"""CPU time of what names a collapsed game, as a share of the training steps' own, within one `fit`.

    python -m benchmarks.bench_measures -c segan_cat_small --root D --run.directory /tmp/run --trainer.max_epochs 2

takes the arguments of `segan_pl fit`. CPU time of this process, so that other programs on the machine count for little.
On a GPU it is the time in which the calls are issued, not that of the kernels.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from functools import wraps
from typing import Any

from segan_pl.__main__ import main
from segan_pl.objectives.step_context import StepContext
from segan_pl.training.callbacks.health import Health
from segan_pl.training.callbacks.measures import Measures
from segan_pl.training.phase_loop import PhaseLoop

STEP = "PhaseLoop.training_step"
CALLS = (
    (PhaseLoop, "training_step"),
    (StepContext, "output_range"),  # within a training step
    (Measures, "on_before_optimizer_step"),  # likewise
    (Measures, "on_train_batch_end"),
    (Measures, "on_train_epoch_end"),
    (Health, "on_train_epoch_end"),
)


def timed(function: Any, spent: list[float]) -> Any:
    """The function, each of whose calls adds its seconds."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append(time.process_time() - began)

    return call


def run(arguments: list[str]) -> int:
    spent: dict[str, list[float]] = defaultdict(list)
    for owner, name in CALLS:
        setattr(owner, name, timed(getattr(owner, name), spent[f"{owner.__name__}.{name}"]))
    code = main(["fit", *arguments])
    steps = sum(spent[STEP])
    for name, seconds in spent.items():
        if seconds:
            each = 1e3 * sum(seconds) / len(seconds)
            print(f"{name}: {len(seconds)} calls, {each:.2f} ms each, {sum(seconds) / steps:.3%} of the steps")
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
