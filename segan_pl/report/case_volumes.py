"""A case's image, reference and prediction as arrays turned to LPS, read from the files of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Case, CaseError, pictured
from segan_pl.data.case_files import labels_of
from segan_pl.data.geometry import Geometry
from segan_pl.data.io import Volume, read_volume
from segan_pl.data.labels import LabelScheme
from segan_pl.evaluation.pairs import central
from segan_pl.report.case_pictures import lies_over, upright, volume_of

MOST_REGIONS = 8
"""Bits of a mask."""
LARGEST = 256
"""Voxels of a side that are shown; along a longer one every second, third, ..."""


@dataclass(frozen=True)
class Volumes:
    """Arrays (D, H, W) with the axes of LPS.

    Attributes:
        file: The reference's volume as it is stored, which images must lie over.
        turned: The way from there to LPS.
        regions: Names of the bits of both masks, from the lowest.
        reference: A bit for each region.
        prediction: The same; nothing is found where nothing is judged.
        ignored: Where nothing is judged.
        spacing: mm, (z, y, x).
        images: Modality to intensities, that which is drawn first.
    """

    file: Volume
    turned: Geometry
    regions: tuple[str, ...]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    ignored: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    images: dict[str, NDArray] = field(default_factory=dict)

    def middle(self) -> tuple[int, int, int]:
        """The slices with most of the reference's first region, of any, of the prediction, or the middle."""
        for mask in (self.reference & 1, self.reference, self.prediction):
            if mask.any():
                there = mask > 0
                z, y, x = (int(there.sum(axis=axes).argmax()) for axes in ((1, 2), (0, 2), (0, 1)))
                return z, y, x
        z, y, x = (side // 2 for side in self.reference.shape)
        return z, y, x


def read_masks(
    case: Case,
    prediction: Path,
    schemes: Sequence[LabelScheme],
    regions: Sequence[str],
    crop: tuple[int, int, int] | None = None,
) -> Volumes:
    """The masks of a case, without its images.

    Args:
        case: With its reference.
        prediction: The predicted file.
        schemes: What the reference's labels mean, and what the prediction's do.
        regions: Channels of both, at most eight.
        crop: The central part alone, as `evaluate --score_on crop` scores it; what lies outside is not judged.

    Raises:
        CaseError: A file cannot be read, or grids differ.
    """
    assert case.mask is not None  # it was scored
    reference, found = read_volume(case.mask), read_volume(prediction)
    if not lies_over(found, reference):
        raise CaseError(f"{case.name}: reference and prediction lie on different grids")
    turned, box = upright(reference), central(reference, crop)
    masks = []
    for volume, scheme in zip((reference, found), schemes, strict=True):
        channels = scheme.encode(labels_of(volume, case.name))
        inside = np.zeros_like(channels)
        inside[(slice(None), *box)] = channels[(slice(None), *box)]
        masks.append([inside[scheme.channels.index(region)] for region in regions])
    ignored = np.ones(reference.shape, bool)
    # -1 where the mask is not judged
    ignored[box] = np.logical_or.reduce([mask[box] < 0 for mask in masks[0]])
    bits = [sum(((mask > 0) & ~ignored).astype(np.uint8) << bit for bit, mask in enumerate(some)) for some in masks]
    true, predicted, left_out = (turned.to_target_grid(one) for one in (*bits, ignored))
    z, y, x = map(float, np.linalg.norm(turned.affine_prepared[:3, :3], axis=0)[::-1])
    return Volumes(reference, turned, tuple(regions), true, predicted, left_out, (z, y, x))


def with_images(case: Case, masks: Volumes) -> Volumes:
    """The same with the case's images, that which is drawn first.

    Raises:
        CaseError: There is none, it cannot be read, or lies on another grid.
    """
    first = pictured(case.images)
    if first is None:
        raise CaseError(f"{case.name}: no image next to its reference")
    images = {}
    for modality in dict.fromkeys([first, *case.images]):
        image = volume_of(case.images[modality], case.channels.get(modality))
        if not lies_over(masks.file, image):
            raise CaseError(f"{case.name}: {modality} and mask lie on different grids")
        images[modality] = masks.turned.to_target_grid(image.array)
    return replace(masks, images=images)


def cropped(volumes: Volumes, masks: Iterable[Volumes]) -> tuple[tuple[slice, ...], tuple[int, int, int]]:
    """What is worth showing: the box of what is not zero in an image or a mask.

    Returns:
        The box, and every which voxel along each of its axes is shown.
    """
    there = np.logical_or.reduce([array != 0 for array in volumes.images.values()])
    for one in masks:
        there = there | (one.reference > 0) | (one.prediction > 0)
    if not there.any():
        there = np.ones_like(there)
    box = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        (along,) = np.nonzero(there.any(axis=axes))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    # each for itself: thick slices are few, and none of them is left out for the voxels within them
    z, y, x = (max(1, -(-(side.stop - side.start) // LARGEST)) for side in box)
    return tuple(box), (z, y, x)


def thinned(mask: NDArray, step: Sequence[int], reduce: np.ufunc = np.bitwise_or) -> NDArray:
    """A mask in shown voxels: by `bitwise_or` each has what any voxel in its place has, so that no lesion vanishes."""
    for axis, every in enumerate(step):
        if every > 1:
            mask = reduce.reduceat(mask, range(0, mask.shape[axis], every), axis)
    return mask
