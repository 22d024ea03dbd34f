"""Patches of prepared cases as batches: a plan carried out. A slice is a patch of depth 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from segan_pl.batch import Batch
from segan_pl.data.case import ABSENT
from segan_pl.data.labels import LabelScheme
from segan_pl.data.sample.augment import Augment, Gathered, Moving, Transform
from segan_pl.data.sample.case_index import CaseIndex, Overlap, opened, prepared, read_box
from segan_pl.data.sample.changes import draw_changes, kept_modalities
from segan_pl.data.sample.options import Augmentation, AugmentOn, Sampling
from segan_pl.data.sample.places import Places
from segan_pl.data.sample.resident import Asked, Residency, Resident
from segan_pl.data.sample.samplers import Plan
from segan_pl.data.sample.spatial import margins

ONLY = [0]  # channel


class PatchDataset(Dataset[Batch | Gathered | Asked]):
    """Carries out plans: whole batches of patches; only the boxes that are needed are read.

    Args:
        cases: The prepared cases; they are opened when they are needed, so neither memory nor open files grow with
            their number.
        scheme: Native labels to channels.
        patch: (H, W) or (D, H, W).
        augmentation: What is varied.
        sampling: Where patches lie.
        rows: The cases' rows in the data module's case table.
        background: Value of the image where a patch reaches beyond the volume.
        from_background: Whether that is the least intensity that there is, as with percentiles, not with z-scores.
        transforms: The user's own, of whole batches, after all else.
        augment_on: "device" leaves all that comes after reading to `finish`, once the batch is there.
        residency: "device" leaves reading to it, too.
    """

    def __init__(
        self,
        cases: Sequence[CaseIndex],
        *,
        scheme: LabelScheme,
        patch: tuple[int, ...],
        augmentation: Augmentation,
        rows: Sequence[int],
        sampling: Sampling | None = None,
        background: float = 0.0,
        from_background: bool = True,
        transforms: Sequence[Transform] = (),
        augment_on: AugmentOn = "loader",
        residency: Residency = "disk",
    ) -> None:
        self.cases = list(cases)
        self.patch: tuple[int, int, int] = (1, *patch) if len(patch) == 2 else patch  # type: ignore[assignment]
        self.slices = len(patch) == 2
        self.places = Places.of(sampling or Sampling(), scheme, self.patch, background)
        self.augmentation = augmentation
        self.rows = np.asarray(rows, np.int64)
        self.background = background
        self.augment = Augment(augmentation, scheme, patch, background, from_background, tuple(transforms))
        self.augment_on, self.residency = augment_on, residency
        self._resident: Resident | None = None
        self.modality_mask = torch.tensor([case.modality_mask for case in cases])

    def __len__(self) -> int:
        """Cases."""
        return len(self.cases)

    def __getitem__(self, plan: Plan) -> Batch | Gathered | Asked:
        """One batch, or what `finish` makes one of."""
        asked = self.ask(plan)
        if self.residency == "device":
            return asked
        read = self.gather(asked)
        return self.augment(read) if self.augment_on == "loader" else read

    def finish(self, item: Gathered | Asked) -> Batch:
        """The batch of an item that has reached its device; there the first one fills the memory."""
        if isinstance(item, Asked):
            if self._resident is None:
                self._resident = Resident(self.cases, self.patch, self.background, item.row.device)
            item = self._resident(item)
        return self.augment(item)

    def release(self) -> None:
        """Let go of the device's memory."""
        self._resident = None

    def ask(self, plan: Plan) -> Asked:
        """Where the voxels of a plan lie."""
        seed = torch.from_numpy(plan.seed)
        shown = self.modality_mask[torch.from_numpy(plan.case)]
        if self.augmentation.modality_dropout:
            shown = kept_modalities(shown, plan.hide, self.augmentation.modality_dropout)
        margin, flat, rows = self._margins(plan, seed)
        within, start = np.zeros((len(seed), 3, 2), np.int64), np.zeros((len(seed), 3), np.int64)
        for b, row in enumerate(plan.case):
            case = self.cases[row]
            # Padding is not drawn from, except in the plane of a slice (SegAN-CAT's crops).
            plane = tuple(slice(0, n) for n in opened(case.image).shape[2:]) if self.slices else case.real_box[1:]
            sides = (case.real_box[0], *plane)
            start[b] = self.places.start(case, sides, plan, b, margin[b].tolist())
            within[b] = [(side.start, side.stop) for side in sides]
        # All boxes of a batch are as large as the largest one needs to be.
        most = margin[rows].max(0) if len(rows) else margin[0]
        return Asked(
            row=torch.from_numpy(plan.case),
            within=torch.from_numpy(within),
            start=torch.from_numpy(start),
            moving=torch.from_numpy(rows),
            flat=torch.from_numpy(flat[rows]),
            margin=(int(most[0]), int(most[1]), int(most[2])),
            labelled=torch.from_numpy(plan.labelled),
            modality_mask=shown,
            case=torch.from_numpy(self.rows[plan.case]),
            seed=seed,
        )

    def gather(self, asked: Asked) -> Gathered:
        """Read what is asked for, and nothing else."""
        rows, shown = asked.moving, asked.modality_mask
        size = [n + 2 * more for n, more in zip(self.patch, asked.margin, strict=True)]
        (image, label), (boxes, labels) = self._room(shown, self.patch), self._room(shown[rows], size)
        place = {b: number for number, b in enumerate(rows.tolist())}
        read = zip(
            asked.row.tolist(),
            asked.within.tolist(),
            asked.start.tolist(),
            shown.tolist(),
            asked.labelled.tolist(),
            strict=True,
        )
        for b, (row, within, first, one, labelled) in enumerate(read):
            channels = [channel for channel, is_shown in enumerate(one) if is_shown]
            case = self.cases[row]
            to, mask = image[b], label[b]
            if b in place:
                to[...], mask[...] = 0, 0  # `augment` fills them
                first = [f - more for f, more in zip(first, asked.margin, strict=True)]
                to, mask = boxes[place[b]], labels[place[b]]
            box = Overlap.of([slice(*side) for side in within], first, mask.shape)
            read_box(opened(case.image), box, to, [case.channels[c] for c in channels], channels, self.background)
            if labelled and case.label:
                read_box(opened(case.label)[None], box, mask[None], ONLY, ONLY)
            else:
                mask[...] = 0
        moving = Moving(rows, torch.from_numpy(boxes), torch.from_numpy(labels), asked.flat) if len(rows) else None
        return Gathered(
            image=torch.from_numpy(image),
            label=torch.from_numpy(label),
            moving=moving,
            labelled=asked.labelled,
            modality_mask=shown,
            case=asked.case,
            origin=asked.start,
            seed=asked.seed,
        )

    def _room(self, shown: torch.Tensor, box: Sequence[int]) -> tuple[NDArray, NDArray]:
        """Images (B, M, *box) float16 and labels (B, *box), to be written."""
        return np.empty((*shown.shape, *box), np.float16), np.empty((len(shown), *box), np.uint8)

    def _margins(self, plan: Plan, seed: torch.Tensor) -> tuple[NDArray, NDArray, NDArray]:
        """(B, 3) margins that the samples' changes need, (B,) which stay in their plane, and (R,) which move."""
        if not self.augmentation.moves:
            return np.zeros((len(seed), 3), np.int64), np.ones(len(seed), bool), np.zeros(0, np.int64)
        changes = draw_changes(seed, self.augmentation, self.modality_mask.shape[1])
        boxes = [self.cases[case].real_box[0] for case in plan.case]
        margin, flat = margins(changes, self.patch, torch.tensor([box.stop - box.start for box in boxes]))
        return margin.numpy(), flat.numpy(), changes.moved.nonzero()[:, 0].numpy()


class CaseDataset(Dataset[Batch]):
    """Whole prepared cases, each an item: image (1, M, D, H, W) float16, target (1, C, D, H, W) uint8 (or int8).

    A case without a mask is not labelled, and its target is 0.

    Args:
        cases: The prepared cases; each is opened for its item alone, so nothing is held open.
        rows: Their rows in the data module's case table.
        scheme: Native labels to channels.
    """

    def __init__(self, cases: Sequence[CaseIndex], rows: Sequence[int], *, scheme: LabelScheme) -> None:
        self.cases = list(cases)
        self.rows = list(rows)
        self.scheme = scheme

    def __len__(self) -> int:
        """Cases."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """The case, padding and all."""
        case = self.cases[index]
        volume = prepared(case.image)
        label = np.zeros(volume.shape[1:], np.uint8) if case.label is None else prepared(case.label)
        image = torch.zeros((len(case.channels), *volume.shape[1:]), dtype=torch.float16)
        for channel, row in enumerate(case.channels):
            if row != ABSENT:
                image[channel] = torch.from_numpy(volume[row].copy())
        target = torch.from_numpy(self.scheme.encode(label))[None]
        return Batch(
            image[None],
            target if case.label else torch.zeros_like(target),  # of exclusive labels, too, whose background would be 1
            torch.tensor([case.label is not None]),
            torch.tensor([case.modality_mask]),
            torch.tensor([self.rows[index]]),
            torch.zeros(1, 3, dtype=torch.int64),
            torch.zeros(1, dtype=torch.int64),
        )
