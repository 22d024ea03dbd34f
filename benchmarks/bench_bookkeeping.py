"""What the callbacks of `fit` cost: previews, tables, checkpoints, progress, health; as a share of the whole epochs.

    OMP_NUM_THREADS=1 python -m benchmarks.bench_bookkeeping -c lgg_quick --root D --run.directory /tmp/run

takes the arguments of `segan_pl fit`, for two epochs or more. Wall-clock and CPU time of this process from the first
epoch's end to the last one's, since the first pays what is paid once. A validation's own time is that of the cases: it
is printed, and does not count.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from functools import wraps
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loops import _EvaluationLoop

from segan_pl.__main__ import main

VALIDATION = "validation"

SPENT: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
"""Wall-clock and CPU seconds by callback and hook, since the first epoch has ended."""
BEGAN: list[float] = []
INSIDE: list[str] = []
HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


def now() -> list[float]:
    return [time.perf_counter(), time.process_time()]


def timed(name: str, function: Any) -> Any:
    """The function, each of whose calls adds its seconds."""

    @wraps(function)
    def call(*arguments: Any, **more: Any) -> Any:
        if not BEGAN or INSIDE not in ([], [VALIDATION]):
            return function(*arguments, **more)
        INSIDE.append(name)
        before, within = now(), len(INSIDE) > 1
        try:
            return function(*arguments, **more)
        finally:
            INSIDE.pop()
            took = [end - start for end, start in zip(now(), before, strict=True)]
            SPENT[name] = [old + new for old, new in zip(SPENT[name], took, strict=True)]
            if within:  # a callback's share of a validation is not the validation's
                SPENT[VALIDATION] = [old - new for old, new in zip(SPENT[VALIDATION], took, strict=True)]

    return call


class Begin(Callback):
    """Starts the clock with the second epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Of the second epoch."""
        if trainer.current_epoch == 1:
            BEGAN.extend(now())


def run(arguments: list[str]) -> int:
    """One `fit`, then the table."""
    fit = L.Trainer.fit
    total = [0.0, 0.0]

    def clocked(trainer: L.Trainer, *given: Any, **more: Any) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for hook in HOOKS:
                if getattr(type(callback), hook) is not getattr(Callback, hook):
                    setattr(callback, hook, timed(f"{type(callback).__name__}.{hook}", getattr(callback, hook)))
        trainer.callbacks.insert(0, Begin())  # type: ignore[attr-defined]
        fit(trainer, *given, **more)
        total[:] = [end - start for end, start in zip(now(), BEGAN or now(), strict=True)]

    L.Trainer.fit = clocked  # type: ignore[method-assign]
    _EvaluationLoop.run = timed(VALIDATION, _EvaluationLoop.run)  # type: ignore[method-assign]
    if code := main(["fit", *arguments]):
        return code
    if not BEGAN:
        sys.exit("one epoch, which pays what is paid once; expected --trainer.max_epochs of 2 or more")
    validated = SPENT.pop(VALIDATION, [0.0, 0.0])
    wall, cpu = (whole - part for whole, part in zip(total, validated, strict=True))
    print(f"epochs after the first, validation apart: {wall:.2f} s, {cpu:.2f} CPU s; validation {validated[0]:.2f} s")
    for name, (seconds, of_cpu) in sorted(SPENT.items(), key=lambda item: -item[1][0])[:12]:
        print(f"{name}: {seconds:.3f} s, {of_cpu:.3f} CPU s, {seconds / wall:.2%}")
    seconds, of_cpu = (sum(entry[k] for entry in SPENT.values()) for k in (0, 1))
    print(f"all callbacks: {seconds / wall:.2%} of the wall clock, {of_cpu / cpu:.2%} of CPU time")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
