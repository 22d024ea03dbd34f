"""Which post-processing helps, found on validation cases only, and kept in the checkpoint's companion file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
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


Steps = tuple[Step, ...]
Score = Callable[[Sequence[Steps]], Sequence[float]]


@dataclass(frozen=True)
class Pair:
    """One validation case.

    Attributes:
        prediction: (D, H, W) uint8 native labels.
        reference: The same.
        voxel_ml: Volume of a voxel.
    """

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


def choose(score: Score, candidates: Sequence[Step]) -> Choice:
    """Add the candidate that raises the mean Dice most, again and again, until none does by more than GAIN.

    Of steps with one name at most one is kept.

    Args:
        score: Lists of steps to the mean Dice over cases and regions of each.
        candidates: Tried on top of what is kept, in this order.
    """
    kept: Steps = ()
    before = best = score([kept])[0]
    tried: list[tuple[tuple[str, ...], float]] = [((), before)]
    while left := [step for step in candidates if step.name not in {one.name for one in kept}]:
        longer = [(*kept, step) for step in left]
        scored = list(zip(score(longer), longer, strict=True))
        tried += [(tuple(map(str, steps)), dice) for dice, steps in scored]
        dice, steps = max(scored, key=lambda pair: pair[0])  # the first of equals
        if dice <= best + GAIN:
            break
        best, kept = dice, steps
    return Choice(kept, before, best, tuple(tried))


def mean_dice(dices: Iterable[Sequence[Sequence[float]]]) -> list[float]:
    """What `dices_of` gave for each case, in any order, to the mean over cases and regions, one a list of steps.

    Raises:
        CaseError: There is no case.
    """
    cases = list(dices)
    if not cases:
        raise CaseError("no validation case with a prediction; predict the validation cases first")
    return [math.fsum(chain(*one)) / sum(map(len, one)) for one in zip(*cases, strict=True)]


def dices_of(pair: Pair, lists: Sequence[Steps], scheme: LabelScheme) -> list[list[float]]:
    """Dice of each scored region after each list of steps; what several lists begin with is done once.

    Both masks empty score 1, since a step may be there to empty one.
    """
    done: dict[Steps, NDArray[np.uint8]] = {(): pair.prediction}
    for steps in lists:
        for end in range(1, len(steps) + 1):
            if steps[:end] not in done:
                last, before = steps[end - 1 : end], done[steps[: end - 1]]
                done[steps[:end]] = postprocess(before, last, convention=scheme.convention, voxel_ml=pair.voxel_ml)
    return [_dices(done[steps], pair.reference, scheme) for steps in lists]


def _dices(prediction: NDArray[np.uint8], reference: NDArray[np.uint8], scheme: LabelScheme) -> list[float]:
    """One a scored region, from the counts of each pair of labels."""
    inside = (prediction > 0) | (reference > 0)
    joint = np.bincount(prediction[inside].astype(np.uint16) << 8 | reference[inside], minlength=1 << 16)
    joint = joint.reshape(256, 256)
    table = scheme.table().astype(bool)
    rows = [table[scheme.channels.index(region)] for region in scheme.foreground]
    return [_dice(int(joint[row].sum()) + int(joint[:, row].sum()), int(joint[row][:, row].sum())) for row in rows]


def _dice(total: int, both: int) -> float:
    return 2 * both / total if total else 1.0


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
