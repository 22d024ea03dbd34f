"""Where a prepared image shows anything, and predictions that are kept there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import require_choice
from segan_pl.inference import PredictIn
from segan_pl.losses.activation import Activation

# As `over_volume` has a probability of 0: the logarithm of 1e-12.
CERTAIN = 27.6


def require_predict_in(where: str) -> None:
    """Raise ValueError for a name that is none of `PredictIn`."""
    require_choice("predict_in", where, PredictIn)


def clipped_note(preparation: Mapping[str, Any]) -> str | None:
    """What `predict_in` "brain" leaves out of the brain under a preparation (its fields); None where nothing."""
    made = Preparation.from_dict(preparation)
    if not made.clips_brain:
        return None
    low, high = made.percentiles
    return (
        f"predictions in the brain alone leave out its darkest {low:g} %: the preparation clips them to the background "
        f"(percentiles [{low:g}, {high:g}] of the {made.statistics_mask} voxels); -c tissue_preparation clips none"
    )


def brain_of(image: Tensor, background: float, modality_mask: Tensor | None = None) -> Tensor:
    """Where a prepared image is not background in some modality: in a stripped brain, where its files are not 0.

    Args:
        image: (M, *spatial) prepared intensities.
        background: The prepared value of padding.
        modality_mask: (M,) bool, which modalities are there; default all. The others say nothing.

    Returns:
        (*spatial) bool.
    """
    there = [True] * len(image) if modality_mask is None else modality_mask.tolist()
    # Prepared images are kept in float16, in which the background may have been rounded.
    padding = torch.tensor(background, dtype=torch.float16, device=image.device)
    found = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    # One modality after the other takes less memory, and half of the time.
    for one in itertools.compress(image, there):
        found |= one.half() != padding
    return found


def nothing_found(channels: int, activation: Activation, *, logits: bool) -> Tensor:
    """(C,) float32 of a voxel that is certainly background: logits, or probabilities of 0 and 1."""
    certain = torch.full((channels,), -CERTAIN if logits else 0.0)
    if activation == "softmax":
        # The first of exclusive labels is the background; regions have none.
        certain[0] = 0.0 if logits else 1.0
    return certain


def kept_inside(prediction: Tensor, brain: Tensor | None, activation: Activation, *, logits: bool) -> Tensor:
    """A prediction (C, *spatial), certainly background outside the brain (*spatial); itself without a brain.

    Args:
        prediction: Logits or probabilities.
        brain: bool.
        activation: Of the label scheme.
        logits: Which of them it is.
    """
    if brain is None:
        return prediction
    outside = nothing_found(len(prediction), activation, logits=logits).to(prediction)
    return torch.where(brain, prediction, outside.reshape(-1, *[1] * brain.ndim))


def blank(image: NDArray[np.float16], background: float) -> bool:
    """Whether nothing but background was prepared."""
    return not image.any() or (background != 0 and bool(np.isin(image, (0, background)).all()))
