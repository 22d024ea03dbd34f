"""What a picture of one slice needs, gathered while a case is scored; NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PreviewSlice(NamedTuple):
    """One axial slice of one case, all arrays on the same (H, W) grid.

    Attributes:
        case: The case's name.
        z: Slice index in the volume that the arrays were cut from.
        image: (H, W) float32, one modality, prepared intensities.
        reference: (H, W) uint8 in {0, 1}.
        probability: (H, W) float32 in [0, 1].
    """

    case: str
    z: int
    image: NDArray[np.float32]
    reference: NDArray[np.uint8]
    probability: NDArray[np.float32]
