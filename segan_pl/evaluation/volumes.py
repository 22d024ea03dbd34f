"""Whole volumes of logits to masks, and counts of all ranks to one list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor


def threshold(logits: Tensor, activation: str) -> Tensor:
    """(C, *spatial) logits to a bool mask: probability above 0.5, or the largest of exclusive labels."""
    if activation == "softmax":
        return torch.nn.functional.one_hot(logits.argmax(0), len(logits)).movedim(-1, 0).bool()
    return logits > 0


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
