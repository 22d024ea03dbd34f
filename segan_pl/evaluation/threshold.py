"""The simplest segmentor there is: one threshold on one modality. What a network must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segan_pl.evaluation.counts import mean_available

LEVELS = 501


def best_threshold(images: Sequence[NDArray], masks: Sequence[NDArray]) -> tuple[float, list[float]]:
    """The single threshold whose mean Dice over these very volumes is highest, and each volume's Dice at it.

    It is chosen on the volumes that it is scored on, so it flatters the threshold.

    Args:
        images: (D, H, W) each, intensities that compare between volumes.
        masks: (D, H, W) each, bool.

    Returns:
        Threshold and one Dice a volume (NaN where reference and prediction are empty).
    """
    edges = np.linspace(min(float(i.min()) for i in images), max(float(i.max()) for i in images), LEVELS)
    table = np.array([_dice_at(image, mask, edges) for image, mask in zip(images, masks, strict=True)])
    means = [mean_available(column.tolist())[0] for column in table.T]
    best = int(np.nanargmax(means))
    return float(edges[best]), table[:, best].tolist()


def _dice_at(image: NDArray, mask: NDArray, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dice of image >= edge for every edge, from two histograms."""
    bins = np.append(edges, np.inf)
    inside = np.histogram(image[mask].astype(np.float64), bins)[0][::-1].cumsum()[::-1]
    anywhere = np.histogram(image.astype(np.float64), bins)[0][::-1].cumsum()[::-1]
    with np.errstate(invalid="ignore"):
        return 2 * inside / (anywhere + int(mask.sum()))
