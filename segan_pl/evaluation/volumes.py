"""Whole volumes while they are scored: masks out of logits, voxel counts, the best threshold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.labels import LabelScheme
from segan_pl.evaluation.policies import mean_available


def threshold(logits: Tensor, activation: str) -> Tensor:
    """(C, *spatial) logits to a bool mask: probability above 0.5, or the largest of exclusive labels."""
    if activation == "softmax":
        return torch.nn.functional.one_hot(logits.argmax(0), len(logits)).movedim(-1, 0).bool()
    return logits > 0


def as_written(mask: Tensor, scheme: LabelScheme) -> Tensor:
    """(C, *spatial) bool: what a mask's channels are once they have been a file of labels.

    A voxel has one label there, that of its last channel that is on (`LabelScheme.decode`), so a core outside the whole
    tumour becomes part of it. A scheme whose channels exclude each other keeps its mask.
    """
    if scheme.activation == "softmax" or len(scheme.channels) == 1:
        return mask
    order = torch.arange(1, len(mask) + 1, dtype=torch.uint8, device=mask.device)
    last = (mask * order.view(-1, *[1] * (mask.ndim - 1))).amax(0)  # 0 where no channel is on
    written = [[n for n, label in enumerate(scheme.export, 1) if label in members] for members in scheme.members]
    return torch.stack([reduce(torch.logical_or, (last == n for n in wanted)) for wanted in written])


def centre(volume: Tensor, size: Sequence[int]) -> Tensor:
    """The central part of (..., D, H, W), or all of an axis that is smaller."""
    for axis, wanted in zip((-3, -2, -1), size, strict=True):
        have = volume.shape[axis]
        if have > wanted:
            volume = volume.narrow(axis, have // 2 - wanted // 2, wanted)
    return volume


def confusion(mask: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Counts of each channel: TP, FP, FN, TN.

    Args:
        mask: (C, *spatial) bool, thresholded prediction.
        target: (C, *spatial) in {0, 1}.
        ignored: (*spatial) bool, voxels that are in no count; default none.

    Returns:
        (C, 4) int64.
    """
    voxels: int | Tensor = target[0].numel()
    if ignored is not None:
        mask, target, voxels = mask & ~ignored, target.masked_fill(ignored, 0), voxels - ignored.sum()
    mask, target = mask.flatten(1), target.flatten(1).bool()
    if mask.device.type == "cpu":
        # NumPy counts bytes 20 times as fast as torch adds them on a CPU.
        counted = (list(map(np.count_nonzero, one.numpy())) for one in (mask & target, mask, target))
        tp, predicted, reference = (torch.tensor(one) for one in counted)
    else:
        tp, predicted, reference = (one.sum(1) for one in (mask & target, mask, target))
    fp, fn = predicted - tp, reference - tp
    return torch.stack([tp, fp, fn, voxels - tp - fp - fn], 1)


LEVELS = 501


def best_threshold(images: Sequence[NDArray[Any]], masks: Sequence[NDArray[np.bool_]]) -> tuple[float, list[float]]:
    """The single threshold whose mean Dice over these very volumes is highest, and each volume's Dice at it.

    It is chosen on the volumes that it is scored on, so it flatters the threshold.

    Args:
        images: (D, H, W) each, intensities that compare between volumes.
        masks: (D, H, W) each, bool.

    Returns:
        Threshold and one Dice for each volume (NaN where reference and prediction are empty).
    """
    edges = np.linspace(min(float(i.min()) for i in images), max(float(i.max()) for i in images), LEVELS)
    table = np.array([_dice_at(image, mask, edges) for image, mask in zip(images, masks, strict=True)])
    means = [mean_available(column.tolist())[0] for column in table.T]
    best = int(np.nanargmax(means))
    return float(edges[best]), table[:, best].tolist()


def _dice_at(image: NDArray[Any], mask: NDArray[np.bool_], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dice of image >= edge for every edge, from two histograms."""
    bins = np.append(edges, np.inf)
    inside = np.histogram(image[mask].astype(np.float64), bins)[0][::-1].cumsum()[::-1]
    anywhere = np.histogram(image.astype(np.float64), bins)[0][::-1].cumsum()[::-1]
    with np.errstate(invalid="ignore"):
        dice: NDArray[np.float64] = 2 * inside / (anywhere + int(mask.sum()))
    return dice
