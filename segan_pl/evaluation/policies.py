"""The voxel counts of one case and region, and what empty masks score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Situation = Literal["neither", "both", "reference", "prediction"]
"""Which mask of a case and region is empty."""

NA = math.nan
# of BraTS's 240 x 240 x 155 voxels of 1 mm
DIAGONAL_MM = 373.13
# BraTS 2023's script, in place of an infinite distance
UNMATCHED_MM = 374.0


class Counts(NamedTuple):
    """Voxels of one case and one region: true and false positives and negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def empty(self) -> Situation:
        """Which of the two masks has no voxel."""
        if self.tp + self.fn == 0:
            return "both" if self.fp == 0 else "reference"
        return "prediction" if self.tp + self.fp == 0 else "neither"


@dataclass(frozen=True)
class EmptyPolicy:
    """What an empty mask scores; NaN is "not available" and left out of means.

    IoU and surface Dice score what Dice does, the mean surface distance what HD95 does: ours, no challenge states them.

    Attributes:
        name: E.g. "segan_cat".
        both: (Dice, precision, sensitivity) when both masks are empty.
        reference: The same when only the reference is empty.
        prediction: The same when only the prediction is empty.
        distances: HD95 in mm when both are empty, only the reference, only the prediction.
    """

    name: str
    both: tuple[float, float, float]
    reference: tuple[float, float, float]
    prediction: tuple[float, float, float]
    distances: tuple[float, float, float] = (NA, NA, NA)

    def overlap(self, empty: Situation) -> tuple[float, float, float]:
        """(Dice, precision, sensitivity) where a mask is empty.

        Raises:
            ValueError: Neither is; then they follow from the counts.
        """
        return (self.both, self.reference, self.prediction)[("both", "reference", "prediction").index(empty)]

    def distance_mm(self, empty: Situation) -> float:
        """HD95 where a mask is empty.

        Raises:
            ValueError: Neither is; then the distance is measured.
        """
        return self.distances[("both", "reference", "prediction").index(empty)]

    def as_dict(self) -> dict[str, Any]:
        """What outputs state of it; null is "not available"."""
        names = ("dice", "precision", "sensitivity", "hd95_mm")
        described: dict[str, Any] = {"name": self.name}
        for place, situation in enumerate(("both", "reference", "prediction")):
            values = (*getattr(self, situation), self.distances[place])
            described[situation] = {n: None if math.isnan(v) else v for n, v in zip(names, values, strict=True)}
        return described

    def describe(self) -> str:
        """One line for people."""
        words = {"both": "both empty", "reference": "only the reference", "prediction": "only the prediction"}
        facts = self.as_dict()
        return f"{self.name}: " + "; ".join(
            f"{word}: " + ", ".join(f"{n} {'n/a' if v is None else f'{v:g}'}" for n, v in facts[situation].items())
            for situation, word in words.items()
        )


POLICIES: Mapping[str, EmptyPolicy] = {
    policy.name: policy
    for policy in (
        EmptyPolicy("segan_cat", (NA, NA, NA), (0.0, 0.0, NA), (0.0, NA, 0.0)),
        EmptyPolicy("nnunet", (NA, NA, NA), (0.0, 0.0, NA), (0.0, NA, 0.0)),
        EmptyPolicy("brats2018", (1.0, NA, 1.0), (0.0, 0.0, NA), (0.0, NA, 0.0)),
        # as later challenges describe it; not verified against a server
        EmptyPolicy("brats2021", (1.0, NA, NA), (0.0, 0.0, NA), (0.0, NA, 0.0), (0.0, DIAGONAL_MM, DIAGONAL_MM)),
        # the script's whole-volume scores; its lesion-wise ones have rules of their own (`lesions`)
        EmptyPolicy("brats2023", (1.0, NA, 1.0), (0.0, 0.0, 0.0), (0.0, NA, 0.0), (0.0, UNMATCHED_MM, UNMATCHED_MM)),
        EmptyPolicy("reciprocal", (1.0, NA, NA), (0.0, 0.0, NA), (0.0, NA, 0.0)),
    )
}


def mean_available(values: Sequence[float]) -> tuple[float, int]:
    """Mean over the values that are not NaN, and how many they are; (NaN, 0) when there is none."""
    there = [value for value in values if not math.isnan(value)]
    return (math.fsum(there) / len(there), len(there)) if there else (NA, 0)
