"""Metrics that need the masks: surface distances (see `evaluation.surface`) and lesions (see `evaluation.lesions`)."""

from __future__ import annotations

import math

import numpy as np

from segan_pl.evaluation.lesions import RULES, LesionRules
from segan_pl.evaluation.metrics.base import MaskPair, Metric
from segan_pl.evaluation.policies import UNMATCHED_MM, EmptyPolicy
from segan_pl.evaluation.surface import (
    DEFINITIONS,
    PERCENT,
    TOUCH_MM,
    Definition,
    weighted_percentile_mm,
)


class SurfaceDistance(Metric):
    """A distance in mm; where a mask is empty, and where a prediction is missing, it is the policy's."""

    unit = "mm"
    higher_is_better = False
    bounds = (0.0, math.inf)

    def empty(self, masks: MaskPair, policy: EmptyPolicy) -> float:
        """By the policy."""
        return policy.distance_mm(masks.counts.empty)

    def missing(self, as_empty: float, policy: EmptyPolicy) -> float:
        """That of an empty prediction, also where the reference is empty: nothing found is not nothing handed in."""
        return policy.distance_mm("prediction")


class HD95(SurfaceDistance):
    """The 95th percentile of the surface distances, by one of three definitions."""

    name = "hd95_mm"

    def __init__(self, definition: Definition = "monai") -> None:
        self.definition = definition
        self.meaning = DEFINITIONS[definition]

    def compute(self, masks: MaskPair) -> float:
        """By the definition."""
        if self.definition == "deepmind":
            return weighted_percentile_mm(masks.surface_elements, masks.element_distances)
        if self.definition == "medpy":
            return float(np.percentile(np.concatenate(masks.boundary_distances), PERCENT))
        return float(max(np.percentile(distances, PERCENT) for distances in masks.boundary_distances))


class MeanSurfaceDistance(SurfaceDistance):
    """The average symmetric surface distance."""

    name = "mean_surface_distance_mm"
    meaning = "mean over the boundary voxels of both masks together"

    def compute(self, masks: MaskPair) -> float:
        """Both directions' distances together."""
        return float(np.concatenate(masks.boundary_distances).mean())


class SurfaceDice(Metric):
    """The share of both surfaces within a tolerance of the other, each boundary voxel counting alike (MONAI)."""

    name = "surface_dice"
    unit = "1"
    higher_is_better = True
    bounds = (0.0, 1.0)
    meaning = "share of the boundary voxels of both masks"

    def __init__(self, tolerance_mm: float = 1.0) -> None:
        self.tolerance_mm = tolerance_mm
        self.definition = f"tolerance {tolerance_mm:g} mm"

    def compute(self, masks: MaskPair) -> float:
        """Of boundary voxels."""
        return float(np.mean(np.concatenate(masks.boundary_distances) <= self.tolerance_mm + TOUCH_MM))

    def empty(self, masks: MaskPair, policy: EmptyPolicy) -> float:
        """As Dice."""
        return policy.overlap(masks.counts.empty)[0]


class SurfaceDiceArea(SurfaceDice):
    """The same share of both surfaces' area in mm2 (Nikolov et al. 2018)."""

    name = "surface_dice_area"
    meaning = "share of the area in mm2 of both surfaces between voxel centres (surface-distance)"

    def compute(self, masks: MaskPair) -> float:
        """Of surface elements."""
        within_mm = self.tolerance_mm + TOUCH_MM
        pairs = zip(masks.surface_elements, masks.element_distances, strict=True)
        near = sum(float(surface.weight[distances <= within_mm].sum()) for surface, distances in pairs)
        return near / sum(float(surface.weight.sum()) for surface in masks.surface_elements)


class LesionMetric(Metric):
    """A field of `LesionScores`, which has rules of its own for empty masks."""

    place = 0

    def __init__(self, rules: LesionRules = RULES["gli"]) -> None:
        self.rules = rules
        self.definition = f"{rules.name} (dilations {rules.dilations}, left_out_up_to_mm3 {rules.least_mm3:g})"
        self.meaning = (
            f"BraTS 2023, {rules.name}: dilated {rules.dilations} times, up to {rules.least_mm3:g} mm3 left out, HD95 "
            f"by surface elements (deepmind), {UNMATCHED_MM:g} mm for a lesion missed or false"
        )

    def compute(self, masks: MaskPair) -> float:
        """By the challenge's rules."""
        return float(masks.lesions(self.rules)[self.place])

    def empty(self, masks: MaskPair, policy: EmptyPolicy) -> float:
        """By the challenge's rules too, whatever the policy."""
        return self.compute(masks)


class LesionDice(LesionMetric):
    """Mean Dice over the lesions that count and the false ones."""

    name = "lesion_dice"
    unit = "1"
    higher_is_better = True
    bounds = (0.0, 1.0)


class LesionHD95(LesionMetric):
    """The same mean of HD95."""

    name = "lesion_hd95_mm"
    unit = "mm"
    higher_is_better = False
    bounds = (0.0, math.inf)
    place = 1

    def missing(self, as_empty: float, policy: EmptyPolicy) -> float:
        """What a lesion that was missed has."""
        return UNMATCHED_MM


class LesionsFound(LesionMetric):
    """How many lesions that count a predicted component meets."""

    name = "lesions_found"
    decimals = 0
    place = 2


class LesionsMissed(LesionMetric):
    """How many none meets."""

    name = "lesions_missed"
    decimals = 0
    place = 3


class LesionsFalse(LesionMetric):
    """How many predicted components meet no lesion."""

    name = "lesions_false"
    decimals = 0
    place = 4
