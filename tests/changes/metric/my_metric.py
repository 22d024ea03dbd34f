"""How far apart the centres of two masks are: a metric of my own."""

from __future__ import annotations

import math

import numpy as np

from segan_pl.evaluation.metrics import MaskPair, Metric


class CentreDistance(Metric):
    """Distance between the centres of mass of prediction and reference, in mm."""

    name, unit, higher_is_better, bounds = "centre_distance_mm", "mm", False, (0.0, math.inf)
    meaning = "distance between the centres of mass of prediction and reference"

    def compute(self, masks: MaskPair) -> float:
        """Of masks (D, H, W), neither of which is empty."""
        predicted, reference = (np.argwhere(mask).mean(0) for mask in (masks.prediction, masks.reference))
        return float(np.linalg.norm((predicted - reference) * masks.spacing_mm))
