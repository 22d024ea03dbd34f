"""Checkpoints that a kill, a full disk or a crash cannot destroy."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from segan_pl.checkpoint_file import read_checkpoint

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that the target is always the old file or the new one, whole.

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
    _sync_directory(target.parent)


def remove_leftovers(directory: Path) -> None:
    """Delete the temporary files of saves that were killed."""
    for leftover in directory.glob(".*.tmp-*"):
        leftover.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Force a rename to disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota is the error, or what led to it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
