"""Every score of one case: two arrays of native labels in, one record a region out; knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.labels import LabelScheme
from segan_pl.data.volume import CaseError
from segan_pl.evaluation.lesions import LesionRules, lesion_scores
from segan_pl.evaluation.policies import POLICIES, UNMATCHED_MM, Counts, EmptyPolicy, scores
from segan_pl.evaluation.surface import Definition, box_of, surface_scores

OVERLAP = ("dice", "iou", "precision", "sensitivity", "specificity")
VOLUMES = ("reference_ml", "prediction_ml", "volume_difference_ml")
DISTANCES = ("hd95_mm", "mean_surface_distance_mm", "surface_dice")
LESION_COUNTS = ("lesions_found", "lesions_missed", "lesions_false")
LESIONS = ("lesion_dice", "lesion_hd95_mm", *LESION_COUNTS)
MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Measures:
    """What is computed, and how.

    Attributes:
        policy: What empty masks score.
        tolerance_mm: Of the surface Dice.
        hd95: Which definition of HD95.
        lesions: Score lesion by lesion too, by a challenge's rules.
    """

    policy: EmptyPolicy = POLICIES["segan_cat"]
    tolerance_mm: float = 1.0
    hd95: Definition = "monai"
    lesions: LesionRules | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the table, in order."""
        return (*OVERLAP, *VOLUMES, *DISTANCES, *(LESIONS if self.lesions else ()))


class RegionScore(NamedTuple):
    """One region of one case.

    Attributes:
        region: Channel of the label scheme, e.g. "wt".
        counts: Over all voxels of the grid.
        values: `Measures.names` to value; NaN is not available.
    """

    region: str
    counts: Counts
    values: Mapping[str, float]


def evaluate_case(
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    scheme: LabelScheme,
    spacing_mm: tuple[float, float, float],
    *,
    prediction_scheme: LabelScheme | None = None,
    regions: Sequence[str] | None = None,
    measures: Measures | None = None,
) -> list[RegionScore]:
    """Score a segmentation against its reference on the same grid.

    Args:
        prediction: (D, H, W) native labels.
        reference: The same shape.
        scheme: The reference's native labels to channels.
        spacing_mm: (x, y, z), as `Volume.spacing_mm`.
        prediction_scheme: The prediction's, where it is labelled by another convention.
        regions: Channels of both schemes, in this order; default all of the reference's but the background.
        measures: What is computed; by default everything but lesions, empty masks by SegAN-CAT's policy.

    Raises:
        CaseError: The shapes differ, or a scheme lacks a region.
    """
    if prediction.shape != reference.shape:
        raise CaseError(
            f"the prediction has shape {prediction.shape[::-1]}, the reference {reference.shape[::-1]}; predict on the "
            f"reference's grid"
        )
    measures, theirs = measures or Measures(), prediction_scheme or scheme
    spacing = (spacing_mm[2], spacing_mm[1], spacing_mm[0])
    voxels, box = reference.size, box_of((prediction != 0) | (reference != 0))
    flat = tuple(axis for axis, size in enumerate(reference.shape) if size == 1)  # of the volume, not of the box
    prediction, reference = prediction[box], reference[box]
    return [
        _region_score(
            region, mask(prediction, theirs, region), mask(reference, scheme, region), voxels, spacing, measures, flat
        )
        for region in regions or scheme.foreground
    ]


def failed_case(
    reference: NDArray[np.uint8],
    scheme: LabelScheme,
    spacing_mm: tuple[float, float, float],
    *,
    regions: Sequence[str] | None = None,
    measures: Measures | None = None,
) -> list[RegionScore]:
    """What a case without a prediction scores: each overlap 0, each distance the policy's for an empty prediction.

    So even where the reference is empty, too: nothing found is not the same as nothing handed in.

    Args:
        reference: (D, H, W) native labels.
        scheme: Native labels to channels.
        spacing_mm: (x, y, z).
        regions: Default all but the background.
        measures: As for `evaluate_case`.
    """
    measures = measures or Measures()
    nothing = np.zeros_like(reference)
    as_empty = evaluate_case(nothing, reference, scheme, spacing_mm, regions=regions, measures=measures)
    distance = measures.policy.distance_mm("prediction")
    worst = {**dict.fromkeys((*OVERLAP, "surface_dice"), 0.0), **dict.fromkeys(DISTANCES[:2], distance)}
    if measures.lesions:
        worst |= {"lesion_dice": 0.0, "lesion_hd95_mm": UNMATCHED_MM}
    return [score._replace(values={**score.values, **worst}) for score in as_empty]


def mask(labels: NDArray[np.uint8], scheme: LabelScheme, region: str) -> NDArray[np.bool_]:
    """One channel of native labels, bool of the same shape.

    Raises:
        CaseError: The scheme has no such channel.
    """
    if region not in scheme.channels:
        raise CaseError(f"'{scheme.name}' has no region '{region}'; expected one of {', '.join(scheme.foreground)}")
    return scheme.table()[scheme.channels.index(region)].astype(bool)[labels]


def _region_score(
    region: str,
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    voxels: int,
    spacing: tuple[float, float, float],
    measures: Measures,
    flat: tuple[int, ...],
) -> RegionScore:
    """One region from the box of its case; beyond the box both masks are empty."""
    tp, predicted, true = (int(np.count_nonzero(m)) for m in (prediction & reference, prediction, reference))
    counts = Counts(tp, predicted - tp, true - tp, voxels - predicted - true + tp)
    values = {**_overlap(counts, measures.policy), **_volumes(predicted, true, float(np.prod(spacing)))}
    values |= _distances(prediction, reference, counts, spacing, measures, flat)
    if measures.lesions:
        found = lesion_scores(prediction, reference, spacing, measures.lesions)
        values |= dict(zip(LESIONS, map(float, found), strict=True))
    return RegionScore(region, counts, values)


def _overlap(counts: Counts, policy: EmptyPolicy) -> dict[str, float]:
    found = scores(counts, policy)
    iou = found["dice"] / (2 - found["dice"])  # also of the policy's 1, 0 and n/a
    return {name: iou if name == "iou" else found[name] for name in OVERLAP}


def _volumes(predicted: int, true: int, voxel_mm3: float) -> dict[str, float]:
    ml = voxel_mm3 / MM3_PER_ML
    return dict(zip(VOLUMES, (true * ml, predicted * ml, (predicted - true) * ml), strict=True))


def _distances(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    counts: Counts,
    spacing: tuple[float, float, float],
    measures: Measures,
    flat: tuple[int, ...],
) -> dict[str, float]:
    if counts.empty != "neither":
        mm = measures.policy.distance_mm(counts.empty)
        dice = scores(counts, measures.policy)["dice"]
        return dict(zip(DISTANCES, (mm, mm, dice), strict=True))
    tolerance, definition = measures.tolerance_mm, measures.hd95
    found = surface_scores(prediction, reference, spacing, tolerance_mm=tolerance, definition=definition, flat=flat)
    return dict(zip(DISTANCES, found, strict=True))
