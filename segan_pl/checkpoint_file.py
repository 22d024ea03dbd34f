"""Reading a checkpoint's file: whole, and without running any code that it names."""

from __future__ import annotations

import pickle
import re
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import torch

from segan_pl.errors import UsageError

ZIP = b"PK\x03\x04"  # what every zip archive, and so every file of torch.save since PyTorch 1.6, begins with
SHOWN = 4  # checkpoints of a folder


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; one line: the file, why, what to do."""


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's tensors and plain values; no file gets to run code.

    Raises:
        FileNotFoundError: There is no such file.
        UsageError: It is a folder.
        CheckpointError: The file is none of torch.save, is damaged, or holds objects that only running code could
            restore.
    """
    source = Path(path)
    refuse_folder(source)
    if not source.is_file():
        raise FileNotFoundError(f"{source}: no such checkpoint")
    with source.open("rb") as file:
        begin = file.read(len(ZIP))
    if not ZIP.startswith(begin):  # a shorter beginning is a damaged checkpoint
        remedy = _others(source) or "; give a .ckpt of a run"
        raise CheckpointError(f"{source} is not a checkpoint (no zip archive){remedy}")
    return read_plain(source, map_location)


def refuse_folder(path: Path, option: str = "") -> None:
    """Refuse a folder where a checkpoint is meant, naming those in it or in its checkpoints/, if there are any.

    Args:
        path: As typed; anything else than a folder passes.
        option: What the message begins with, e.g. "--init_from ".

    Raises:
        UsageError: It is a folder.
    """
    if not path.is_dir():
        return
    found = sorted(path.glob("*.ckpt")) or sorted(path.glob("checkpoints/*.ckpt"))
    more = f" and {len(found) - SHOWN} more" if found[SHOWN:] else ""
    remedy = f"give a checkpoint: {', '.join(map(str, found[:SHOWN]))}{more}" if found else "give a .ckpt of a run"
    raise UsageError(f"{option}{path}: is a folder{'' if found else ' without checkpoints'}; {remedy}")


def read_plain(source: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Tensors and plain values of a file of torch.save, also in the form before PyTorch 1.6.

    Raises:
        CheckpointError: The file is damaged, or holds objects that only running code could restore.
    """
    try:
        _require_intact(source)
        return torch.load(source, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_unreadable(source, error)) from error
    except (RuntimeError, EOFError, LookupError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise CheckpointError(_damaged(source, error)) from error


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
    return _damaged(source, error)


def _damaged(source: Path, error: Exception) -> str:
    remedy = _others(source) or "; there is no other one beside it"
    return f"{source}: damaged checkpoint ({_first_sentence(error)}){remedy}"


def _first_sentence(error: Exception) -> str:
    """The start of an error's text; a long sentence ends with a whole word."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return textwrap.shorten(re.split(r"(?<=\w)\. ", line)[0].removesuffix("."), 120, placeholder=" ...")


def _others(source: Path) -> str:
    """What to try instead of a damaged checkpoint: the newest other one beside it; "" where there is none."""
    others = [path for path in source.parent.glob("*.ckpt") if path != source]
    newest = max(others, key=lambda path: path.stat().st_mtime, default=None)
    return "" if newest is None else f"; try {newest}"
