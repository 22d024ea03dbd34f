"""Voxel counts of one case, and the overlap scores made of them (specs of the field: Taha & Hanbury 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

METRICS = ("dice", "precision", "sensitivity", "specificity")
Situation = Literal["neither", "both", "reference", "prediction"]
"""Which mask of a case and region is empty."""

NA = math.nan


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

    Attributes:
        name: E.g. "segan_cat".
        both: (Dice, precision, sensitivity) when both masks are empty.
        reference: The same when only the reference is empty.
        prediction: The same when only the prediction is empty.
    """

    name: str
    both: tuple[float, float, float]
    reference: tuple[float, float, float]
    prediction: tuple[float, float, float]


POLICIES: Mapping[str, EmptyPolicy] = {
    policy.name: policy
    for policy in (
        EmptyPolicy("segan_cat", (NA, NA, NA), (0.0, 0.0, NA), (0.0, NA, 0.0)),
        EmptyPolicy("nnunet", (NA, NA, NA), (0.0, 0.0, NA), (0.0, NA, 0.0)),
        EmptyPolicy("brats2018", (1.0, NA, 1.0), (0.0, 0.0, NA), (0.0, NA, 0.0)),
    )
}


def confusion(mask: Tensor, target: Tensor) -> Tensor:
    """Counts a channel: TP, FP, FN, TN.

    Args:
        mask: (C, *spatial) bool, thresholded prediction.
        target: (C, *spatial) in {0, 1}.

    Returns:
        (C, 4) int64.
    """
    mask, target = mask.flatten(1), target.flatten(1).bool()
    voxels = mask.shape[1]
    tp = (mask & target).sum(1)
    predicted, reference = mask.sum(1), target.sum(1)
    fp, fn = predicted - tp, reference - tp
    return torch.stack([tp, fp, fn, voxels - tp - fp - fn], 1)


def scores(counts: Counts, policy: EmptyPolicy) -> dict[str, float]:
    """Dice, precision, sensitivity and specificity of one case and region; NaN where the policy says "n/a"."""
    tp, fp, fn, tn = counts
    specificity = tn / (tn + fp) if tn + fp else NA
    if counts.empty != "neither":
        dice, precision, sensitivity = getattr(policy, counts.empty)
    else:
        dice, precision, sensitivity = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp), tp / (tp + fn)
    return dict(zip(METRICS, (dice, precision, sensitivity, specificity), strict=True))


def mean_available(values: Sequence[float]) -> tuple[float, int]:
    """Mean over the values that are not NaN, and how many they are; (NaN, 0) when there is none."""
    there = [value for value in values if not math.isnan(value)]
    return (math.fsum(there) / len(there), len(there)) if there else (NA, 0)
