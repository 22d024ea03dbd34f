"""Reading a checkpoint's file: whole, and without running any code that it names."""

from __future__ import annotations

import pickle
import re
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from segan_pl.errors import UsageError
from segan_pl.evaluation.saved_files import settings_of

FORMAT = 3
KEY = "segan_pl"
READERS = {1: "8b3100a", 2: "84b36fc"}
"""By an earlier format, the last commit that reads it."""
# What every zip archive, and so every file of torch.save since PyTorch 1.6, begins with.
ZIP = b"PK\x03\x04"
# Checkpoints of a folder that a message names.
SHOWN = 4


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; one line: the file, why, what to do."""


class NoCheckpointError(FileNotFoundError):
    """No file where a checkpoint was named; that was typed wrongly."""

    exit_code = 2


def other_format(found: Any) -> str:
    """What is said of a checkpoint whose format is not `FORMAT`."""
    reader = f"commit {READERS[found]} of segan_pl reads it" if found in READERS else "another version wrote it"
    return f"format {found}, this version reads format {FORMAT}; {reader}"


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
        raise NoCheckpointError(f"{source}: no such checkpoint; give one of a run's checkpoints/")
    with source.open("rb") as file:
        begin = file.read(len(ZIP))
    # a shorter beginning is a damaged checkpoint
    if not ZIP.startswith(begin):
        remedy = _others(source) or "; give a .ckpt of a run"
        raise CheckpointError(f"{source} is not a checkpoint (no zip archive){remedy}")
    return read_plain(source, map_location)


def own_part(checkpoint: Mapping[str, Any], source: Path | str) -> dict[str, Any]:
    """What `training.checkpoint` added.

    Raises:
        CheckpointError: It is not there, is of another version, or is incomplete.
    """
    ours = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(ours, dict):
        raise CheckpointError(f"{source}: no checkpoint of segan_pl; give one of a run's checkpoints/")
    if ours.get("format") != FORMAT:
        raise CheckpointError(f"{source}: {other_format(ours.get('format'))}")
    if lacking := [name for name in ("data", "batches_seen", "config", "channels") if name not in ours]:
        raise CheckpointError(f"{source}: lacks {', '.join(lacking)}; give another checkpoint of the run")
    return ours


def described_data(ours: Mapping[str, Any], source: Path | str) -> dict[str, Any]:
    """How a checkpoint of ours says that its data were prepared.

    Raises:
        CheckpointError: It lacks a part of that.
    """
    data = ours["data"] if isinstance(ours["data"], dict) else {}
    if lacking := [name for name in ("modalities", "labels", "preparation", "patch") if name not in data]:
        raise CheckpointError(f"{source}: does not say the {', '.join(lacking)} of its data; give another checkpoint")
    return data


def weights_of(network: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights in a checkpoint's state, named as in the network: averaged ones where the run kept them.

    Names are those of a run that was not compiled.
    """
    averaged, plain = f"averaged.{network}.module.", f"networks.{network}."
    prefix = averaged if any(key.startswith(averaged) for key in state) else plain
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key.replace("_orig_mod.", ""): value for key, value in found.items()}


def stored_settings(ours: Mapping[str, Any], source: Path | str) -> dict[str, Any]:
    """The configuration that a checkpoint of ours holds; empty where it holds none. Nothing that it names is imported.

    Args:
        ours: Its `own_part`.
        source: Named in errors.

    Raises:
        CheckpointError: It is no plain YAML mapping, e.g. holds tags that name classes.
    """
    if not ours["config"]:
        return {}
    try:
        return settings_of(str(ours["config"]))
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        text = textwrap.shorten(" ".join(str(error).split()), 160, placeholder=" ...")
        raise CheckpointError(
            f"{source}: the configuration in it cannot be read ({text}); give another checkpoint of the run"
        ) from error


def refuse_folder(path: Path, option: str = "") -> None:
    """Refuse a folder where a checkpoint is meant, naming those in it or in its checkpoints/, if there are any.

    Args:
        path: As typed; anything else than a folder passes.
        option: What the message begins with, e.g. "--finetuning.init_from ".

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
        # Foreign objects and random bytes both end here; only the first names a global.
        text = str(error)
        if "GLOBAL" not in text and "global" not in text.partition("\n")[2]:
            raise CheckpointError(_damaged(source, error)) from error
        name = text.partition("GLOBAL ")[2].split(" ")[0] or "a class"
        raise CheckpointError(
            f"{source}: holds {name}, which only running its code could restore; only tensors and plain values load"
        ) from error
    except (RuntimeError, EOFError, LookupError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise CheckpointError(_damaged(source, error)) from error


def _require_intact(source: Path) -> None:
    """Compare the checksums inside a checkpoint: torch.load does not, and takes a flipped bit for a weight."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise ValueError(f"checksum of {wrong} does not match")
        return
    with source.open("rb") as file:
        # an older form without checksums begins with other bytes
        if file.read(len(ZIP)) == ZIP:
            raise ValueError("the file is cut off")


def _damaged(source: Path, error: Exception) -> str:
    remedy = _others(source) or "; no other one in its folder is whole"
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    # The start of an error's text; a long sentence ends with a whole word.
    sentence = textwrap.shorten(re.split(r"(?<=\w)\. ", line)[0].removesuffix("."), 120, placeholder=" ...")
    return f"{source}: damaged checkpoint ({sentence}){remedy}"


def _others(source: Path) -> str:
    """What to try instead of a damaged checkpoint: the newest other whole one in its folder; "" where there is none."""
    others = [path for path in source.parent.glob("*.ckpt") if path != source]
    newest_first = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest_first:
        try:
            _require_intact(path)
        except (ValueError, RuntimeError, OSError, zipfile.BadZipFile, NotImplementedError):
            continue
        if path.stat().st_size > 0:
            return f"; try {path}"
    return ""
