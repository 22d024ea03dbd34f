"""Lesion by lesion: the Dice and HD95 of the BraTS 2023 challenges, by the rules of their script."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segan_pl.evaluation.policies import UNMATCHED_MM
from segan_pl.evaluation.surface import CORNERS, Surface, box_of, elements, weighted_hd95_mm

TOUCHING = np.ones((3, 3, 3), bool)
"""26 neighbours."""
# Files hold affines in single precision: 2 voxels of 1 mm3 may read 2.0000002 mm3.
VOLUME_SLACK = 1e-5
Labelled = NDArray[np.int32]


@dataclass(frozen=True)
class LesionRules:
    """What a challenge takes for one lesion, and which are too small to count.

    Attributes:
        name: E.g. "gli".
        dilations: Voxels, by 18 neighbours each time, that a reference lesion is grown by.
        least_mm3: Reference lesions of this volume or less leave the table.
    """

    name: str
    dilations: int
    least_mm3: float


RULES: Mapping[str, LesionRules] = {
    rules.name: rules
    for rules in (
        LesionRules("gli", 3, 50),
        LesionRules("ssa", 3, 50),
        LesionRules("ped", 3, 50),
        LesionRules("men", 1, 50),
        LesionRules("met", 1, 2),
    )
}


class LesionScores(NamedTuple):
    """One case and region.

    Attributes:
        dice: Mean over the lesions that count and the false ones.
        hd95_mm: The same mean; 374 for each that was missed or is false.
        found: Lesions that count and that a predicted component meets.
        missed: Lesions that count and that none meets.
        false: Predicted components that meet no lesion, of whatever volume.
    """

    dice: float
    hd95_mm: float
    found: int
    missed: int
    false: int


def lesion_scores(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    rules: LesionRules,
) -> LesionScores:
    """Score each reference lesion with the predicted components that meet it, dilated (specs of BraTS 2023).

    Args:
        prediction: (D, H, W).
        reference: The same shape.
        spacing: (z, y, x), mm.
        rules: Of the challenge.
    """
    lesions, components, predicted, counted, taken = _matched(prediction, reference, spacing, rules)
    total = len(counted) + (false := predicted - len(taken))
    if not total:
        return LesionScores(1.0, 0.0, 0, 0, 0)
    # false components may lie far off: the rest goes on in the box of the lesions and what meets one
    keep = np.zeros(predicted + 1, bool)
    keep[list(taken)] = True
    components = np.where(keep[components], components, 0)
    box = box_of((lesions > 0) | (components > 0))
    lesions, components = lesions[box], components[box]
    dice = sum(_dices(lesions, components, counted)) / total
    # no cube of eight voxels holds two components (all its voxels touch), so each surface is taken once and parted
    references, predictions = _Parted(lesions, spacing), _Parted(components, spacing)
    hd95_mm = [
        weighted_hd95_mm(references.of([number]), predictions.of(own), spacing) if own else UNMATCHED_MM
        for number, own in counted.items()
    ]
    hd95 = (sum(hd95_mm) + false * UNMATCHED_MM) / total
    found = sum(map(bool, counted.values()))
    return LesionScores(dice, hd95, found, len(counted) - found, false)


class Lesion(NamedTuple):
    """One lesion of the reference that counts, or one predicted component that meets none.

    Attributes:
        volume_ml: Of the lesion, or of the false component.
        dice: With the union of its components; 0 where none meets it; NaN of a false component.
        found: Whether a component meets it; None of a false component.
        voxel: (z, y, x) of the voxel of it that is nearest to its middle.
    """

    volume_ml: float
    dice: float
    found: bool | None
    voxel: tuple[int, int, int]


def each_lesion(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    rules: LesionRules,
) -> list[Lesion]:
    """What `lesion_scores` counts, one by one: the lesions that count, then the false components; each largest first.

    Args:
        prediction: (D, H, W).
        reference: The same shape.
        spacing: (z, y, x), mm.
        rules: Of the challenge.
    """
    lesions, components, predicted, counted, taken = _matched(prediction, reference, spacing, rules)
    voxel_ml = float(np.prod(spacing)) / 1000
    boxes, others = ndimage.find_objects(lesions), ndimage.find_objects(components)
    sizes, found = np.bincount(lesions.ravel()), np.bincount(components.ravel(), minlength=predicted + 1)
    dices = dict(zip(counted, _dices(lesions, components, counted), strict=True))
    true = [
        Lesion(sizes[n] * voxel_ml, dices[n], bool(own), _middle(lesions, n, boxes[n - 1], rules.dilations))
        for n, own in counted.items()
    ]
    false = [
        Lesion(found[n] * voxel_ml, math.nan, None, _middle(components, n, others[n - 1], rules.dilations))
        for n in range(1, predicted + 1)
        if n not in taken
    ]
    return [*sorted(true, key=lambda one: -one.volume_ml), *sorted(false, key=lambda one: -one.volume_ml)]


def _middle(labelled: Labelled, number: int, box: tuple[slice, ...], padding: int) -> tuple[int, int, int]:
    """A voxel of a label, in the volume before it was padded."""
    there = np.argwhere(labelled[box] == number)
    nearest = there[((there - there.mean(0)) ** 2).sum(1).argmin()]
    z, y, x = (int(at) + side.start - padding for at, side in zip(nearest, box, strict=True))
    return z, y, x


def _matched(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    rules: LesionRules,
) -> tuple[Labelled, Labelled, int, dict[int, list[int]], set[int]]:
    """Lesions and predicted components, padded by the dilations, and which meet.

    Returns:
        Both volumes, how many components there are, the lesions that count with their components, and the components
        that meet any lesion.
    """
    # room to grow
    prediction, reference = (np.pad(mask, rules.dilations) for mask in (prediction, reference))
    lesions, (components, predicted) = lesions_of(reference, rules.dilations), ndimage.label(prediction, TOUCHING)
    # Each lesion's predicted components: those that the lesion alone, dilated, meets; one can belong to several.
    met: dict[int, list[int]] = {}
    for number, around in enumerate(ndimage.find_objects(lesions), 1):
        wide = _widened(around, rules.dilations)
        inside = components[wide][dilated(lesions[wide] == number, rules.dilations)]
        met[number] = [int(component) for component in np.unique(inside) if component]
    sizes = np.bincount(lesions.ravel())
    least = rules.least_mm3 * (1 + VOLUME_SLACK)
    counted = {n: own for n, own in met.items() if sizes[n] * float(np.prod(spacing)) > least}
    return lesions, components, predicted, counted, {component for own in met.values() for component in own}


def lesions_of(reference: NDArray[np.bool_], dilations: int) -> Labelled:
    """Number the lesions of a (D, H, W) mask; components whose dilations touch are one lesion."""
    lesions = np.zeros(reference.shape, np.int32)
    box = _widened(box_of(reference), dilations)
    grown, _ = ndimage.label(dilated(reference[box], dilations), TOUCHING)
    lesions[box] = np.where(reference[box], grown, 0)
    return lesions


def _widened(box: tuple[slice, ...], voxels: int) -> tuple[slice, ...]:
    """A box with so many voxels more on each side, where there are any."""
    return tuple(slice(max(0, side.start - voxels), side.stop + voxels) for side in box)


def dilated(mask: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    """Grow a mask by its 18 neighbours, `times` times.

    The 19 offsets are three crossing squares, and a square is a step along one axis after a step along another.
    """
    for _ in range(times):
        along = [_stepped(mask, axis) for axis in range(3)]
        mask = _stepped(along[0], 1) | _stepped(along[0], 2) | _stepped(along[1], 2)
    return mask


def _stepped(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """A mask with its neighbours on both sides along one axis."""
    out = mask.copy()
    here, there = [slice(None)] * 3, [slice(None)] * 3
    here[axis], there[axis] = slice(1, None), slice(None, -1)
    out[tuple(here)] |= mask[tuple(there)]
    out[tuple(there)] |= mask[tuple(here)]
    return out


def _dices(lesions: Labelled, components: Labelled, met: Mapping[int, list[int]]) -> list[float]:
    """Dice of each lesion and the union of its components; 0 without any."""
    sizes, predicted = np.bincount(lesions.ravel()), np.bincount(components.ravel())
    both, base = (lesions > 0) & (components > 0), len(predicted)
    keys, counts = np.unique(lesions[both].astype(np.int64) * base + components[both], return_counts=True)
    shared = {divmod(key, base): count for key, count in zip(keys.tolist(), counts.tolist(), strict=True)}
    return [
        2 * sum(shared.get((number, c), 0) for c in own) / (int(sizes[number]) + sum(int(predicted[c]) for c in own))
        for number, own in met.items()
    ]


class _Parted:
    """The surface of a labelled volume, by label."""

    def __init__(self, labelled: Labelled, spacing: tuple[float, float, float]) -> None:
        surface = elements(labelled > 0, spacing)
        padded = np.pad(labelled, 1)
        eight = [padded[tuple((surface.places + corner).T)] for corner in CORNERS]
        label = np.maximum.reduce(eight)
        order = np.argsort(label, kind="stable")
        self.surface = Surface(surface.places[order], surface.weight[order])
        self.ends = np.searchsorted(label[order], np.arange(int(labelled.max()) + 2))

    def of(self, labels: list[int]) -> Surface:
        """The elements of these labels."""
        parts = [slice(self.ends[label], self.ends[label + 1]) for label in labels]
        return Surface(*(np.concatenate([column[part] for part in parts]) for column in self.surface))
