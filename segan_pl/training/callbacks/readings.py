"""What the callbacks read from a trainer: scores, batches seen, and when a validation was."""

from __future__ import annotations

import math

import lightning.pytorch as pl
from torch import Tensor
from torch.optim import Optimizer

from segan_pl.evaluation.kept import Mode

# what Lightning takes as a logger's x axis when a module logs it: here the batches seen
AXIS = "step"
RATE = "lr/"
GRADIENT_NORM = "gradient_norm/"
OUTPUT_RANGE = "output_range/"
GAP_SPREAD = "gap_spread/"
AT_BOUND = "at_bound/"
HEALTH = "health/"


def readings(trainer: pl.Trainer) -> dict[str, float]:
    """Every scalar logged so far, latest value each, in the order of logging."""
    # Lightning's annotation says Tensor; a test's or a user's own module may log numbers.
    logged: dict[str, object] = {**trainer.callback_metrics}
    return {
        name: float(value)
        for name, value in logged.items()
        if name != AXIS and (isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1))
    }


def of_epoch(trainer: pl.Trainer, *, validated: bool) -> dict[str, float]:
    """The scalars that belong to the epoch that ends: scores only if it ended with a validation, else they are old."""
    return {name: value for name, value in readings(trainer).items() if validated or not name.startswith("val/")}


def optimizers_of(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Optimizer]:
    """Name of a network to its optimiser; none for a module of somebody else's, which names no networks."""
    return dict(zip(getattr(pl_module, "trained", ()), trainer.optimizers, strict=False))


def learning_rates(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
    """Those of the epoch that ends, by "lr/NETWORK": schedules step later."""
    optimizers = optimizers_of(trainer, pl_module)
    return {RATE + name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in optimizers.items()}


def batches_seen(trainer: pl.Trainer) -> int:
    """Training batches over all epochs, resumed ones included; `global_step` counts optimiser steps instead."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.completed


def batch_in_epoch(trainer: pl.Trainer) -> int | None:
    """Training batches of this epoch so far, at a validation within the epoch; None where it ends the epoch."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return None if progress.is_last_batch else progress.current.ready


def moment(epoch: int | None, batch: int | None) -> str:
    """When a validation was, in words: "epoch 3", or "epoch 3, batch 120" within it."""
    return f"epoch {epoch}" + ("" if batch is None else f", batch {batch}")


def improves(score: float, best: float | None, mode: Mode, min_delta: float = 0.0) -> bool:
    """Whether a score beats the best by more than `min_delta`; NaN never does."""
    if math.isnan(score):
        return False
    if best is None:
        return True
    return score - best > min_delta if mode == "max" else best - score > min_delta
