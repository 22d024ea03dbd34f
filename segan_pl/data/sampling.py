"""Slices of prepared cases as batches, and whole cases for validation.

All random numbers of a batch are a function of (seed, epoch, batch) and drawn in the main process as a `Plan`; a
worker only carries it out. So order and crops do not depend on the number of workers, and a resumed run repeats
exactly what the uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from segan_pl.batch import Batch
from segan_pl.data.augmentation import Augmentation, Draws, kept_modalities, shade, warp, window
from segan_pl.data.labels import LabelScheme
from segan_pl.data.volume import ABSENT, CaseError, PreparedCase

Empty = Literal["keep", "drop", "balance"]
OPEN_FILES = 128  # memory maps a process keeps; each holds a file descriptor


class Plan(NamedTuple):
    """One batch before any voxel is read: rows of the slice table and the random numbers for them."""

    rows: NDArray[np.int64]
    draws: Draws


class SliceTable(NamedTuple):
    """Every slice that training may draw, all arrays (N,).

    Attributes:
        case: Row of the case.
        z: Slice in the prepared volume; padding is never in the table.
        empty: Whether no voxel of the slice is labelled.
    """

    case: NDArray[np.int32]
    z: NDArray[np.int32]
    empty: NDArray[np.bool_]


class Place(NamedTuple):
    """A prepared case without its voxels: what training and scoring must know of it, small enough to keep for all.

    Attributes:
        image: File of the (K, D, H, W) image.
        label: File of the (D, H, W) native labels.
        channels: Rows of the image that are the modalities asked for, in order; ABSENT for one that the case lacks.
        real_box: The part of the prepared volume that is not padding.
        outside: (C, 2) int64, voxels that the crop left out, in and not in each channel's reference.
        labels: Native labels that occur in the whole native volume.
    """

    image: Path
    label: Path
    channels: tuple[int, ...]
    real_box: tuple[slice, ...]
    outside: NDArray[np.int64]
    labels: tuple[int, ...]


def place_of(case: PreparedCase, scheme: LabelScheme) -> Place:
    """What is kept of an opened case.

    Raises:
        CaseError: The case has no mask.
    """
    if case.label is None:
        raise CaseError(f"{case.name}: no mask; a case without one cannot be trained on or scored")
    labels = np.array(list(case.outside), np.int64)
    voxels = np.array(list(case.outside.values()), np.int64)
    inside = scheme.table().astype(np.int64)[:, labels] @ voxels
    return Place(
        Path(case.image.filename),  # type: ignore[attr-defined]
        Path(case.label.filename),  # type: ignore[attr-defined]
        tuple(case.channels),
        case.geometry.real_box,
        np.stack([inside, voxels.sum() - inside], 1),
        case.labels,
    )


def slice_table(places: Sequence[Place], *, need_empty: bool) -> SliceTable:
    """All real slices of the cases; masks are read only when `need_empty`."""
    rows, slices, empty = [], [], []
    for row, place in enumerate(places):
        z = np.arange(place.real_box[0].start, place.real_box[0].stop, dtype=np.int32)
        rows.append(np.full(len(z), row, np.int32))
        slices.append(z)
        filled = np.load(place.label, mmap_mode="r")[z].any((1, 2)) if need_empty else np.ones(len(z), bool)
        empty.append(~filled)
    return SliceTable(np.concatenate(rows), np.concatenate(slices), np.concatenate(empty))


class PlanSampler(Sampler[Plan]):
    """Plans of one epoch's batches: a full shuffle, split over ranks so that all ranks make the same number.

    A last batch with fewer than 2 slices a rank is left out: batch normalisation of 1x1 maps cannot train on one.

    Args:
        table: Slices to draw from.
        batch_size: Slices a batch and rank.
        augmentation: What to draw beside the patch's place.
        modalities: M.
        empty: "keep" (the papers'), "drop", or "balance": as many empty slices as others, drawn anew every epoch.
        seed: Of the run.
        rank: This process.
        world_size: Number of processes; one joined batch is `batch_size * world_size` slices.
    """

    def __init__(
        self,
        table: SliceTable,
        batch_size: int,
        *,
        augmentation: Augmentation,
        modalities: int,
        empty: Empty = "keep",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.table = table
        self.joined = batch_size * world_size
        self.augmentation = augmentation
        self.modalities = modalities
        self.empty = empty
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._filled = np.flatnonzero(~table.empty)
        self._empty = np.flatnonzero(table.empty)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it with the number of epochs done, also after a resume."""
        self.epoch = epoch

    @property
    def slices(self) -> int:
        """Slices an epoch."""
        if self.empty == "keep":
            return len(self.table.z)
        drawn = 0 if self.empty == "drop" else min(len(self._empty), len(self._filled))
        return len(self._filled) + drawn

    def __len__(self) -> int:
        """Batches an epoch; of the last one, what the ranks cannot share equally is left out."""
        full, tail = divmod(self.slices, self.joined)
        return full + (tail >= 2 * self.world_size)

    def _order(self) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.empty == "keep":
            return rng.permutation(len(self.table.z))
        drawn = rng.permutation(self._empty)[: self.slices - len(self._filled)]
        return rng.permutation(np.concatenate([self._filled, drawn]))

    def __iter__(self) -> Iterator[Plan]:
        order = self._order()
        for number in range(len(self)):
            joined = order[number * self.joined : (number + 1) * self.joined]
            rng = np.random.default_rng([self.seed, self.epoch, number])
            draws = self.augmentation.draw(rng, len(joined), self.modalities)
            share = len(joined) // self.world_size  # equal, so that the mean over ranks is the mean over slices
            mine = np.arange(self.rank * share, (self.rank + 1) * share)
            yield Plan(joined[mine], draws.take(mine))


class SliceDataset(Dataset[Batch]):
    """Carries out plans: whole batches of 2-D patches, cropped before anything is copied.

    Args:
        places: Of the prepared cases; they are opened when they are needed, so neither memory nor open files grow
            with their number.
        table: Their slices.
        scheme: Native labels to channels.
        patch: (H, W) of a training patch.
        augmentation: What the plans' numbers mean.
        rows: The cases' rows in the data module's case table.
        background: Value of the image where a patch reaches beyond the volume.
    """

    def __init__(
        self,
        places: Sequence[Place],
        table: SliceTable,
        *,
        scheme: LabelScheme,
        patch: tuple[int, int],
        augmentation: Augmentation,
        rows: Sequence[int],
        background: float = 0.0,
    ) -> None:
        self.places = list(places)
        self.background = background
        self.table = table
        self.present = torch.tensor([[channel != ABSENT for channel in place.channels] for place in places])
        self.scheme = scheme
        self.patch = patch
        self.augmentation = augmentation
        self.rows = np.asarray(rows, np.int64)

    def __len__(self) -> int:
        """Slices in the table."""
        return len(self.table.z)

    def __getitem__(self, plan: Plan) -> Batch:
        """One batch: image (B, M, *patch) float16, or float32 when intensities vary; target (B, C, *patch) uint8."""
        cases, slices = self.table.case[plan.rows], self.table.z[plan.rows]
        size, modalities = len(plan.rows), len(self.places[0].channels)
        present = self.present[torch.from_numpy(cases.astype(np.int64))]
        dtype = np.float32 if self.augmentation.warps else np.float16
        image = np.zeros((size, modalities, *self.patch), dtype)
        if self.background:
            image[present.numpy()] = self.background
        label = np.zeros((size, *self.patch), np.uint8)
        origin = np.zeros((size, 3), np.int64)
        for b, (case, z) in enumerate(zip(cases, slices, strict=True)):
            origin[b] = z, *self._fill(self.places[case], int(z), b, plan.draws, image[b], label[b])
        pixels = torch.from_numpy(image)
        if self.augmentation.shades:
            pixels = shade(pixels.float(), plan.draws) * present[:, :, None, None]
        if self.augmentation.modality_dropout:
            present = kept_modalities(present, plan.draws.hide, self.augmentation.modality_dropout)
            pixels[~present] = 0  # as of a modality that the case lacks
        target = torch.from_numpy(self.scheme.encode(label)).movedim(0, 1)  # (B, C, H, W)
        return Batch(
            image=pixels,
            target=target,
            labelled=torch.ones(size, dtype=torch.bool),
            present=present,
            case=torch.from_numpy(self.rows[cases]),
            origin=torch.from_numpy(origin),
        )

    def _fill(self, place: Place, z: int, b: int, draws: Draws, image: NDArray, label: NDArray) -> tuple[int, int]:
        """Write sample b's patch into `image` (M, h, w) and `label` (h, w); returns its first voxel (y, x)."""
        volume, mask = opened(place.image), opened(place.label)
        start = window(volume.shape[2:], self.patch, draws.corner[b])
        there = [channel for channel, row in enumerate(place.channels) if row != ABSENT]
        if self.augmentation.warps:
            turn = (start, self.patch, float(draws.rotation[b]), float(draws.scale[b]))
            planes = np.stack([volume[m, z] for m in place.channels if m != ABSENT]).astype(np.float32)
            turned = warp(torch.from_numpy(planes - self.background), *turn, "bilinear").numpy()
            image[there] = turned + self.background
            label[:] = warp(torch.from_numpy(mask[z].astype(np.float32))[None], *turn, "nearest")[0].numpy()
        else:
            for channel in there:
                _copy_window([volume[place.channels[channel], z]], start, image[channel : channel + 1])
            _copy_window([mask[z]], start, label[None])
        for axis in np.flatnonzero(draws.flip[b]).tolist():
            image[:] = np.flip(image, axis + 1).copy()
            label[:] = np.flip(label, axis).copy()
        return start


@lru_cache(maxsize=OPEN_FILES)
def opened(path: Path) -> NDArray:
    """A prepared array, memory-mapped; a process keeps the last OPEN_FILES of them open."""
    return np.load(path, mmap_mode="r")


def _copy_window(planes: Sequence[NDArray], start: tuple[int, int], out: NDArray) -> None:
    """Copy the patch that begins at `start` (it may reach outside, where `out` stays as it is)."""
    size, patch = planes[0].shape, out.shape[-2:]
    y, x = (slice(max(s, 0), min(s + p, n)) for s, p, n in zip(start, patch, size, strict=True))
    to = tuple(slice(axis.start - s, axis.stop - s) for axis, s in zip((y, x), start, strict=True))
    for plane, target in zip(planes, out, strict=True):
        target[to] = plane[y, x]


class CaseDataset(Dataset[Batch]):
    """Whole prepared cases, one an item: image (1, M, D, H, W) float16, target (1, C, D, H, W) uint8.

    Args:
        places: Of the prepared cases; each is opened for its item alone, so nothing is held open.
        rows: Their rows in the data module's case table.
        scheme: Native labels to channels.
    """

    def __init__(self, places: Sequence[Place], rows: Sequence[int], *, scheme: LabelScheme) -> None:
        self.places = list(places)
        self.rows = list(rows)
        self.scheme = scheme

    def __len__(self) -> int:
        """Cases."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """The case, padding and all."""
        place = self.places[index]
        volume, label = np.load(place.image, mmap_mode="r"), np.load(place.label, mmap_mode="r")
        image = torch.zeros((len(place.channels), *volume.shape[1:]), dtype=torch.float16)
        for channel, row in enumerate(place.channels):
            if row != ABSENT:
                image[channel] = torch.from_numpy(volume[row].copy())
        return Batch(
            image=image[None],
            target=torch.from_numpy(self.scheme.encode(label))[None],
            labelled=torch.ones(1, dtype=torch.bool),
            present=torch.tensor([[row != ABSENT for row in place.channels]]),
            case=torch.tensor([self.rows[index]]),
            origin=torch.zeros(1, 3, dtype=torch.int64),
        )


class RankSampler(Sampler[int]):
    """Every item on exactly one rank: no padding, so ranks may have different numbers of items."""

    def __init__(self, size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.items = range(rank, size, world_size)

    def __len__(self) -> int:
        """Items of this rank."""
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)
