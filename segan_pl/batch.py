"""The contract between data, objectives and system."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What every loader yields; spatial is (H, W) or (D, H, W).

    Attributes:
        image: (B, M, *spatial) float16 or float32, prepared intensities.
        target: (B, C, *spatial) uint8 or float in {0, 1}: regions, or one-hot labels; undefined where not labelled.
            Where the scheme ignores labels int8, with -1 in all channels of a voxel that is not judged.
        labelled: (B,) bool.
        modality_mask: (B, M) bool: which modalities are really there.
        case: (B,) int64, row in the data module's case table.
        origin: (B, 3) int64, first voxel (z, y, x) in the prepared volume.
        seed: (B,) int64: all later randomness of a sample follows from it, on any device; 0 for a whole case.
    """

    image: Tensor
    target: Tensor
    labelled: Tensor
    modality_mask: Tensor
    case: Tensor
    origin: Tensor
    seed: Tensor
