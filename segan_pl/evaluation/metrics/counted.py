"""Metrics that need voxel counts alone: overlaps (Taha & Hanbury 2015) and volumes in ml."""

from __future__ import annotations

import math

from segan_pl.evaluation.metrics.base import Counted, CountMetric
from segan_pl.evaluation.policies import NA, EmptyPolicy


class Overlap(CountMetric):
    """A share between 0 and 1; an empty mask scores what the policy says."""

    unit = "1"
    higher_is_better = True
    bounds = (0.0, 1.0)
    place = 0  # among the policy's Dice, precision and sensitivity

    def empty(self, counted: Counted, policy: EmptyPolicy) -> float:
        """By the policy."""
        return policy.overlap(counted.counts.empty)[self.place]


class Dice(Overlap):
    """Twice the shared voxels over the voxels of both masks.

    >>> from segan_pl.evaluation.policies import Counts
    >>> Dice().compute(Counted(Counts(tp=3, fp=1, fn=1, tn=59), (1.0, 1.0, 1.0)))
    0.75
    """

    name = "dice"

    def compute(self, counted: Counted) -> float:
        """2 TP / (2 TP + FP + FN)."""
        tp, fp, fn, _ = counted.counts
        return 2 * tp / (2 * tp + fp + fn)


class IoU(Overlap):
    """Intersection over union, made of Dice, so that an empty mask scores what Dice does."""

    name = "iou"

    def compute(self, counted: Counted) -> float:
        """Dice / (2 - Dice)."""
        dice = Dice().compute(counted)
        return dice / (2 - dice)

    def empty(self, counted: Counted, policy: EmptyPolicy) -> float:
        """The same of the policy's 1, 0 or n/a."""
        dice = super().empty(counted, policy)
        return dice / (2 - dice)


class Precision(Overlap):
    """The share of the predicted voxels that are right."""

    name = "precision"
    place = 1

    def compute(self, counted: Counted) -> float:
        """TP / (TP + FP)."""
        return counted.counts.tp / (counted.counts.tp + counted.counts.fp)


class Sensitivity(Overlap):
    """The share of the reference's voxels that were found."""

    name = "sensitivity"
    place = 2

    def compute(self, counted: Counted) -> float:
        """TP / (TP + FN)."""
        return counted.counts.tp / (counted.counts.tp + counted.counts.fn)


class Specificity(Overlap):
    """The share of the other voxels that were left out; no policy speaks of it."""

    name = "specificity"

    def compute(self, counted: Counted) -> float:
        """TN / (TN + FP); not available where the reference fills the grid."""
        _, fp, _, tn = counted.counts
        return tn / (tn + fp) if tn + fp else NA

    def empty(self, counted: Counted, policy: EmptyPolicy) -> float:
        """The formula's."""
        return self.compute(counted)


class Volume(CountMetric):
    """A volume; an empty mask has 0 ml under every policy, and neither more nor less is better."""

    unit = "ml"
    bounds = (0.0, math.inf)

    def empty(self, counted: Counted, policy: EmptyPolicy) -> float:
        """The formula's."""
        return self.compute(counted)


class ReferenceVolume(Volume):
    """Of the reference."""

    name = "reference_ml"

    def compute(self, counted: Counted) -> float:
        """(TP + FN) voxels."""
        return (counted.counts.tp + counted.counts.fn) * counted.voxel_ml


class PredictionVolume(Volume):
    """Of the prediction."""

    name = "prediction_ml"

    def compute(self, counted: Counted) -> float:
        """(TP + FP) voxels."""
        return (counted.counts.tp + counted.counts.fp) * counted.voxel_ml


class VolumeDifference(Volume):
    """Prediction minus reference; the smaller its size, the better."""

    name = "volume_difference_ml"
    higher_is_better = False
    bounds = (-math.inf, math.inf)
    by_size = True
    meaning = "prediction minus reference"

    def compute(self, counted: Counted) -> float:
        """(FP - FN) voxels."""
        return (counted.counts.fp - counted.counts.fn) * counted.voxel_ml
