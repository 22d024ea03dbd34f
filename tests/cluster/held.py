"""A callback for configurations of the tests: training waits at a place until a signal comes."""

from __future__ import annotations

import os
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from segan_pl.training.run.signals import active


class Hold(Callback):
    """Waits before a batch of training or a case of validation, where the signal that follows always finds it.

    HOLDS names a place for each start of a job: "train 0 2;validation 1 0" (epoch, batch), or "start 1": the second
    batch since the start; after the last one nothing waits.
    """

    def __init__(self) -> None:
        self.seen = 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._hold(f"train {trainer.current_epoch} {batch_idx}")
        self._hold(f"start {self.seen}")
        self.seen += 1

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.sanity_checking:
            self._hold(f"validation {trainer.current_epoch} {batch_idx}")

    def _hold(self, place: str) -> None:
        places = os.environ.get("HOLDS", "").split(";")
        start = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if place != (places[start] if start < len(places) else ""):
            return
        print(f"held at {place}", flush=True)
        while not (active().stop or active().save):
            time.sleep(0.02)
