"""What the callbacks read from a trainer: scores, batches seen, and durations in words."""

from __future__ import annotations

import math
from typing import Literal

import lightning.pytorch as pl
from torch import Tensor

Mode = Literal["max", "min"]

AXIS = "step"  # what Lightning takes as a logger's x axis when a module logs it: here the batches seen


def readings(trainer: pl.Trainer) -> dict[str, float]:
    """Every scalar logged so far, latest value each, in the order of logging."""
    values = {name: value for name, value in trainer.callback_metrics.items() if name != AXIS and _is_scalar(value)}
    return {name: float(value) for name, value in values.items()}


def _is_scalar(value: object) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, (int, float))


def batches_seen(trainer: pl.Trainer) -> int:
    """Training batches over all epochs, resumed ones included; `global_step` counts optimiser steps instead."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.completed


def improves(score: float, best: float | None, mode: Mode, min_delta: float = 0.0) -> bool:
    """Whether a score beats the best by more than `min_delta`; NaN never does."""
    if math.isnan(score):
        return False
    if best is None:
        return True
    return score - best > min_delta if mode == "max" else best - score > min_delta


def duration(seconds: float | None) -> str:
    """Seconds in words, two units at most: "8 s", "3 min 05 s", "2 h 10 min"; "?" where unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
