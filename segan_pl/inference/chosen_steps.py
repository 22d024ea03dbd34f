"""The post-processing that was chosen for a checkpoint, kept in a file next to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segan_pl.data.case import CaseError
from segan_pl.data.outputs import Kind, Output
from segan_pl.errors import UsageError
from segan_pl.inference.exported import ONNX, exported_steps
from segan_pl.inference.postprocessing import Choice, Step

SUFFIX = ".postprocess.json"


def companion(checkpoint: Path) -> Path:
    """Where a checkpoint's choice is kept."""
    return checkpoint.with_name(checkpoint.name + SUFFIX)


def write_companion(checkpoint: Path, choice: Choice, cases: Sequence[str]) -> Path:
    """Keep a choice next to its checkpoint, with the cases that it was made on; atomic."""
    content: dict[str, Any] = {
        "checkpoint": digest(checkpoint),
        "steps": [str(step) for step in choice.steps],
        "part": "val",
        "cases": sorted(cases),
        "dice_before": round(choice.before, 6),
        "dice_after": round(choice.after, 6),
        "tried": [{"steps": list(steps), "dice": round(dice, 6)} for steps, dice in choice.tried],
    }
    return companion_output(checkpoint).write(json.dumps(content, indent=1) + "\n")


def companion_output(checkpoint: Path) -> Output:
    """Where `write_companion` writes."""
    path = companion(checkpoint)
    kind = Kind("segan_pl postprocess", r'\{\s*"checkpoint": "[0-9a-f]{32}",\s*"steps": \[')
    # `predict` looks for this name
    return Output(path, kind, str(path), inputs=(checkpoint,), instead="")


def read_companion(checkpoint: Path) -> tuple[Step, ...] | None:
    """The steps that were chosen for a checkpoint; None where nothing was chosen. An ONNX file names its own.

    Raises:
        CaseError: The companion is damaged, or was made for another checkpoint.
    """
    if checkpoint.suffix.lower() == ONNX:
        return tuple(map(Step.parse, exported_steps(checkpoint)))
    path = companion(checkpoint)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        steps, made_for = tuple(Step.parse(text) for text in found["steps"]), found["checkpoint"]
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{path}: not readable ({error}); choose again with `segan_pl postprocess`") from error
    if made_for != digest(checkpoint):
        raise CaseError(f"{path}: was made for another checkpoint; remove it, or choose again")
    return steps


def chosen_steps(checkpoints: Sequence[Path | str]) -> tuple[Step, ...]:
    """The steps that were chosen for all of the checkpoints alike; none where nothing was chosen.

    Raises:
        UsageError: The choices differ.
        CaseError: As `read_companion`.
    """
    chosen = {read_companion(Path(path)) or () for path in checkpoints}
    if len(chosen) > 1:
        raise UsageError("the checkpoints' chosen post-processing differs; say which: --postprocess STEP ... or []")
    return next(iter(chosen), ())


def digest(checkpoint: Path) -> str:
    """Of the file's bytes."""
    return hashlib.blake2b(checkpoint.read_bytes(), digest_size=16).hexdigest()
