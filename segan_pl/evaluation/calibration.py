"""Whether probabilities mean what they say: expected calibration error and Brier score of a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.labels import LabelScheme
from segan_pl.evaluation.metrics.base import MaskPair, Metric
from segan_pl.evaluation.policies import NA, EmptyPolicy

BINS = 15
WHOLE = 255
"""What a probability of 1 is in a file of `segan_pl predict --probabilities true`."""
WHERE = "voxels where the probability or the reference is not 0"


class OfProbabilities(Metric):
    """A metric of probabilities, which masks do not hold: `calibration` fills its column."""

    unit, higher_is_better, bounds = "1", False, (0.0, 1.0)

    def score(self, masks: MaskPair, policy: EmptyPolicy) -> float:
        """Not available."""
        return NA


class ECE(OfProbabilities):
    """Expected calibration error (Naeini et al. 2015), of a region's probability against its frequency."""

    name, definition = "ece", f"{BINS} bins"
    meaning = f"mean gap of probability and frequency, over {WHERE}"


class Brier(OfProbabilities):
    """Brier score (1950) of a region."""

    name = "brier"
    meaning = f"mean squared gap of probability and reference, over {WHERE}"


METRICS: tuple[Metric, ...] = (ECE(), Brier())


def calibration(
    probability: NDArray[np.float32], reference: NDArray[np.bool_], judged: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """ECE and Brier score of one region of one case; NaN where probability and reference are 0 everywhere.

    Air would make every network look calibrated, so that voxels where both are 0 do not count.

    Args:
        probability: (D, H, W) from 0 to 1.
        reference: The same shape.
        judged: The voxels that may count; default all.
    """
    counted = (probability > 0) | reference
    counted = counted if judged is None else counted & judged
    p, y = probability[counted].astype(np.float64), reference[counted].astype(np.float64)
    if not p.size:
        return {metric.name: NA for metric in METRICS}
    place = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    # of each bin the sum of probabilities less that of the reference: its gap times its voxels
    gaps = np.bincount(place, p - y, BINS)
    return {"ece": float(np.abs(gaps).sum() / p.size), "brier": float(np.mean((p - y) ** 2))}


def region_channels(regions: Sequence[str], scheme: LabelScheme, predicted: LabelScheme) -> dict[str, tuple[str, ...]]:
    """Region to the channels whose probabilities add up to its own; a region that none do is left out.

    Args:
        regions: That are scored.
        scheme: With the regions, in the predictions' labels.
        predicted: The scheme whose channels were predicted.
    """
    found: dict[str, tuple[str, ...]] = {}
    members: Mapping[str, tuple[int, ...]] = dict(zip(scheme.channels, scheme.members, strict=True))
    for region in regions:
        if region in predicted.channels:
            found[region] = (region,)
            continue
        inside = [
            (channel, labels)
            for channel, labels in zip(predicted.channels, predicted.members, strict=True)
            if set(labels) <= set(members[region])
        ]
        whole = {label for _, labels in inside for label in labels} == set(members[region])
        # only channels that exclude each other add up
        if predicted.activation == "softmax" and whole:
            found[region] = tuple(channel for channel, _ in inside)
    return found
