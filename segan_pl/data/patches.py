"""3-D patches of prepared cases as batches; depth may be 1 (slices) or small (slabs).

As for slices (sampling.py), all random numbers of a batch are a function of (seed, epoch, batch), drawn in the main
process; a worker only carries the plan out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from segan_pl.batch import Batch
from segan_pl.data.augmentation import kept_modalities
from segan_pl.data.labels import LabelScheme
from segan_pl.data.sampling import Place, opened
from segan_pl.data.shading import shaded
from segan_pl.data.transforms import PatchAugmentation, extents, resample, source_coordinates
from segan_pl.data.volume import ABSENT
from segan_pl.errors import UsageError

CANDIDATES = 1024  # labelled voxels a case that a patch may be drawn to, evenly spread over all of them
Corner = tuple[int, int, int]


@dataclass(frozen=True)
class PatchSampling:
    """How many 3-D patches an epoch has, and where they lie.

    Attributes:
        per_case: Patches of each case an epoch.
        batches: Batches an epoch, each element of a case drawn at random, instead of `per_case` (AlbuNet: 100).
        foreground: Share of patches with a voxel of a scored channel as near to their centre as the volume allows,
            where the case has one; the others lie anywhere, equally likely (the papers' way). A patch stays inside
            the volume, so along an axis where it is nearly as large, it can hardly be drawn to anything.

    Raises:
        UsageError: A number out of its range, or both `per_case` and `batches`.
    """

    per_case: int = 1
    batches: int | None = None
    foreground: float = 0.0

    def __post_init__(self) -> None:
        for name in ("per_case", "batches"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UsageError(f"--data.sampling.{name} {number}: expected at least 1")
        if not 0 <= self.foreground <= 1:
            raise UsageError(f"--data.sampling.foreground {self.foreground}: expected a share from 0 to 1")
        if self.batches is not None and self.per_case != 1:
            raise UsageError(
                f"--data.sampling.per_case {self.per_case}: batches {self.batches} says how many patches there are; "
                f"give --data.sampling.batches null, or leave per_case out"
            )


class PatchPlan(NamedTuple):
    """One batch before any voxel is read; every field (B, ...).

    Attributes:
        case: (B,) row among the training cases.
        corner: (B, 3) in [0, 1): where the patch lies between its first and its last possible place (z, y, x).
        foreground: (B,) bool, drawn to a voxel of a scored channel.
        pick: (B,) in [0, 1): which one.
        seed: (B,) of the sample's augmentation.
        hide: (B, M) in [0, 1), a modality is hidden where it is below the modality dropout; 1 where none may be.
    """

    case: NDArray[np.int64]
    corner: NDArray[np.float64]
    foreground: NDArray[np.bool_]
    pick: NDArray[np.float64]
    seed: NDArray[np.int64]
    hide: NDArray[np.float64]


class PatchSampler(Sampler[PatchPlan]):
    """Plans of one epoch's batches, split over ranks so that all ranks make the same number.

    Args:
        cases: How many cases there are.
        batch_size: Patches a batch and rank; the epoch's last batch may be smaller.
        sampling: How many, and where.
        least: Patches a rank that the last batch must have; with fewer it is left out.
        modalities: M.
        modality_dropout: Chance of each modality of a patch to be hidden (see `Augmentation`).
        seed: Of the run.
        rank: This process.
        world_size: Number of processes; one joined batch is `batch_size * world_size` patches.
    """

    def __init__(
        self,
        cases: int,
        batch_size: int,
        *,
        sampling: PatchSampling,
        least: int = 1,
        modalities: int = 1,
        modality_dropout: float = 0.0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.cases = cases
        self.joined = batch_size * world_size
        self.sampling = sampling
        self.least = least
        self.modalities = modalities
        self.modality_dropout = modality_dropout
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it with the number of epochs done, also after a resume."""
        self.epoch = epoch

    @property
    def patches(self) -> int:
        """Patches an epoch."""
        if self.sampling.batches is not None:
            return self.sampling.batches * self.joined
        return self.cases * self.sampling.per_case

    def __len__(self) -> int:
        """Batches an epoch; of the last one, what the ranks cannot share equally is left out."""
        full, tail = divmod(self.patches, self.joined)
        return full + (tail >= self.least * self.world_size)

    def __iter__(self) -> Iterator[PatchPlan]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.sampling.batches is not None:
            order = rng.integers(self.cases, size=self.patches)
        else:
            order = rng.permutation(np.repeat(np.arange(self.cases), self.sampling.per_case))
        for number in range(len(self)):
            joined = order[number * self.joined : (number + 1) * self.joined]
            plan = self._draw(joined, np.random.default_rng([self.seed, self.epoch, 1 + number]))  # 0 is the order's
            share = len(joined) // self.world_size
            mine = slice(self.rank * share, (self.rank + 1) * share)
            yield PatchPlan(**{name: field[mine] for name, field in plan._asdict().items()})

    def _draw(self, cases: NDArray[np.int64], rng: np.random.Generator) -> PatchPlan:
        """What is hidden comes last and only where it is asked for, as runs without it never drew it."""
        size, hidden = len(cases), (len(cases), self.modalities)
        corner, foreground, pick = rng.random((size, 3)), rng.random(size), rng.random(size)
        seed = rng.integers(2**63, size=size)
        hide = rng.random(hidden) if self.modality_dropout else np.ones(hidden)
        return PatchPlan(cases, corner, foreground < self.sampling.foreground, pick, seed, hide)


class PatchDataset(Dataset[Batch]):
    """Carries out plans: whole batches of 3-D patches; only the boxes that are needed are read.

    Args:
        places: Of the prepared cases.
        scheme: Native labels to channels.
        patch: (D, H, W).
        augmentation: What is varied.
        rows: The cases' rows in the data module's case table.
        background: Value of the image where a patch reaches beyond the volume.
        modality_dropout: What the plans' `hide` is compared with; a hidden modality is not read.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        scheme: LabelScheme,
        patch: tuple[int, int, int],
        augmentation: PatchAugmentation,
        rows: Sequence[int],
        background: float = 0.0,
        modality_dropout: float = 0.0,
    ) -> None:
        self.places = list(places)
        self.scheme = scheme
        self.foreground = scheme.foreground_labels
        self.patch = patch
        self.augmentation = augmentation
        self.rows = np.asarray(rows, np.int64)
        self.background = background
        self.modality_dropout = modality_dropout
        self.present = torch.tensor([[channel != ABSENT for channel in place.channels] for place in places])

    def __len__(self) -> int:
        """Cases."""
        return len(self.places)

    def __getitem__(self, plan: PatchPlan) -> Batch:
        """One batch: image (B, M, *patch) float16, or float32 when intensities vary; target (B, C, *patch) uint8."""
        size, modalities = len(plan.case), len(self.places[0].channels)
        present = self._shown(plan)
        dtype = np.float32 if self.augmentation.varies_intensities else np.float16
        image = np.zeros((size, modalities, *self.patch), dtype)
        image[present.numpy()] = self.background
        label = np.zeros((size, *self.patch), np.uint8)
        origin = np.zeros((size, 3), np.int64)
        for b in range(size):
            origin[b] = self._fill(plan, b, present[b].numpy(), image[b], label[b])
        return Batch(
            image=torch.from_numpy(image),
            target=torch.from_numpy(self.scheme.encode(label)).movedim(0, 1),
            labelled=torch.ones(size, dtype=torch.bool),
            present=present,
            case=torch.from_numpy(self.rows[plan.case]),
            origin=torch.from_numpy(origin),
        )

    def _shown(self, plan: PatchPlan) -> torch.Tensor:
        """(B, M) bool: the modalities that a case has and that are not hidden."""
        present = self.present[torch.from_numpy(plan.case)]
        return kept_modalities(present, plan.hide, self.modality_dropout) if self.modality_dropout else present

    def _fill(self, plan: PatchPlan, b: int, shown: NDArray[np.bool_], image: NDArray, label: NDArray) -> Corner:
        """Write sample b's patch into `image` (M, *patch) and `label` (*patch); returns its first voxel (z, y, x).

        Of the modalities only those `shown` (M,) are read.
        """
        place = self.places[plan.case[b]]
        rng = np.random.default_rng(plan.seed[b])
        slices = place.real_box[0].stop - place.real_box[0].start
        coordinates = source_coordinates(self.augmentation, self.patch, rng, depth=slices)
        mirrored = tuple(np.flatnonzero(rng.random(3) < self.augmentation.mirror).tolist())
        margins = extents(coordinates, self.patch)
        start = self._start(place, plan, b, margins)
        channels = np.flatnonzero(shown).tolist()
        rows = [place.channels[channel] for channel in channels]
        if coordinates is None:
            read_box(opened(place.image), place.real_box, start, image, rows, channels)
            read_box(opened(place.label)[None], place.real_box, start, label[None], [0], [0])
        else:
            image[channels], label[:] = self._turned(place, rows, start, margins, torch.from_numpy(coordinates))
        if mirrored:
            image[:] = np.flip(image, tuple(1 + axis for axis in mirrored)).copy()
            label[:] = np.flip(label, mirrored).copy()
        if self.augmentation.varies_intensities:  # what is hidden too, so that the others' random numbers stay
            there = self.present[plan.case[b]].numpy()
            image[there] = shaded(torch.from_numpy(image[there]), self.augmentation, rng).numpy()
            image[~shown] = 0
        return start

    def _start(self, place: Place, plan: PatchPlan, b: int, margins: Sequence[tuple[int, int]]) -> Corner:
        """First voxel of the patch in the prepared volume: such that the box that it needs lies inside, if it can."""
        drawn = plan.foreground[b]
        voxels = labelled_voxels(place.label, self.foreground) if drawn else np.zeros((0, 3), np.int64)
        centre = voxels[int(plan.pick[b] * len(voxels))] if len(voxels) else None
        start = []
        for axis, (real, n, (below, above)) in enumerate(zip(place.real_box, self.patch, margins, strict=True)):
            box = below + n + above
            room = real.stop - real.start - box
            if room < 0:  # the volume is smaller: in its middle, to the voxel where MONAI's windows have it
                first = real.start - -room // 2
            elif centre is None:
                first = real.start + int(plan.corner[b, axis] * (room + 1))
            else:
                first = min(max(int(centre[axis]) - n // 2 - below, real.start), real.start + room)
            start.append(first + below)
        return start[0], start[1], start[2]

    def _turned(
        self,
        place: Place,
        rows: Sequence[int],
        start: Corner,
        margins: Sequence[tuple[int, int]],
        coordinates: torch.Tensor,
    ) -> tuple[NDArray, NDArray]:
        """The patch after a spatial change: (rows, *patch) of the image's rows that are shown, and label."""
        shape = tuple(below + n + above for n, (below, above) in zip(self.patch, margins, strict=True))
        first = tuple(s - below for s, (below, _) in zip(start, margins, strict=True))
        box = np.full((len(rows), *shape), self.background, np.float32)
        mask = np.zeros((1, *shape), np.float32)
        read_box(opened(place.image), place.real_box, first, box, rows, range(len(rows)))
        read_box(opened(place.label)[None], place.real_box, first, mask, [0], [0])
        centre = tuple(below + (n - 1) / 2 for n, (below, _) in zip(self.patch, margins, strict=True))
        image = resample(torch.from_numpy(box - self.background), coordinates, centre, "bilinear")  # type: ignore[arg-type]
        label = resample(torch.from_numpy(mask), coordinates, centre, "nearest")[0]  # type: ignore[arg-type]
        return image.numpy() + self.background, label.numpy().astype(np.uint8)


def read_box(
    volume: NDArray,
    real_box: Sequence[slice],
    start: Sequence[int],
    out: NDArray,
    rows: Sequence[int],
    to: Sequence[int],
) -> None:
    """Copy channels `rows` of a (K, D, H, W) volume into channels `to` of `out` (N, *box) from voxel `start` on.

    What of the box lies outside `real_box` stays as it is in `out`.
    """
    inside, target = [], []
    for first, n, real in zip(start, out.shape[1:], real_box, strict=True):
        low, high = max(first, real.start), min(first + n, real.stop)
        inside.append(slice(low, max(low, high)))
        target.append(slice(low - first, max(low, high) - first))
    for row, channel in zip(rows, to, strict=True):
        out[channel][tuple(target)] = volume[row][tuple(inside)]


@lru_cache(maxsize=4096)
def labelled_voxels(label: Path, foreground: tuple[int, ...]) -> NDArray[np.int64]:
    """(N, 3) voxels of the labels `foreground`, at most CANDIDATES of them, evenly spread over all in file order."""
    mask = np.load(label, mmap_mode="r")
    flat = np.flatnonzero(np.isin(mask, foreground))
    if len(flat) > CANDIDATES:
        flat = flat[np.linspace(0, len(flat) - 1, CANDIDATES).round().astype(np.int64)]
    return np.stack(np.unravel_index(flat, mask.shape), 1)
