"""The checkpoints of a run: which ones it keeps, and how they survive a kill, a full disk or a crash."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from segan_pl.evaluation.kept import Monitor, file_pattern
from segan_pl.inference.checkpoint_file import read_checkpoint
from segan_pl.training.callbacks.readings import batch_in_epoch


def checkpoints(folder: Path, monitor: Monitor | None, *, keep_best: int = 1, every: int = 1) -> list[ModelCheckpoint]:
    """The callbacks that write a run's checkpoints.

    Args:
        folder: Of the checkpoints.
        monitor: What chooses the best; None keeps the last checkpoint only.
        keep_best: How many best ones stay.
        every: Epochs between two validations.
    """
    best = [] if monitor is None else [BestCheckpoint(folder, monitor, keep_best=keep_best, every=every)]
    # A callback of its own for the last one: Lightning's save_last waits for the next improvement.
    return [*best, LastCheckpoint(folder)]


class _AtValidations(ModelCheckpoint):
    """Saves after each validation: at the epoch's end, or at once where the epoch goes on."""

    @property
    def state_key(self) -> str:
        """Lightning's own name, under which checkpoints of earlier versions hold the state."""
        return super().state_key.replace(type(self).__qualname__, "ModelCheckpoint", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the checkpoints that the folder holds; of another run's, which a new folder continues, none is ours."""
        here, names = Path(str(self.dirpath)), list(state_dict["best_k_models"])
        if state_dict["dirpath"] == str(here):
            super().load_state_dict(state_dict)
        elif names and all((here / Path(name).name).is_file() for name in names):  # the run was moved
            paths = ("best_model_path", "kth_best_model_path", "last_model_path")
            there = {name: str(here / Path(state_dict[name]).name) for name in paths if state_dict.get(name)}
            models = {str(here / Path(name).name): score for name, score in state_dict["best_k_models"].items()}
            moved = {**state_dict, **there, "dirpath": str(here), "best_k_models": models}
            super().load_state_dict(moved)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at once within an epoch, where Lightning would wait until the weights are others."""
        if not trainer.sanity_checking and trainer.state.fn == "fit" and batch_in_epoch(trainer) is not None:
            super().on_train_epoch_end(trainer, pl_module)


class BestCheckpoint(_AtValidations):
    """Keeps the checkpoints with the best scores, each with the weights that were scored.

    Args:
        folder: Where they lie.
        monitor: What chooses.
        keep_best: How many stay.
        every: Epochs between two validations.

    Attributes:
        elsewhere: The best checkpoint of the run that a new folder continues; None in a folder of its own.
    """

    def __init__(self, folder: Path, monitor: Monitor, *, keep_best: int = 1, every: int = 1) -> None:
        super().__init__(
            dirpath=folder,
            filename=file_pattern(monitor.name, None),
            auto_insert_metric_name=False,
            monitor=monitor.name,
            mode=monitor.mode,
            save_top_k=keep_best,
            every_n_epochs=every,
            save_on_train_epoch_end=True,
            # a name holds its moment: after a kill the same one is written again
            enable_version_counter=False,
        )
        self._scored = False
        self.elsewhere: Path | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember where the best checkpoint of the run lies that a new folder continues."""
        super().load_state_dict(state_dict)
        if not self.best_model_path and state_dict["best_model_path"]:
            self.elsewhere = Path(state_dict["best_model_path"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that the best of another run stays where it is."""
        super().on_train_start(trainer, pl_module)
        if self.elsewhere is not None:
            rank_zero_info(
                f"note: the run that this one continues has its best checkpoint at {self.elsewhere}; this folder keeps "
                f"the best of its own validations"
            )

    def on_train_batch_start(self, *args: Any) -> None:
        """The weights move on: a score of those before belongs to no later checkpoint."""
        self._scored = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save under a name with the batch, within an epoch."""
        self._scored = True
        self.filename = file_pattern(str(self.monitor), batch_in_epoch(trainer))
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save where the epoch ended with a validation."""
        if self._scored:
            super().on_train_epoch_end(trainer, pl_module)


class LastCheckpoint(_AtValidations):
    """Keeps last.ckpt, from which a run goes on: after every epoch and every validation within one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(dirpath=folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)


DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes next to the target and renames, so that the target is always the old file or the new one, whole.

    The temporary file lies in the same directory: Lightning's own goes to $TMPDIR first and is copied from there when
    that is another file system, which a kill can cut short. One process writes to a directory at a time (rank 0).

    Attributes:
        failures: One line for each checkpoint that a full disk kept from being written; the run should then end with
            a non-zero exit code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        self._keep = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; on a full disk keep the old one, warn, and remember it in `failures`."""
        if storage_options is not None:
            raise TypeError("storage_options are not supported; checkpoints are written to local files")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        try:
            write_atomically(checkpoint, target)
        except (OSError, RuntimeError) as error:  # torch wraps what a file raises in a RuntimeError of its own
            if not _is_disk_full(error):
                raise
            self._keep = True
            self.failures.append(f"{target}: the disk is full, this checkpoint was not written")
            warnings.warn(f"{self.failures[-1]}; earlier ones stay, training goes on", RuntimeWarning, stacklevel=2)
        else:
            self._keep = False

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; tensors and plain values only, whatever `weights_only` says: no file gets to run code.

        Raises:
            FileNotFoundError: There is no such file.
            CheckpointError: The file is damaged, or holds objects that only running code could restore.
        """
        return read_checkpoint(path, map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint, unless the one that should replace it could not be written."""
        if not self._keep:
            super().remove_checkpoint(path)


def write_atomically(checkpoint: dict[str, Any], target: Path) -> None:
    """Save to a temporary file in the target's directory, force it to disk, rename it, force the directory."""
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # Only this forces the rename to disk.
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Delete the temporary files of saves that were killed."""
    for leftover in directory.glob(".*.tmp-*"):
        leftover.unlink(missing_ok=True)


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota is the error, or what led to it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
