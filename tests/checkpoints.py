"""Small checkpoints of ours, whole or damaged, for tests that train nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from segan_pl.inference.checkpoint_file import FORMAT, KEY


def write_checkpoint(path: Path, epoch: int = 0, *, config: Mapping[str, Any] | str = "", batches: int = 0) -> Path:
    """A whole checkpoint that says how far it is and holds a configuration."""
    text = config if isinstance(config, str) else yaml.safe_dump(dict(config))
    ours = {"format": FORMAT, "data": {}, "batches_seen": batches or 4 * (epoch + 1), "config": text, "channels": {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": epoch, "weight": torch.arange(500.0), KEY: ours}, path)
    return path


def damage(path: Path, how: str) -> None:
    """Flip a byte of a weight, cut the file in half, or empty it."""
    data = bytearray(path.read_bytes())
    if how == "flipped":
        place = data.index(torch.arange(500.0).numpy().tobytes()) if len(data) < 50_000 else len(data) // 2
        data[place + 100] ^= 1
    path.write_bytes({"flipped": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b""}[how])
