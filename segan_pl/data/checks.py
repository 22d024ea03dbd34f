"""One case's files, read and held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.io import Nonfinite, Volume, read_channels, read_volume, same_affine
from segan_pl.data.volume import Case, CaseError, Shape

MASK = "mask"
LABEL_TOLERANCE = 1e-3
OUTLIER, USUAL = 1000, 0.99
STRIPPED = 0.45  # an ellipsoid in its box leaves 0.48; 5 of 156 whole heads of TCGA-LGG have more, but no case in all


def read_case(case: Case, *, nonfinite: Nonfinite = "refuse") -> Iterator[tuple[str, Volume]]:
    """(modality, volume) one after another, then ("mask", volume) if there is one; all on the first one's grid.

    A volume can be dropped before the next is read: memory for one is enough, and its pages are used again. A 4-D file
    that holds several modalities is read once, and kept until the last of them.

    Args:
        case: Its `channels` say which volume of a 4-D file a modality is.
        nonfinite: NaN and Inf voxels of an image: "refuse", or "zero"; a mask with any is refused.

    Raises:
        CaseError: A file cannot be used, there is no image, or grids differ.
    """
    if not case.images:
        raise CaseError(f"{case.name}: no image found, expected at least one modality; complete the case or drop it")
    grid: _Grid | None = None
    for part, volume in _volumes(case, nonfinite):
        grid = grid or _Grid(part, volume.shape, volume.affine)
        grid.require(case.name, part, volume)
        yield part, volume
        del volume


def _volumes(case: Case, nonfinite: Nonfinite) -> Iterator[tuple[str, Volume]]:
    """Part and volume; a 4-D file once."""
    shared: tuple[Path, tuple[Volume, ...]] | None = None
    files = [*case.images.items(), *([(MASK, case.mask)] if case.mask else [])]
    for part, path in files:
        channel = case.channels.get(part)
        try:
            if channel is None:
                yield part, read_volume(path, nonfinite=nonfinite if part != MASK else "refuse")
                continue
            if shared is None or shared[0] != path:
                shared = (path, read_channels(path, nonfinite=nonfinite))
        except CaseError as error:
            raise CaseError(f"{case.name}: {error}") from error
        if channel >= len(shared[1]):
            raise CaseError(f"{case.name}: {path} has {len(shared[1])} volumes, {part} should be number {channel}")
        yield part, shared[1][channel]


def labels_of(mask: Volume, case: str) -> NDArray[np.uint8]:
    """A mask's voxels as uint8; floats within 1e-3 of an integer are rounded.

    Raises:
        CaseError: A voxel is fractional, negative or above 255.
    """
    array = mask.array
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f":
        whole = np.rint(array)
        if not (gap := float(np.abs(array - whole).max())) <= LABEL_TOLERANCE:  # so that NaN is refused too
            raise CaseError(
                f"{case}: the mask is off an integer by up to {gap:.3g}, expected labels; threshold it first"
            )
        array = whole
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise CaseError(f"{case}: the mask holds values from {low:g} to {high:g}, expected labels 0 to 255; mend it")
    return array.astype(np.uint8)


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
    usual = _usual(array)
    if max(abs(low), high) > OUTLIER * usual > 0:
        notes.append(f"an outlier of {high if high >= -low else low:g}, most voxels stay below {usual:g}")
    if not _stripped(array):
        notes.append("not skull-stripped, or no background of 0; a model trained on stripped images may fail")
    return notes


def _usual(array: NDArray) -> float:
    """What USUAL of the non-zero voxels stay below, of a sample; 0 where the sample has none."""
    sample = np.abs(array[::3, ::5, ::5].astype(np.float64))  # of int16, |-32768| is no int16
    sample = sample[sample > 0]
    place = int(USUAL * (sample.size - 1))
    return float(np.partition(sample, place)[place]) if sample.size else 0.0


def _stripped(array: NDArray) -> bool:
    """Whether at least STRIPPED of the voxels are exactly 0, as around a brain in its box."""
    sample = array[::2]
    return bool(np.count_nonzero(sample) <= (1 - STRIPPED) * sample.size)


def duplicates(digests: Mapping[str, str]) -> list[str]:
    """A note for each part of a case whose file has the same content as an earlier part's."""
    seen: dict[str, str] = {}
    pairs = [(seen.setdefault(digest, part), part) for part, digest in digests.items()]
    return [f"{first} and {part} are the same file" for first, part in pairs if first != part]


@dataclass(frozen=True)
class _Grid:
    """What the first image of a case says of shape and place."""

    part: str
    shape: Shape
    affine: NDArray[np.float64]

    def require(self, case: str, part: str, volume: Volume) -> None:
        """Refuse a volume on another grid."""
        if volume.shape != self.shape:
            found, expected = f"shape {volume.shape[::-1]}", f"shape {self.shape[::-1]}"
        elif not same_affine(volume.affine, self.affine):
            found, expected = (f"affine {np.round(a[:3], 4).tolist()}" for a in (volume.affine, self.affine))
        else:
            return
        raise CaseError(
            f"{case}: {part} has {found}, {self.part} has {expected}; resample one of them or drop the case"
        )
