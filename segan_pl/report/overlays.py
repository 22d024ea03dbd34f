"""Pictures of the best, the median and the worst case of a region, read from images, masks and predictions on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.checks import labels_of
from segan_pl.data.io import Volume, read_channels, read_volume, same_grid
from segan_pl.data.labels import LabelScheme
from segan_pl.data.volume import Case, CaseError
from segan_pl.report.figures import as_png, overlay

PREFERRED = ("flair", "t2", "t1ce", "t1")


@dataclass(frozen=True)
class Overlay:
    """One picture.

    Attributes:
        case: Its name.
        region: Channel of the label scheme.
        rank: "best", "median" or "worst".
        score: Dice of the case and region.
        caption: What the picture shows, for those who cannot see it too.
        png: The file.
    """

    case: str
    region: str
    rank: str
    score: float
    caption: str
    png: bytes


def chosen(scores: Mapping[str, float]) -> dict[str, str]:
    """Rank to case: best, median and worst by score, ties by name; n/a is left out, few cases give fewer ranks."""
    ordered = sorted((-value, case) for case, value in scores.items() if not math.isnan(value))
    if not ordered:
        return {}
    places = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
    out: dict[str, str] = {}
    for rank, place in places.items():
        if ordered[place][1] not in out.values():
            out[rank] = ordered[place][1]
    return out


def draw(
    case: Case, prediction: Path, schemes: Sequence[LabelScheme], region: str, *, rank: str, score: float
) -> Overlay:
    """The slice that holds most of the region in the reference, or in the prediction where the reference has none.

    Args:
        case: With its images and its reference.
        prediction: The predicted file.
        schemes: What the reference's labels mean, and what the prediction's do.
        region: A channel of both.
        rank: "best", "median" or "worst".
        score: The case's Dice.

    Raises:
        CaseError: A file cannot be read, or grids differ.
    """
    modality = next(m for m in PREFERRED if m in case.images)
    image = volume_of(case.images[modality], case.channels.get(modality))
    assert case.mask is not None  # it was scored
    paths = (case.mask, prediction)
    reference, found = (
        _region(read_volume(path), image, scheme, region, case.name)
        for path, scheme in zip(paths, schemes, strict=True)
    )
    z = int((reference if reference.any() else found).sum((1, 2)).argmax())  # not where most is falsely found
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    figure = overlay(image.array[z], reference[z], found[z], aspect=float(spacing[1] / spacing[0]))
    caption = (
        f"{case.name}, {modality}, slice {z}: {region.upper()} reference (yellow, solid) and prediction (blue, "
        f"dashed), Dice {score:.3f}"
    )
    return Overlay(case.name, region, rank, score, caption, as_png(figure))


def volume_of(path: Path, channel: int | None) -> Volume:
    """A modality's volume: a file of its own, or one of the volumes in a 4-D file."""
    return read_volume(path) if channel is None else read_channels(path)[channel]


def _region(mask: Volume, image: Volume, scheme: LabelScheme, region: str, case: str) -> NDArray[np.bool_]:
    if not same_grid(mask, image):
        raise CaseError(f"{case}: mask and image lie on different grids; they cannot be drawn over each other")
    return scheme.encode(labels_of(mask, case))[scheme.channels.index(region)].astype(bool)
