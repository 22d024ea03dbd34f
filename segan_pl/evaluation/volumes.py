"""Whole volumes of logits to masks, and counts of all ranks to one list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from segan_pl.data.labels import LabelScheme


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
    inside = [[label in members for members in scheme.members] for label in (0, *scheme.export)]
    order = torch.arange(1, len(mask) + 1, dtype=torch.uint8, device=mask.device)
    last = (mask * order.view(-1, *[1] * (mask.ndim - 1))).amax(0)  # 0 where no channel is on
    table = torch.tensor(inside, device=mask.device)
    return torch.stack([row[last.int()] for row in table.T])


def centre(volume: Tensor, size: Sequence[int]) -> Tensor:
    """The central part of (..., D, H, W), or all of an axis that is smaller."""
    for axis, wanted in zip((-3, -2, -1), size, strict=True):
        have = volume.shape[axis]
        if have > wanted:
            volume = volume.narrow(axis, have // 2 - wanted // 2, wanted)
    return volume


Key = TypeVar("Key")


def gather(counts: dict[Key, list[list[int]]]) -> list[tuple[Key, list[list[int]]]]:
    """Counts of all ranks, as (row, counts) or whatever they are kept under; every rank gets the same list."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(counts.items())
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, list(counts.items()))
    return [item for rank in everyone for item in rank]
