"""Voxel counts of one case on a device; the scores made of them are in `policies`, which needs no PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from segan_pl.evaluation.policies import (
    METRICS,
    NA,
    POLICIES,
    Counts,
    EmptyPolicy,
    Situation,
    mean_available,
    scores,
)

__all__ = [
    "METRICS",
    "NA",
    "POLICIES",
    "Counts",
    "EmptyPolicy",
    "Situation",
    "confusion",
    "mean_available",
    "scores",
]


def confusion(mask: Tensor, target: Tensor) -> Tensor:
    """Counts a channel: TP, FP, FN, TN.

    Args:
        mask: (C, *spatial) bool, thresholded prediction.
        target: (C, *spatial) in {0, 1}.

    Returns:
        (C, 4) int64.
    """
    mask, target = mask.flatten(1), target.flatten(1).bool()
    voxels = mask.shape[1]
    tp = (mask & target).sum(1)
    predicted, reference = mask.sum(1), target.sum(1)
    fp, fn = predicted - tp, reference - tp
    return torch.stack([tp, fp, fn, voxels - tp - fp - fn], 1)
