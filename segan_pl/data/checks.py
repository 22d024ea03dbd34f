"""One case's files, read and held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.io import Volume, read_volume, same_affine
from segan_pl.data.volume import Case, CaseError, Shape

MASK = "mask"
LABEL_TOLERANCE = 1e-3


def read_case(case: Case) -> Iterator[tuple[str, Volume]]:
    """(modality, volume) one after another, then ("mask", volume) if there is one; all on the first one's grid.

    A volume can be dropped before the next is read: memory for one is enough, and its pages are used again.

    Raises:
        CaseError: A file cannot be used, there is no image, or grids differ.
    """
    if not case.images:
        raise CaseError(f"{case.name}: no image found, expected at least one modality; complete the case or drop it")
    files = [*case.images.items(), *([(MASK, case.mask)] if case.mask else [])]
    grid: _Grid | None = None
    for part, path in files:
        try:
            volume = read_volume(path)
        except CaseError as error:
            raise CaseError(f"{case.name}: {error}") from error
        grid = grid or _Grid(part, volume.shape, volume.affine)
        grid.require(case.name, part, volume)
        yield part, volume
        del volume


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
        if (gap := float(np.abs(array - whole).max())) > LABEL_TOLERANCE:
            raise CaseError(
                f"{case}: the mask is off an integer by up to {gap:.3g}, expected labels; threshold it first"
            )
        array = whole
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise CaseError(f"{case}: the mask holds values from {low:g} to {high:g}, expected labels 0 to 255; mend it")
    return array.astype(np.uint8)


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
