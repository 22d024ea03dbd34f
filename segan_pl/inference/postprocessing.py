"""Named steps that correct a segmentation on its native grid, and which of them help; none runs unless asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segan_pl.data.case import CaseError
from segan_pl.data.conventions import Convention
from segan_pl.data.labels import LabelScheme
from segan_pl.errors import UsageError, nearest
from segan_pl.evaluation.surface import box_of

ANY_NEIGHBOUR = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Step:
    """One step and its number, e.g. components below 0.5 ml.

    Attributes:
        name: A key of STEPS.
        volume_ml: What the step compares with, above 0; 0 where it compares nothing.
    """

    name: str
    volume_ml: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in STEPS:
            raise UsageError(f"--postprocess {self.name}: no such step; {nearest(self.name, STEPS)}")
        if self.name in COMPARING and not 0 < self.volume_ml < math.inf:
            raise UsageError(f"--postprocess {self}: expected a volume above 0 ml, e.g. {self.name}:0.5")
        if self.name not in COMPARING and self.volume_ml != 0:
            raise UsageError(f"--postprocess {self}: takes no volume; leave {self.volume_ml:g} out")

    @classmethod
    def parse(cls, text: str) -> Step:
        """From "name" or "name:ml".

        Raises:
            UsageError: No such step, or no number.
        """
        name, colon, volume = text.partition(":")
        try:
            return cls(name, float(volume) if colon else 0.0)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"--postprocess {text}: expected NAME or NAME:ml, e.g. small_components:0.5") from error

    def __str__(self) -> str:
        return f"{self.name}:{repr(float(self.volume_ml)).removesuffix('.0')}" if self.volume_ml else self.name

    def require_tissues(self, convention: Convention) -> None:
        """Raise UsageError where native labels do not tell apart what the step relabels."""
        if self.name == "small_enhancing" and not {"enhancing", "necrosis"} <= {name for name, _ in convention.tissues}:
            raise UsageError(f"--postprocess {self.name}: '{convention.name}' has no enhancing tumour and necrosis")


def postprocess(
    label: NDArray[np.uint8], steps: Sequence[Step], *, convention: Convention, voxel_ml: float
) -> NDArray[np.uint8]:
    """Carry out the steps, in order, on (D, H, W) native labels.

    Raises:
        UsageError: A step relabels tissues that the convention does not tell apart.
    """
    for step in steps:
        step.require_tissues(convention)
    if not steps or not label.any():
        return label
    # no step leaves the box of what is labelled
    box = box_of(label > 0)
    corrected = label[box]
    for step in steps:
        corrected = STEPS[step.name](corrected, step.volume_ml, convention, voxel_ml)
    out = np.zeros_like(label)
    out[box] = corrected
    return out


def small_components(label: NDArray[np.uint8], volume_ml: float, _: Convention, voxel_ml: float) -> NDArray[np.uint8]:
    """Set whole-tumour components (26 neighbours) below a volume to background."""
    components, count = ndimage.label(label > 0, ANY_NEIGHBOUR)
    if count == 0:
        return label
    small = np.bincount(components.ravel()) * voxel_ml < volume_ml
    small[0] = False
    return np.where(small[components], 0, label).astype(np.uint8)


def small_enhancing(
    label: NDArray[np.uint8], volume_ml: float, convention: Convention, voxel_ml: float
) -> NDArray[np.uint8]:
    """Relabel enhancing tumour as necrosis where the case has less of it than a volume (Isensee et al. 2018)."""
    tissues = dict(convention.tissues)
    enhancing = label == tissues["enhancing"]
    if enhancing.sum() * voxel_ml >= volume_ml:
        return label
    return np.where(enhancing, tissues["necrosis"], label).astype(np.uint8)


def fill_holes(label: NDArray[np.uint8], _: float, convention: Convention, __: float) -> NDArray[np.uint8]:
    """Label background that tumour encloses in 3-D like the labelled voxel nearest to it."""
    holes = ndimage.binary_fill_holes(label > 0) & (label == 0)
    if not holes.any():
        return label
    nearest_voxel = ndimage.distance_transform_edt(label == 0, return_distances=False, return_indices=True)
    return np.where(holes, label[tuple(nearest_voxel)], label).astype(np.uint8)


STEPS: dict[str, Callable[[NDArray[np.uint8], float, Convention, float], NDArray[np.uint8]]] = {
    "small_components": small_components,
    "small_enhancing": small_enhancing,
    "fill_holes": fill_holes,
}
COMPARING = ("small_components", "small_enhancing")
"""The steps with a volume."""


# A step must raise the mean Dice by more than this to be kept.
GAIN = 1e-4


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
    """What `dices_of` gave for each case, in any order, to means over cases and regions: one for each list of steps.

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
    """One for each scored region, from the counts of each pair of labels."""
    inside = ((prediction > 0) | (reference > 0)) & ~scheme.ignored(reference)
    joint = np.bincount(prediction[inside].astype(np.uint16) << 8 | reference[inside], minlength=1 << 16)
    joint = joint.reshape(256, 256)
    table = scheme.table().astype(bool)
    dices = []
    for row in (table[scheme.channels.index(region)] for region in scheme.foreground):
        total = int(joint[row].sum()) + int(joint[:, row].sum())
        dices.append(2 * int(joint[row][:, row].sum()) / total if total else 1.0)
    return dices
