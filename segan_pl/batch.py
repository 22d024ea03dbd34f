"""The contract between data, objectives and system."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What every loader yields; spatial is (H, W) or (D, H, W).

    Attributes:
        image: (B, M, *spatial) float16 or float32, prepared intensities.
        target: (B, C, *spatial) uint8 or float in {0, 1}: regions, or one-hot labels; undefined where not labelled.
        labelled: (B,) bool.
        present: (B, M) bool: which modalities are really there.
        case: (B,) int64, row in the data module's case table.
        origin: (B, 3) int64, first voxel (z, y, x) in the prepared volume.
    """

    image: Tensor
    target: Tensor
    labelled: Tensor
    present: Tensor
    case: Tensor
    origin: Tensor
