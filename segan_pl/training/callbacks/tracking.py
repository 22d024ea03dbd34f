"""Tells the trackers what a run leaves in its folder: settings, pictures, the best scores and checkpoint."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from segan_pl.evaluation.kept import validation_name
from segan_pl.evaluation.saved_files import json_file, settings_of
from segan_pl.training.callbacks.checkpoint import BestCheckpoint
from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.training.callbacks.generated import SUFFIX
from segan_pl.training.callbacks.readings import batch_in_epoch
from segan_pl.training.trackers.tracker import Tracker


class Tracking(Callback):
    """Passes files on once they are written, so it comes after the callbacks that write them.

    Scalars reach the trackers from Lightning. Ranks other than the first have no tracker.

    Args:
        directory: The run's.
        config: Text of config.yaml.
        best_checkpoint: Whether the best checkpoint is passed on when training ends.
    """

    def __init__(self, directory: Path, config: str, *, best_checkpoint: bool = False) -> None:
        self.directory = directory
        self.config = config
        self.best_checkpoint = best_checkpoint

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What runs, and on what; environment.json is there by now."""
        facts = json_file(self.directory / "environment.json")
        facts.pop("earlier", None)
        for tracker in trackers_of(trainer):
            tracker.log_settings(settings_of(self.config), self.config, facts)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The picture of this validation, and its table of cases where it is the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        epoch, batch = trainer.current_epoch, batch_in_epoch(trainer)
        name = validation_name(epoch, batch)
        self._picture(trainer, pl_module, "previews", f"{name}.png")
        judges = [one for one in trainer.callbacks if isinstance(one, VolumeDiceStopping)]  # type: ignore[attr-defined]
        table = self.directory / "scores" / f"val_{name}.csv"
        if table.is_file() and any((judge.best_epoch, judge.best_batch) == (epoch, batch) for judge in judges):
            for tracker in trackers_of(trainer):
                tracker.log_cases(table, step_of(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The picture of generated patches, where a generator trains."""
        name = validation_name(trainer.current_epoch, None)
        self._picture(trainer, pl_module, "generated", f"{name}{SUFFIX}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The best checkpoint, where it is asked for and training came to its end."""
        kept = [one for one in trainer.checkpoint_callbacks if isinstance(one, BestCheckpoint) and one.best_model_path]
        if self.best_checkpoint and kept and (best := Path(kept[0].best_model_path)).is_file():
            for tracker in trackers_of(trainer):
                tracker.log_checkpoint(best)

    def _picture(self, trainer: pl.Trainer, pl_module: pl.LightningModule, name: str, file: str) -> None:
        if (picture := self.directory / "previews" / file).is_file():
            for tracker in trackers_of(trainer):
                tracker.log_picture(name, picture, step_of(pl_module))


def trackers_of(trainer: pl.Trainer) -> list[Tracker]:
    """A trainer's loggers that are trackers of ours."""
    return [logger for logger in trainer.loggers if isinstance(logger, Tracker)]


def step_of(pl_module: pl.LightningModule) -> int:
    """The trackers' axis: batches seen, as of the scalars."""
    return int(getattr(pl_module, "batches_seen", 0))
