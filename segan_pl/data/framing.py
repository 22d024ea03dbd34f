"""Which grid of a case is prepared, and which box of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.geometry import Geometry, Shape, frame_geometry
from segan_pl.data.volume import CaseError

if TYPE_CHECKING:
    from segan_pl.data.preparation import Preparation

MOST_VOXELS = 1 << 30  # of a frame; a head at 0.25 mm has as many


def require_frame(case: str, native: Shape, affine: NDArray[np.float64], preparation: Preparation) -> Geometry:
    """The grid that is cropped: the file's (D, H, W), oriented and resampled.

    Raises:
        CaseError: It would be absurdly large, or a single voxel along an axis: the file's spacing is in another unit.
    """
    frame = frame_geometry(native, affine, preparation.orientation, preparation.spacing_mm)
    shrunk = any(new == 1 < old for new, old in zip(frame.frame, frame.oriented, strict=True))
    if frame.resampled and (shrunk or math.prod(frame.frame) > MOST_VOXELS):
        x, y, z = (f"{size:g}" for size in np.sqrt((affine[:3, :3] ** 2).sum(0)))
        raise CaseError(
            f"{case}: shape {native[::-1]} of {x} x {y} x {z} mm would become {frame.frame[::-1]} by spacing_mm "
            f"{preparation.spacing_mm}, expected at least 2 voxels an axis and {MOST_VOXELS:.0e} at most; "
            f"mend the spacing in its header"
        )
    return frame


def cropped(frame: Geometry, preparation: Preparation, brain: NDArray[np.bool_] | None) -> Geometry:
    """Where the prepared volume lies in the frame."""
    if preparation.crop is None or preparation.crop == "scaled":  # that box is found last
        return frame
    if preparation.crop == "nonzero":
        assert brain is not None
        start, shape = bounding_box(brain, preparation.margin)
        return replace(frame, start=start, shape=shape)
    # int() cuts towards zero, as the authors' code does: 155 to 128 starts at 13.
    z, y, x = (int(n / 2 - c / 2) for n, c in zip(frame.frame, preparation.crop, strict=True))
    depth, height, width = preparation.crop
    return replace(frame, start=(z, y, x), shape=(depth, height, width))


def bounding_box(mask: NDArray[np.bool_], margin: tuple[int, int]) -> tuple[Shape, Shape]:
    """Start and shape of the smallest box around what is true, with a margin; of everything where nothing is."""
    if not mask.any():
        depth, height, width = mask.shape
        return (0, 0, 0), (depth, height, width)
    spans = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    below, above = margin
    first = [max(0, int(span[0]) - below) for span in spans]
    last = [min(n, int(span[-1]) + 1 + above) for span, n in zip(spans, mask.shape, strict=True)]
    z, y, x = ((f, e - f) for f, e in zip(first, last, strict=True))
    return (z[0], y[0], x[0]), (z[1], y[1], x[1])
