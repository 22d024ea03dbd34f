"""Prepared cases without their voxels, and the boxes of voxels that are read of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import ABSENT, CaseError, PreparedCase
from segan_pl.data.labels import LabelScheme

# A process keeps so many memory maps; each holds a file descriptor.
OPEN_FILES = 128
# A patch is drawn to one of so many labelled voxels of a case, which are evenly spread over all of them.
CANDIDATES = 1024


class CaseIndex(NamedTuple):
    """A prepared case without its voxels: what training and scoring must know of it, small enough to keep for all.

    Attributes:
        image: File of the (K, D, H, W) image.
        label: File of the (D, H, W) native labels; None for a case without a mask.
        channels: Rows of the image that are the modalities asked for, in order; ABSENT for one that the case lacks.
        real_box: The part of the prepared volume that is not padding.
        outside: (C, 2) int64, judged voxels that the crop left out, in and not in each channel's reference.
        labels: Native labels that occur in the whole native volume.
    """

    image: Path
    label: Path | None
    channels: tuple[int, ...]
    real_box: tuple[slice, ...]
    outside: NDArray[np.int64]
    labels: tuple[int, ...]

    @property
    def modality_mask(self) -> list[bool]:
        """(M,) which modalities the case has."""
        return [row != ABSENT for row in self.channels]


def index_case(case: PreparedCase, scheme: LabelScheme) -> CaseIndex:
    """What is kept of an opened case."""
    labels = np.array([label for label in case.outside if label not in scheme.ignore], np.int64)
    voxels = np.array([case.outside[label] for label in labels], np.int64)
    inside = scheme.table().astype(np.int64)[:, labels] @ voxels
    return CaseIndex(
        Path(case.image.filename),  # type: ignore[attr-defined]
        None if case.label is None else Path(case.label.filename),  # type: ignore[attr-defined]
        tuple(case.channels),
        case.geometry.real_box,
        np.stack([inside, voxels.sum() - inside], 1),
        case.labels,
    )


@lru_cache(maxsize=OPEN_FILES)
def opened(path: Path) -> NDArray:
    """A prepared array, memory-mapped; a process keeps the last OPEN_FILES of them open."""
    return prepared(path)


def prepared(path: Path) -> NDArray:
    """A prepared array, memory-mapped, as a plain array: each view of an np.memmap costs more than what it reads.

    Raises:
        CaseError: It is gone or cut off.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (FileNotFoundError, EOFError, ValueError) as error:
        state = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise CaseError(
            f"{path}: this prepared file {state}; was the cache changed while the run used it? The same line again "
            f"prepares it and goes on from the run's last checkpoint"
        ) from error


@lru_cache(maxsize=4096)
def labelled_voxels(label: Path, foreground: tuple[int, ...]) -> NDArray[np.int64]:
    """(N, 3) voxels of the labels `foreground`, at most CANDIDATES of them, evenly spread over all in file order."""
    mask = prepared(label)
    flat = np.flatnonzero(np.isin(mask, foreground))
    if len(flat) > CANDIDATES:
        flat = flat[np.linspace(0, len(flat) - 1, CANDIDATES).round().astype(np.int64)]
    return np.stack(np.unravel_index(flat, mask.shape), 1)


class Overlap(NamedTuple):
    """What of a box of voxels may be read of a volume.

    Attributes:
        inside: (z, y, x) of the volume.
        target: Where it lies in the box.
        whole: Whether it fills the box.
    """

    inside: tuple[slice, ...]
    target: tuple[slice, ...]
    whole: bool

    @classmethod
    def of(cls, within: Sequence[slice], start: Sequence[int], size: Sequence[int]) -> Overlap:
        """Of the box of a size from voxel `start` on, which may lie outside, with the part `within` of a volume."""
        inside, target, whole = [], [], True
        for first, n, side in zip(start, size, within, strict=True):
            low, high = max(first, side.start), min(first + n, side.stop)
            if high - low < n:
                whole, high = False, max(low, high)
            inside.append(slice(low, high))
            target.append(slice(low - first, high - first))
        return cls(tuple(inside), tuple(target), whole)


def read_box(
    volume: NDArray, box: Overlap, out: NDArray, rows: Sequence[int], to: Sequence[int], outside: float = 0.0
) -> None:
    """Copy a box of channels `rows` of a (K, D, H, W) volume into channels `to` of `out` (N, *box).

    Args:
        volume: What is read.
        box: Where.
        out: All of it is written: channels that are not read with 0.
        rows: Channels of the volume.
        to: Their places in `out`, ascending.
        outside: Value of these channels beyond the overlap.
    """
    if not box.whole or len(to) < len(out):
        out[...] = 0
        if outside:
            out[list(to)] = outside
    inside, target = box.inside, box.target
    if len(to) == len(out) == len(volume) and rows == to:  # at once: a copy of each takes longer
        out[(slice(None), *target)] = volume[(slice(None), *inside)]
        return
    for row, channel in zip(rows, to, strict=True):
        out[channel][target] = volume[row][inside]
