"""Which post-processing helps, found on validation cases only, and kept in the checkpoint's companion file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.labels import LabelScheme
from segan_pl.data.volume import CaseError
from segan_pl.errors import UsageError
from segan_pl.files import write_whole
from segan_pl.inference.postprocessing import Step, postprocess

GAIN = 1e-4  # a step must raise the mean Dice by more than this to be kept
SUFFIX = ".postprocess.json"


@dataclass(frozen=True)
class Pair:
    """One validation case.

    Attributes:
        name: The case's name.
        prediction: (D, H, W) uint8 native labels.
        reference: The same.
        voxel_ml: Volume of a voxel.
    """

    name: str
    prediction: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    voxel_ml: float


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what was tried.

    Attributes:
        steps: Kept, in order; may be none.
        before: Mean Dice over cases and regions without any.
        after: With those kept.
        tried: (steps, mean Dice) of everything that was scored, in order.
    """

    steps: tuple[Step, ...]
    before: float
    after: float
    tried: tuple[tuple[tuple[str, ...], float], ...]


def choose(pairs: Sequence[Pair], candidates: Sequence[Step], scheme: LabelScheme) -> Choice:
    """Add the candidate that raises the mean Dice most, again and again, until none does by more than GAIN.

    Of steps with one name at most one is kept. Both masks empty score 1, since a step may be there to empty one.

    Args:
        pairs: Validation cases; at least one.
        candidates: Tried on top of what is kept, in this order.
        scheme: Says which regions are scored.

    Raises:
        CaseError: There is no case.
    """
    if not pairs:
        raise CaseError("no validation case with a prediction; predict the validation cases first")
    kept: tuple[Step, ...] = ()
    before = best = mean_dice(pairs, kept, scheme)
    tried: list[tuple[tuple[str, ...], float]] = [((), before)]
    while left := [step for step in candidates if step.name not in {one.name for one in kept}]:
        scored = [(mean_dice(pairs, (*kept, step), scheme), (*kept, step)) for step in left]
        tried += [(tuple(map(str, steps)), dice) for dice, steps in scored]
        dice, steps = max(scored, key=lambda pair: pair[0])  # the first of equals
        if dice <= best + GAIN:
            break
        best, kept = dice, steps
    return Choice(kept, before, best, tuple(tried))


def mean_dice(pairs: Sequence[Pair], steps: Sequence[Step], scheme: LabelScheme) -> float:
    """Mean over cases and scored regions."""
    regions = [scheme.channels.index(region) for region in scheme.foreground]
    found = []
    for pair in pairs:
        label = postprocess(pair.prediction, steps, convention=scheme.convention, voxel_ml=pair.voxel_ml)
        prediction, reference = scheme.encode(label)[regions], scheme.encode(pair.reference)[regions]
        found += [_dice(p > 0, r > 0) for p, r in zip(prediction, reference, strict=True)]
    return math.fsum(found) / len(found)


def companion(checkpoint: Path) -> Path:
    """Where a checkpoint's choice is kept."""
    return checkpoint.with_name(checkpoint.name + SUFFIX)


def write_companion(checkpoint: Path, choice: Choice, cases: Sequence[str]) -> Path:
    """Keep a choice beside its checkpoint, with the cases that it was made on; atomic."""
    content: dict[str, Any] = {
        "checkpoint": digest(checkpoint),
        "steps": [str(step) for step in choice.steps],
        "part": "val",
        "cases": sorted(cases),
        "dice_before": round(choice.before, 6),
        "dice_after": round(choice.after, 6),
        "tried": [{"steps": list(steps), "dice": round(dice, 6)} for steps, dice in choice.tried],
    }
    path = companion(checkpoint)
    write_whole(path, json.dumps(content, indent=1) + "\n")
    return path


def read_companion(checkpoint: Path) -> tuple[Step, ...] | None:
    """The steps that were chosen for a checkpoint; None where nothing was chosen.

    Raises:
        CaseError: The companion is damaged, or was made for another checkpoint.
    """
    path = companion(checkpoint)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        steps, made_for = tuple(Step.parse(text) for text in found["steps"]), found["checkpoint"]
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{path}: not readable ({error}); choose anew with `segan_pl postprocess`") from error
    if made_for != digest(checkpoint):
        raise CaseError(f"{path}: was made for another checkpoint; remove it, or choose anew")
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


def _dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    total = int(prediction.sum()) + int(reference.sum())
    return 2 * int((prediction & reference).sum()) / total if total else 1.0
