"""The one scorer: a prediction and its reference on the same grid in, one record for each region out; knows no files.

Validation, `test` and `evaluate` all come here, so a checkpoint is chosen by exactly what is reported.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError
from segan_pl.data.labels import LabelScheme
from segan_pl.evaluation.metrics.base import Counted, CountMetric, MaskPair, Metric
from segan_pl.evaluation.metrics.named import evaluation_metrics
from segan_pl.evaluation.policies import POLICIES, Counts, EmptyPolicy
from segan_pl.evaluation.surface import box_of

Labels = NDArray[np.uint8]


class RegionScore(NamedTuple):
    """One region of one case.

    Attributes:
        region: Channel of the label scheme, e.g. "wt".
        counts: Over all voxels of the grid that are judged.
        values: Metric to value; NaN is not available.
    """

    region: str
    counts: Counts
    values: Mapping[str, float]


def score_case(
    prediction: Labels,
    reference: Labels,
    spacing_mm: tuple[float, float, float],
    metrics: Sequence[Metric] | None = None,
    *,
    scheme: LabelScheme,
    prediction_scheme: LabelScheme | None = None,
    regions: Sequence[str] | None = None,
    policy: EmptyPolicy = POLICIES["segan_cat"],
    ignored: NDArray[np.bool_] | None = None,
) -> list[RegionScore]:
    """Score a segmentation against its reference on the same grid.

    Args:
        prediction: (D, H, W) native labels.
        reference: The same shape.
        spacing_mm: (x, y, z), as `Volume.spacing_mm`.
        metrics: Default what `segan_pl evaluate` computes without options.
        scheme: The reference's native labels to channels.
        prediction_scheme: The prediction's, where it is labelled by another convention.
        regions: Channels of both schemes, in this order; default all of the reference's but the background.
        policy: What empty masks score.
        ignored: (D, H, W), voxels that are not judged: they leave both masks and every count. Default where the
            reference has a label that its scheme ignores.

    Raises:
        CaseError: The shapes differ, a scheme lacks a region, or a metric fails or is infinite.

    Example:
        Three of four tumour voxels are found, and one that is none.

        >>> from segan_pl.data.labels import label_scheme
        >>> prediction, reference = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
        >>> reference[0, 0, :4] = prediction[0, 0, 1:5] = 1
        >>> (tumour,) = score_case(prediction, reference, (1, 1, 1), scheme=label_scheme("binary"))
        >>> tumour.region, tumour.values["dice"]
        ('wt', 0.75)
    """
    if prediction.shape != reference.shape:
        raise CaseError(
            f"the prediction has shape {prediction.shape[::-1]}, the reference {reference.shape[::-1]}; predict on the "
            f"reference's grid"
        )
    metrics = evaluation_metrics() if metrics is None else metrics
    if ignored is None and scheme.ignore:
        ignored = scheme.ignored(reference)
    spacing = (spacing_mm[2], spacing_mm[1], spacing_mm[0])
    voxels, box = reference.size, box_of((prediction != 0) | (reference != 0))
    # of the volume, not of the box
    flat = tuple(axis for axis, size in enumerate(reference.shape) if size == 1)
    prediction, reference, judged = prediction[box], reference[box], None
    if ignored is not None:
        voxels, judged = voxels - int(np.count_nonzero(ignored)), ~ignored[box]
    found = []
    for region in regions or scheme.foreground:
        masks = (mask(prediction, prediction_scheme or scheme, region), mask(reference, scheme, region))
        one, other = masks if judged is None else (m & judged for m in masks)
        pair = MaskPair(one, other, spacing, voxels=voxels, flat=flat)
        values = _values(region, {metric.name: partial(metric.score, pair, policy) for metric in metrics})
        found.append(RegionScore(region, pair.counts, values))
    return found


def score_counts(
    counts: Mapping[str, Sequence[int]],
    spacing_mm: tuple[float, float, float],
    metrics: Sequence[CountMetric],
    *,
    policy: EmptyPolicy,
) -> list[RegionScore]:
    """What `score_case` finds, where somebody has counted the voxels already.

    Args:
        counts: Region to its true and false positives and negatives over the whole grid.
        spacing_mm: (x, y, z).
        metrics: That need no mask.
        policy: What empty masks score.

    Raises:
        CaseError: A metric fails or is infinite.
    """
    spacing = (spacing_mm[2], spacing_mm[1], spacing_mm[0])
    found = []
    for region, numbers in counts.items():
        counted = Counted(Counts(*numbers), spacing)
        values = _values(region, {metric.name: partial(metric.score, counted, policy) for metric in metrics})
        found.append(RegionScore(region, counted.counts, values))
    return found


def score_missing(
    reference: Labels,
    spacing_mm: tuple[float, float, float],
    metrics: Sequence[Metric] | None = None,
    *,
    scheme: LabelScheme,
    regions: Sequence[str] | None = None,
    policy: EmptyPolicy = POLICIES["segan_cat"],
    ignored: NDArray[np.bool_] | None = None,
) -> list[RegionScore]:
    """What a case without a prediction scores: of each metric the worst, also where the reference is empty.

    For nothing found is not the same as nothing handed in. The arguments are those of `score_case`.
    """
    metrics = evaluation_metrics() if metrics is None else metrics
    nothing = np.zeros_like(reference)
    as_empty = score_case(
        nothing, reference, spacing_mm, metrics, scheme=scheme, regions=regions, policy=policy, ignored=ignored
    )
    return [
        score._replace(values={m.name: m.missing(score.values[m.name], policy) for m in metrics}) for score in as_empty
    ]


def _values(region: str, metrics: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Each metric's value by name; of one that fails or is infinite the error says which it is, and where it failed."""
    values = {}
    for name, score in metrics.items():
        try:
            value = score()
        except (CaseError, MemoryError):
            raise
        except Exception as error:  # anybody's code: the other cases of an evaluation are still finished
            last, why = traceback.extract_tb(error.__traceback__)[-1], f"{type(error).__name__}: {error}"
            raise CaseError(
                f"{region}: the metric {name} failed with {why} ({last.filename}, line {last.lineno}); correct it, or "
                f"leave it out"
            ) from error
        # no mean is over it, and no table holds it
        if math.isinf(value):
            raise CaseError(
                f"{region}: the metric {name} is {value}; expected a finite number, or NaN for not available"
            )
        values[name] = value
    return values


def mask(labels: Labels, scheme: LabelScheme, region: str) -> NDArray[np.bool_]:
    """One channel of native labels, bool of the same shape.

    Raises:
        CaseError: The scheme has no such channel.
    """
    if region not in scheme.channels:
        raise CaseError(f"'{scheme.name}' has no region '{region}'; expected one of {', '.join(scheme.foreground)}")
    channel: NDArray[np.bool_] = scheme.table()[scheme.channels.index(region)].astype(bool)[labels]
    return channel
