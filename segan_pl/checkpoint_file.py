"""Reading a checkpoint's file: whole, and without running any code that it names."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; one line: the file, why, what to do."""


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's tensors and plain values; no file gets to run code.

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


def _require_intact(source: Path) -> None:
    """Compare the checksums inside a checkpoint: torch.load does not, and takes a flipped bit for a weight."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise ValueError(f"checksum of {wrong} does not match")


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
