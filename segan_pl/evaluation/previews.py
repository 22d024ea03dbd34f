"""The slice of a case to look at while a network learns: every region of the reference and of the prediction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.labels import LabelScheme
from segan_pl.evaluation.volumes import threshold
from segan_pl.losses.activation import activate


class PreviewSlice(NamedTuple):
    """One axial slice of one case, all arrays on the same (H, W) grid.

    Attributes:
        case: The case's name.
        z: Slice index in the volume that the arrays were cut from.
        image: (H, W) float32, one modality, prepared intensities.
        reference: (H, W) uint8, the number of a voxel's region, from 1; 0 in none. Of regions that overlap the last.
        prediction: (H, W) uint8, the same.
        regions: Names of the regions, in order.
        probability: (H, W) float32 in [0, 1] of the only region; None where there are several.
        aspect: Height of a pixel over its width.
        ignored: (H, W) bool, where nothing is judged; None for nowhere.
    """

    case: str
    z: int
    image: NDArray[np.float32]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    regions: tuple[str, ...]
    probability: NDArray[np.float32] | None = None
    aspect: float = 1.0
    ignored: NDArray[np.bool_] | None = None


def preview_slice(
    case: str,
    image: Tensor,
    target: Tensor,
    logits: Tensor,
    scheme: LabelScheme,
    *,
    aspect: float = 1.0,
    ignored: Tensor | None = None,
) -> PreviewSlice:
    """The slice with most of the reference, each region counted as a share of itself, so that small ones are seen too.

    Args:
        case: Its name.
        image: (D, H, W) of the modality that is shown.
        target: (C, D, H, W).
        logits: (C, D, H, W).
        scheme: Of both.
        aspect: Height of a pixel over its width.
        ignored: (D, H, W) bool.
    """
    rows = [scheme.channels.index(region) for region in scheme.foreground]
    target = target.clamp(min=0)
    voxels = target[rows].sum((2, 3), dtype=torch.float64)  # (R, D)
    z = int((voxels / voxels.sum(1, keepdim=True).clamp(min=1)).sum(0).argmax())
    probability = activate(logits[None, :, z], scheme.activation)[0, rows[0]] if len(rows) == 1 else None
    return PreviewSlice(
        case,
        z,
        image[z].float().cpu().numpy(),
        _numbered(target[rows, z] > 0),
        _numbered(threshold(logits[:, z], scheme.activation)[rows]),
        scheme.foreground,
        None if probability is None else probability.cpu().numpy(),
        aspect,
        None if ignored is None else ignored[z].cpu().numpy(),
    )


def _numbered(mask: Tensor) -> NDArray[np.uint8]:
    """(R, H, W) bool to the number of the last region that holds a voxel, from 1."""
    order = torch.arange(1, len(mask) + 1, dtype=torch.uint8, device=mask.device)
    numbers: NDArray[np.uint8] = (mask * order[:, None, None]).amax(0).cpu().numpy()
    return numbers
