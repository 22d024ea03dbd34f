"""What is done to a batch once its voxels are read: one function, in a loader's worker or on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segan_pl.batch import Batch
from segan_pl.data.labels import LabelScheme
from segan_pl.data.sample.changes import Changes, draw_changes
from segan_pl.data.sample.intensities import rows_of, with_intensities
from segan_pl.data.sample.options import Augmentation
from segan_pl.data.sample.spatial import grid_in, resample, source_coordinates
from segan_pl.errors import UsageError

Transform = Callable[[Batch], Batch]


class Moving(NamedTuple):
    """The samples of a batch whose voxels are interpolated, as boxes large enough for what happens to them.

    Attributes:
        rows: (R,) int64, in the batch.
        image: (R, M, *box) float16, the patch's centre in the middle.
        label: (R, *box) uint8.
        flat: (R,) bool: changed in the plane only.
    """

    rows: Tensor
    image: Tensor
    label: Tensor
    flat: Tensor


class Gathered(NamedTuple):
    """A batch as it is read: what a worker hands over where the rest is done on the device.

    Attributes:
        image: (B, M, D, H, W) float16; 0 of the samples in `moving`.
        label: (B, D, H, W) uint8, native labels.
        moving: Samples that need voxels interpolated; None for none.
        labelled: As of a Batch; so are the following.
        modality_mask: (B, M) bool.
        case: (B,) int64.
        origin: (B, 3) int64.
        seed: (B,) int64.
    """

    image: Tensor
    label: Tensor
    moving: Moving | None
    labelled: Tensor
    modality_mask: Tensor
    case: Tensor
    origin: Tensor
    seed: Tensor


@dataclass(frozen=True)
class Augment:
    """From what is read to a batch, with equal results wherever it runs.

    Attributes:
        options: What is varied.
        scheme: Native labels to channels.
        patch: (H, W) or (D, H, W): an image of slices has no depth.
        background: The prepared value of padding.
        from_background: Whether that is the least intensity that there is, as with percentiles, not with z-scores.
        transforms: The user's own, of whole batches, which come last.
    """

    options: Augmentation
    scheme: LabelScheme
    patch: tuple[int, ...]
    background: float = 0.0
    from_background: bool = True
    transforms: tuple[Transform, ...] = ()

    def __call__(self, read: Gathered) -> Batch:
        """One batch: image (B, M, *patch) float16, or float32 where intensities vary; target (B, C, *patch) uint8.

        Order: displacement, rotation, scale, mirror, intensities (see `with_intensities`), transforms.

        Raises:
            UsageError: One of `transforms` returns no batch.
        """
        image, label = read.image, read.label
        if self.options.varies:
            changes = draw_changes(read.seed, self.options, image.shape[1])
            image, label = self._varied(read, changes)
        target = self.encode(label)
        if not bool(read.labelled.all()):
            # Exclusive labels would leave a background of 1.
            target[~read.labelled] = 0
        if len(self.patch) == 2:
            image, target = image[:, :, 0], target[:, :, 0]
        batch = Batch(image, target, read.labelled, read.modality_mask, read.case, read.origin, read.seed)
        for transform in self.transforms:
            if not isinstance(changed := transform(batch), Batch):
                name = getattr(transform, "__name__", type(transform).__name__)
                raise UsageError(f"--data.transforms: {name} returns {type(changed).__name__}, expected a Batch")
            batch = changed
        return batch

    def _varied(self, read: Gathered, changes: Changes) -> tuple[Tensor, Tensor]:
        """Image (B, M, D, H, W) and native labels after all changes; what is read is changed where it lies."""
        image, label = read.image, read.label
        # Mirrored here it is in half precision, which is cheaper; samples that move are still blank.
        mirrored(image, label, changes.mirror)
        if not self.options.varies_intensities:
            return image, label
        if read.moving is not None and len(read.moving.rows) == len(image):
            image, label = self._moved(read.moving, changes, read.seed)
        else:
            image = image.float()
            if read.moving is not None:
                moved, turned = self._moved(read.moving, changes, read.seed)
                image.index_copy_(0, read.moving.rows, moved)
                label.index_copy_(0, read.moving.rows, turned)
        # Brightness and a plain gamma do not move the least intensity; what refers to the mean moves it too.
        about_mean = bool(self.options.contrast) or self.options.gamma_keeps_moments
        kept = self.options.keep_background and (about_mean or not self.from_background)
        with_intensities(
            image,
            changes,
            read.seed,
            read.modality_mask,
            background=self.background,
            keep_background=kept,
            keep_moments=self.options.gamma_keeps_moments,
        )
        image[~read.modality_mask] = 0
        return image, label

    def _moved(self, moving: Moving, changes: Changes, seed: Tensor) -> tuple[Tensor, Tensor]:
        """(R, M, *patch) float32 and (R, *patch) uint8; what lies outside the volume is background."""
        changes = changes.take(moving.rows.cpu())
        patch = (1, *self.patch) if len(self.patch) == 2 else self.patch
        coordinates = source_coordinates(changes, seed[moving.rows], patch, moving.flat.cpu())  # type: ignore[arg-type]
        grid = grid_in(moving.label.shape[1:], coordinates)
        image = resample(moving.image.float().sub_(self.background), grid, "bilinear").add_(self.background)
        label = resample(moving.label.float()[:, None], grid, "nearest")[:, 0].to(torch.uint8)
        mirrored(image, label, changes.mirror)
        return image, label

    def encode(self, label: Tensor) -> Tensor:
        """Native labels (B, *spatial) uint8 to channels (B, C, *spatial), the channels last in memory."""
        if label.device.type == "cpu":
            return torch.from_numpy(self.scheme.encode(label.numpy())).movedim(0, 1)
        return self.table().to(label.device).T[label.int()].movedim(-1, 1)

    def table(self) -> Tensor:
        """(C, 256): channels of each native label."""
        return torch.from_numpy(self.scheme.encode(np.arange(256, dtype=np.uint8)))


def mirrored(image: Tensor, label: Tensor, mirror: Tensor) -> None:
    """Mirror samples of (B, M, D, H, W) and (B, D, H, W) where they lie, along (z, y, x) where `mirror` (B, 3) says."""
    if image.device.type == "cpu":
        for row, axes in enumerate(mirror.tolist()):
            if along := [axis - 3 for axis, there in enumerate(axes) if there]:
                # One volume at a time stays in the processor's cache.
                for volume in (*image[row], label[row]):
                    volume.copy_(volume.flip(along))
        return
    for axes in mirror.unique(dim=0):
        along = axes.nonzero()[:, 0].tolist()
        if along:
            rows = rows_of((mirror == axes).all(1)).to(image.device)
            image.index_copy_(0, rows, image.index_select(0, rows).flip([2 + axis for axis in along]))
            label.index_copy_(0, rows, label.index_select(0, rows).flip([1 + axis for axis in along]))
