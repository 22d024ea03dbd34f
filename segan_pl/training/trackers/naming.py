"""How a tracker knows a run again when its folder goes on."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path


def run_id(directory: Path) -> str:
    """An id that a continued folder finds again: its name, and a digest of its path, since names may repeat."""
    name = re.sub(r"[^\w.-]", "_", directory.name)[:48]
    return f"{name}-{hashlib.blake2b(str(directory.resolve()).encode(), digest_size=4).hexdigest()}"


def study_of(directory: Path) -> str | None:
    """The name of the study whose run trains in this folder, by which trackers group runs; None where it has none."""
    study = directory.parent.parent
    return study.name if directory.parent.name == "runs" and (study / "study.json").is_file() else None
