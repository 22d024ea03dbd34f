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


def read_box(
    volume: NDArray,
    within: Sequence[slice],
    start: Sequence[int],
    out: NDArray,
    rows: Sequence[int],
    to: Sequence[int],
) -> None:
    """Copy channels `rows` of a (K, D, H, W) volume into channels `to` of `out` (N, *box) from voxel `start` on.

    What of the box lies outside `within` stays as it is in `out`.
    """
    inside, target = [], []
    for first, n, side in zip(start, out.shape[1:], within, strict=True):
        low, high = max(first, side.start), min(first + n, side.stop)
        inside.append(slice(low, max(low, high)))
        target.append(slice(low - first, max(low, high) - first))
    for row, channel in zip(rows, to, strict=True):
        out[channel][tuple(target)] = volume[row][tuple(inside)]
