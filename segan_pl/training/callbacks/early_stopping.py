"""Early stopping on a score of whole volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from segan_pl.errors import UsageError, nearest
from segan_pl.evaluation.kept import Mode
from segan_pl.training.callbacks.readings import batch_in_epoch, improves, moment, readings


class VolumeDiceStopping(Callback):
    """Stops after `patience` validations without improvement, and says after each how long it has waited.

    Args:
        monitor: A score that is logged in validation; refused before the first epoch if the module never logs it.
        patience: Validations without improvement before training stops (SegAN-CAT, section V: 300 epochs).
        min_delta: A score must beat the best by more than this.
        mode: Whether larger or smaller is better.

    Attributes:
        best_score: The best so far, None before the first validation.
        best_epoch: Its epoch, counted from 0.
        best_batch: Its batch in that epoch; None at the epoch's end.
        waited: Validations since then.
        stopped: Whether this callback ended the run.
    """

    def __init__(
        self, monitor: str = "val/dice_wt", patience: int = 300, *, min_delta: float = 0.0, mode: Mode = "max"
    ) -> None:
        if patience < 1:
            raise UsageError(f"patience is {patience}; expected at least 1 validation")
        if mode not in ("max", "min"):
            raise UsageError(f"mode is {mode!r}; expected 'max' or 'min'")
        self.monitor, self.patience, self.min_delta, self.mode = monitor, patience, min_delta, mode
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.best_batch: int | None = None
        self.waited = 0
        self.stopped = False

    @property
    def summary(self) -> str:
        """One sentence for the end of a run."""
        if self.best_score is None:
            return f"{self.monitor} was never available, so no epoch is the best"
        ending = f"stopped after {self.waited} validations" if self.stopped else f"{self.waited} validations ago"
        detail = f"{ending} without a better one" if self.stopped else ending
        return f"best {self.monitor} {self.best_score:.4f} at {moment(self.best_epoch, self.best_batch)}, {detail}"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a score that the module never logs, where the module says what it logs."""
        names = getattr(pl_module, "metric_names", None)
        known = list(names()) if callable(names) else None
        if known is not None and self.monitor not in known:
            raise UsageError(f"the score to monitor, {self.monitor!r}, is never logged; {nearest(self.monitor, known)}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once a run that had stopped already: called again, it must not train one more epoch."""
        if self.waited >= self.patience:
            self.stopped = trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the validation that just ended; all ranks follow rank 0's judgement."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        logged = readings(trainer)
        if self.monitor not in logged:
            raise UsageError(f"validation did not log {self.monitor!r}; {nearest(self.monitor, logged)}")
        message = self.judge(logged[self.monitor], trainer.current_epoch, batch_in_epoch(trainer))
        # an epoch's line says its score and the best; a validation within it has no other line
        if not getattr(trainer.progress_bar_callback, "says_epochs", False) or batch_in_epoch(trainer) is not None:
            pl_module.print(message)
        self.stopped = bool(trainer.strategy.broadcast(self.waited >= self.patience))
        if self.stopped:
            trainer.should_stop = True

    def judge(self, score: float, epoch: int, batch: int | None = None) -> str:
        """Take one validation's score in; returns what to say about it."""
        now = moment(epoch, batch)
        if improves(score, self.best_score, self.mode, self.min_delta):
            self.best_score, self.best_epoch, self.best_batch, self.waited = score, epoch, batch, 0
            return f"{self.monitor} {score:.4f} at {now}: the best so far"
        self.waited += 1
        found = "is not a number (nan)" if math.isnan(score) else f"{score:.4f}"
        best = (
            "none yet"
            if self.best_score is None
            else f"{self.best_score:.4f} at {moment(self.best_epoch, self.best_batch)}"
        )
        return (
            f"{self.monitor} {found} at {now}: no improvement, best {best}, "
            f"waited {self.waited} of {self.patience} validations"
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain values, so that a checkpoint loads with weights_only=True."""
        return {
            "monitor": self.monitor,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "best_batch": self.best_batch,
            "waited": self.waited,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on waiting where the checkpoint stopped, unless it watched another score; `patience` is this run's."""
        if state_dict["monitor"] != self.monitor:
            return
        self.best_score = state_dict["best_score"]
        self.best_epoch, self.best_batch = state_dict["best_epoch"], state_dict.get("best_batch")
        self.waited = state_dict["waited"]
