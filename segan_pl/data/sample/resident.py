"""The prepared training set in the device's memory, and plans carried out there: no voxel passes through a loader."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from segan_pl.data.case import ABSENT
from segan_pl.data.sample.augment import Gathered, Moving
from segan_pl.data.sample.case_index import CaseIndex, prepared
from segan_pl.errors import UsageError

Residency = Literal["disk", "device"]

# A gather makes an int64 index for every voxel that it reads: of this many 0.5 GB, 1 GB with what leads to it. Of more
# it is done in parts of as many samples as fit.
MOST_INDEXED = 1 << 26


class Asked(NamedTuple):
    """Where the voxels of a batch lie: a plan once its boxes are known, before any voxel is read.

    Attributes:
        row: (B,) int64, row among the dataset's cases.
        within: (B, 3, 2) int64: the first voxel of a case (z, y, x) that may be read, and the one after the last.
        start: (B, 3) int64, the patch's first voxel, which may lie outside.
        moving: (R,) int64, the samples that need voxels interpolated; their patch is 0, and they have boxes.
        flat: (R,) bool: changed in the plane only.
        margin: Voxels (z, y, x) by which a box is longer than a patch, on each side; negative of magnified patches.
        labelled: As of a `Gathered`; so are the following.
        modality_mask: (B, M) bool.
        case: (B,) int64.
        seed: (B,) int64.
    """

    row: Tensor
    within: Tensor
    start: Tensor
    moving: Tensor
    flat: Tensor
    margin: tuple[int, int, int]
    labelled: Tensor
    modality_mask: Tensor
    case: Tensor
    seed: Tensor


class Resident:
    """The voxels of all training cases as two flat tensors.

    Args:
        cases: The dataset's, in its order.
        patch: (D, H, W); a slice has depth 1.
        background: Value of the image where a patch reaches beyond the volume.
        device: Where they are to lie.

    Raises:
        UsageError: They do not fit into its free memory.
    """

    def __init__(
        self, cases: Sequence[CaseIndex], patch: tuple[int, int, int], background: float, device: torch.device
    ) -> None:
        self.patch, self.background = patch, background
        volumes = [prepared(case.image).shape[1:] for case in cases]
        sizes = np.array([prod(volume) for volume in volumes], np.int64)
        held = np.array([[row != ABSENT for row in case.channels] for case in cases])
        voxels = int(held.sum(1) @ sizes)
        self.bytes = 2 * voxels + int(sizes.sum())
        require_room(self.bytes, len(cases), device)
        # first voxel of each case's channels in the one tensor, of its labels in the other
        ends = np.cumsum(held * sizes[:, None]).reshape(held.shape)
        self._first = torch.from_numpy(ends - held * sizes[:, None]).to(device)
        self._first_label = torch.from_numpy(np.cumsum(sizes) - sizes).to(device)
        self._shape = torch.tensor(volumes, dtype=torch.int64, device=device)
        self._has_label = torch.tensor([case.label is not None for case in cases], device=device)
        self._image = torch.empty(voxels, dtype=torch.float16, device=device)
        self._label = torch.zeros(int(sizes.sum()), dtype=torch.uint8, device=device)
        at = at_label = 0
        for case, size in zip(cases, sizes.tolist(), strict=True):
            volume = prepared(case.image)
            for row in case.channels:
                if row != ABSENT:
                    self._image[at : at + size] = torch.from_numpy(volume[row].copy()).reshape(-1)
                    at += size
            if case.label is not None:
                self._label[at_label : at_label + size] = torch.from_numpy(prepared(case.label).copy()).reshape(-1)
            at_label += size
        rank_zero_info(f"training set in the memory of {device}: {self.bytes / 1e9:.2f} GB, {len(cases)} cases")

    def __call__(self, asked: Asked) -> Gathered:
        """What the dataset's `gather` reads from files, to the bit."""
        count = len(asked.row)
        still = torch.ones(count, dtype=torch.bool, device=asked.row.device)
        still[asked.moving] = False
        (places,) = still.nonzero(as_tuple=True)
        image, label = self._boxes(asked, places, (0, 0, 0))
        moving = None
        if len(asked.moving):
            image, label = spread(image, places, count), spread(label, places, count)  # `Augment` fills the others
            moving = Moving(asked.moving, *self._boxes(asked, asked.moving, asked.margin), asked.flat)
        return Gathered(image, label, moving, asked.labelled, asked.modality_mask, asked.case, asked.start, asked.seed)

    def _boxes(self, asked: Asked, samples: Tensor, margin: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Images (B, M, *box) and native labels (B, *box) of these samples; as many at once as an index may have."""
        voxels = asked.modality_mask.shape[1] * prod(n + 2 * more for n, more in zip(self.patch, margin, strict=True))
        parts = [self._read(asked, some, margin) for some in samples.split(max(1, MOST_INDEXED // voxels))]
        images, labels = zip(*parts, strict=True)
        return (images[0], labels[0]) if len(parts) == 1 else (torch.cat(images), torch.cat(labels))

    def _read(self, asked: Asked, samples: Tensor, margin: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        case, shown = asked.row[samples], asked.modality_mask[samples]
        shape, within, start = self._shape[case], asked.within[samples], asked.start[samples]
        inside: list[Tensor] = []
        places: list[Tensor] = []
        for axis, (n, more) in enumerate(zip(self.patch, margin, strict=True)):
            place = start[:, axis, None] - more + torch.arange(n + 2 * more, device=start.device)
            inside.append((place >= within[:, axis, :1]) & (place < within[:, axis, 1:]))
            places.append(torch.where(inside[-1], place, 0))
        z, y, x = places
        columns = (z[:, :, None] * shape[:, 1, None, None] + y[:, None]) * shape[:, 2, None, None]
        index = columns[..., None] + x[:, None, None]
        read = inside[0][:, :, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None]
        first = self._first_label[case][:, None, None, None]
        label = self._label[first + index]
        label.masked_fill_(~(read & (asked.labelled[samples] & self._has_label[case])[:, None, None, None]), 0)
        # A channel that is not shown may be one that the case has not: its first voxel is then another channel's.
        first = torch.where(shown, self._first[case], 0)[:, :, None, None, None]
        image = self._image[first + index[:, None]]
        image.masked_fill_(~read[:, None], self.background)
        return image.masked_fill_(~shown[:, :, None, None, None], 0), label


def spread(some: Tensor, places: Tensor, count: int) -> Tensor:
    """These samples of a batch at their places among `count`, of which the others are 0."""
    return some.new_zeros(count, *some.shape[1:]).index_copy_(0, places, some)


def require_room(needed: int, cases: int, device: torch.device) -> None:
    """Refuse a training set that a GPU's free memory does not hold; of a CPU's memory the system decides.

    Raises:
        UsageError: With both figures.
    """
    if device.type != "cuda":
        return
    torch.cuda.empty_cache()  # else what a validation has used and left counts as taken
    free, _ = torch.cuda.mem_get_info(device)
    if needed > free:
        raise UsageError(
            f"--data.residency device: {cases} training cases take {needed / 1e9:.1f} GB, and {device} has "
            f"{free / 1e9:.1f} GB free, of which the step needs some, too; give --data.residency disk, or crop more "
            f"(--data.preparation.crop)"
        )
