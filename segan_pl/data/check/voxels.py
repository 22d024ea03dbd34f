"""What is odd in the voxels of an image, or of a mask against the images of its case."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.conventions import Convention
from segan_pl.data.io import Volume
from segan_pl.data.scan import STRIPPED, zero_share

# Share of the labelled voxels; 59 real masks of TCGA-LGG and BraTS 2021 have 0.
OUTSIDE = 0.01
# Share of the brain that is tumour; the same masks have at most 0.14.
FILLED = 0.5
# A maximum above so many times what so large a share of the non-zero voxels stays below.
OUTLIER, USUAL = 1000, 0.99


def mask_notes(mask: NDArray[np.uint8], inside: NDArray[np.bool_] | None, convention: Convention | None) -> list[str]:
    """Notes on a mask that labels everything, most of the brain as tumour, or voxels outside the brain.

    Args:
        mask: (D, H, W) native labels, at least one not 0.
        inside: (D, H, W), where any image of the case is not 0; None where no image lies on the mask's grid.
        convention: What the labels mean, or None.
    """
    labelled = mask != 0
    number = np.count_nonzero(labelled)
    if number == mask.size:
        return ["every voxel is labelled, none is background"]
    if inside is None or inside.shape != mask.shape or not (brain := np.count_nonzero(inside)):
        return []
    outside = np.count_nonzero(labelled & ~inside) / number
    notes = [f"{outside:.0%} of the labelled voxels lie where every image is 0"] if outside > OUTSIDE else []
    if convention and convention.tumour and number > FILLED * brain:  # else it cannot be, and need not be counted
        filled = np.count_nonzero(np.isin(mask, convention.tumour) & inside) / brain
        notes += [f"tumour fills {filled:.0%} of the voxels where an image is not 0"] if filled > FILLED else []
    return notes


def two_values(array: NDArray) -> tuple[float, float] | None:
    """The two values that an array consists of; None where it has more, or one alone.

    A sample is looked at first, so that an image of many values costs next to nothing.
    """
    low = high = 0.0
    for some in (array[::3, ::5, ::5], array):
        low, high = some.min(), some.max()
        if np.any((some != low) & (some != high)):
            return None
    return (float(low), float(high)) if low < high else None


def brain_notes(volume: Volume) -> list[str]:
    """What is odd in an image where 0 should mean outside the brain: negatives, outliers, a skull.

    Cheap on purpose: a 240x240x155 volume takes a few milliseconds. An outlier is a maximum above OUTLIER times what
    USUAL of the non-zero voxels stay below. An image is taken for stripped where STRIPPED of its voxels are exactly 0.
    """
    array = volume.array
    low, high = float(array.min()), float(array.max())
    notes = []
    if low < 0:
        notes.append(f"negative intensities, the least is {low:g}")
    # A sample; of int16, |-32768| is no int16.
    sample = np.abs(array[::3, ::5, ::5].astype(np.float64))
    sample = sample[sample > 0]
    place = int(USUAL * (sample.size - 1))
    usual = float(np.partition(sample, place)[place]) if sample.size else 0.0
    if max(abs(low), high) > OUTLIER * usual > 0:
        notes.append(f"an outlier of {high if high >= -low else low:g}, most voxels stay below {usual:g}")
    if zero_share(array) < STRIPPED:
        notes.append("not skull-stripped, or no background of 0; a model trained on stripped images may fail")
    return notes


def label_counts(mask: NDArray[np.uint8]) -> dict[int, int]:
    """Native label to its number of voxels, background first, which may be 0.

    Background is what the others leave: to count it one by one would take most of the time.
    """
    counts = np.bincount(mask[mask != 0])
    return {0: mask.size - int(counts.sum()), **{int(v): int(counts[v]) for v in np.flatnonzero(counts)}}
