"""Checkpoints that a kill, a full disk or a crash cannot destroy."""

from __future__ import annotations

import errno
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; one line: the file, why, what to do."""


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
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"{source}: no such checkpoint")
        try:
            _require_intact(source)
            return torch.load(source, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_why_unreadable(source, error)) from error
        except (RuntimeError, EOFError, LookupError, ValueError, AttributeError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{source}: damaged checkpoint ({_first_line(error)}){_others(source)}") from error

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


def _require_intact(source: Path) -> None:
    """Compare the checksums inside a checkpoint: torch.load does not, and takes a flipped bit for a weight."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise ValueError(f"checksum of {wrong} does not match")


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


def _why_unreadable(source: Path, error: Exception) -> str:
    """Foreign objects and random bytes both end in an UnpicklingError; only the first names a global."""
    text = str(error)
    if "GLOBAL" in text or "global" in text.partition("\n")[2]:
        name = text.partition("GLOBAL ")[2].split(" ")[0] or "a class"
        return f"{source}: holds {name}, which only running its code could restore; only tensors and plain values load"
    return f"{source}: damaged checkpoint ({_first_line(error)}){_others(source)}"


def _first_line(error: Exception) -> str:
    """The start of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _others(source: Path) -> str:
    """What to try instead of a damaged checkpoint: the newest other one beside it."""
    others = [path for path in source.parent.glob("*.ckpt") if path != source]
    newest = max(others, key=lambda path: path.stat().st_mtime, default=None)
    return "; there is no other one beside it" if newest is None else f"; try {newest}"
