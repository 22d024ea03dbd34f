"""What a case's files are like before anything is done to them, and whether training cases were like it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.geometry import Geometry, leading, nearest_rotation

# An ellipsoid in its box leaves 0.48; 5 of 156 whole heads of TCGA-LGG have more, but no case in all.
STRIPPED = 0.45
# Beyond the coarsest and the finest voxel of training, along one axis.
SPACING_FACTOR = 1.5
# Beyond the brightest and the darkest case of training.
LEVEL_FACTOR = 10.0
# More than the most tilted case of training.
TILT_DEGREES = 15.0
"""From where on a case is unlike; docs/predict.md states them."""


@dataclass(frozen=True)
class Scan:
    """One case's files, as preparing met them.

    Attributes:
        spacing_mm: Of the voxels as stored, along (x, y, z) of what is prepared.
        orientation: Where the file's own x, y and z lead, e.g. "LPS".
        tilt_degrees: The largest angle between an axis of the file and the axis of the scanner next to it.
        zeros: Modality to the share of its voxels that are exactly 0; empty of an entry of an earlier version.
        levels: Modality to the intensities between which most of its voxels lie, by the preparation's own measure.
    """

    spacing_mm: tuple[float, float, float]
    orientation: str
    tilt_degrees: float
    zeros: Mapping[str, float]
    levels: Mapping[str, tuple[float, float]]


def zero_share(array: NDArray) -> float:
    """The share of voxels that are exactly 0, of every second slice; a few milliseconds a volume."""
    sample = array[::2]
    return 1 - np.count_nonzero(sample) / sample.size


def scan_of(
    geometry: Geometry, bounds: Mapping[str, Sequence[float]], zeros: Mapping[str, float], scaling: str
) -> Scan:
    """What is known of a case once it is prepared; no voxel is read.

    Args:
        geometry: Of the prepared volume.
        bounds: Modality to what its scaling was, see `scaling.Bounds`.
        zeros: Modality to its `zero_share`.
        scaling: Of the preparation: "zscore" has mean and deviation for bounds, all else two intensities.
    """
    affine = np.array(geometry.affine, np.float64)
    size = np.linalg.norm(affine[:3, :3], axis=0)  # x, y, z of the file
    x, y, z = (float(size[2 - geometry.order[axis]]) for axis in (2, 1, 0))
    cosines = np.abs(nearest_rotation(affine)).max(0)
    # Two intensities; of z-scores, which have mean and deviation, two deviations below and above the mean.
    zscore = scaling == "zscore"
    levels = {
        modality: (low - 2 * high, low + 2 * high) if zscore else (low, high)
        for modality, (low, high) in bounds.items()
    }
    return Scan(
        spacing_mm=(x, y, z),
        orientation=leading(affine),
        tilt_degrees=math.degrees(math.acos(min(1.0, float(cosines.min())))),
        zeros=dict(zeros),
        levels=levels,
    )


def seen(scans: Sequence[Scan], modalities: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint remembers of the cases that it learns from; plain values only.

    Args:
        scans: Of the training cases, at least one.
        modalities: Of the network.
    """
    spacings = np.array([scan.spacing_mm for scan in scans])
    zeros = [min(scan.zeros.values()) for scan in scans if scan.zeros]
    levels = {m: np.array([scan.levels[m] for scan in scans if m in scan.levels]) for m in modalities}
    return {
        "cases": len(scans),
        "spacing_mm": [spacings.min(0).tolist(), spacings.max(0).tolist()],
        "orientations": sorted({scan.orientation for scan in scans}),
        "tilt_degrees": max(scan.tilt_degrees for scan in scans),
        "zeros": [min(zeros), max(zeros)] if zeros else [],
        "levels": {
            m: [float(pairs[:, 0].min()), float(pairs[:, 1].min()), float(pairs[:, 1].max())]
            for m, pairs in levels.items()
            if len(pairs)
        },
        "absent": {m: lacking for m in modalities if (lacking := sum(m not in scan.levels for scan in scans))},
    }


def unlike(scan: Scan, seen: Mapping[str, Any], *, along_the_files: bool) -> list[str]:
    """In what a case is unlike the training cases, with both numbers; empty where it is in nothing.

    Args:
        scan: Of the case.
        seen: As `seen` made it.
        along_the_files: Whether nothing is reoriented, so that the order of a file's axes matters.
    """
    least, most = (tuple(one) for one in seen["spacing_mm"])
    found: list[str] = []
    outside = (
        not low / SPACING_FACTOR <= mm <= high * SPACING_FACTOR
        for mm, low, high in zip(scan.spacing_mm, least, most, strict=True)
    )
    if any(outside):
        found.append(
            f"voxels of {_product(scan.spacing_mm)} mm (trained on {_span(_product(least), _product(most))} mm)"
        )
    if along_the_files and scan.orientation not in seen["orientations"]:
        found.append(f"axes {scan.orientation} (trained on {', '.join(seen['orientations'])}, not reoriented)")
    if scan.tilt_degrees > seen["tilt_degrees"] + TILT_DEGREES:
        found.append(f"axes tilted by {scan.tilt_degrees:.0f} degrees (trained on {seen['tilt_degrees']:.0f} at most)")
    trained = seen["levels"]
    shares = []
    for modality, (low, high) in scan.levels.items():
        if modality not in trained:
            continue
        lowest, least, most = trained[modality]
        if high > most * LEVEL_FACTOR or high < least / LEVEL_FACTOR:
            shares.append(f"{modality} reaches {high:.3g} (trained on {_span(f'{least:.3g}', f'{most:.3g}')})")
        elif low < 0 <= lowest:
            shares.append(f"{modality} begins at {low:.3g} (trained on {lowest:.3g} and above)")
    return [*found, *_skull(scan, seen["zeros"], seen["levels"]), *shares]


def _skull(scan: Scan, trained: Sequence[float], modalities: Iterable[str]) -> list[str]:
    """Whether only one of the case and the training cases is stripped."""
    if not scan.zeros or not trained:
        return []
    share, (least, most) = min(scan.zeros.values()), trained
    shares = f"{share:.0%} of its voxels are 0 (trained on {_span(f'{least:.0%}', f'{most:.0%}')})"
    if share < STRIPPED <= least:
        return [f"not skull-stripped: {shares}"]
    # one image alone may be dark outside the head
    complete = all(modality in scan.zeros for modality in modalities)
    return [f"skull-stripped: {shares}"] if share >= STRIPPED > most and complete else []


def _product(sizes: Sequence[float]) -> str:
    return " x ".join(f"{mm:.3g}" for mm in sizes)


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
