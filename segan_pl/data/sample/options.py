"""The options of training batches: how many patches and where, what is varied, and what makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from segan_pl.data.case import CaseError
from segan_pl.data.sample.case_index import CaseIndex
from segan_pl.errors import UsageError

Empty = Literal["keep", "drop", "balance"]
AugmentOn = Literal["loader", "device"]
ForegroundOf = Literal["voxels", "channels"]


@dataclass(frozen=True)
class Sampling:
    """How many patches an epoch has, and where they lie.

    Attributes:
        per_case: Patches of each case an epoch. Default: of slices every one, once and in random order (SegAN-CAT); of
            volumes 1.
        batches: Batches an epoch, each element of a case drawn at random, instead of `per_case` (AlbuNet: 100).
        foreground: Chance of each patch to have a voxel of a scored channel as near to its centre as the volume allows,
            where the case has one (nnU-Net: exactly the last third of each batch); the others lie anywhere, equally
            likely (the papers' way). A patch stays inside the volume, so along an axis where it is nearly as large, it
            can hardly be drawn to anything.
        foreground_of: Of which voxels those patches are drawn to one: of all "voxels" of the scored channels alike, so
            mostly of the largest; or of one of the "channels" that the case has, all equally likely (nnU-Net's way).
        brain: Least share of a patch's voxels that are above background, labelled or not (0.18 is 6,000 of 32 x 32 x 32
            voxels, Mondal et al. 2018's code). Of ten places in the case the first with as much is taken,
            else the one with the most; a patch that is drawn to a voxel stays.
        empty: Slices without label, where every slice is drawn: "keep" (the papers'), "drop", or "balance": as many
            empty slices as others, other ones each epoch.

    Raises:
        UsageError: A number out of its range, or both `per_case` and `batches`.
    """

    per_case: int | None = None
    batches: int | None = None
    foreground: float = 0.0
    foreground_of: ForegroundOf = "voxels"
    brain: float = 0.0
    empty: Empty = "keep"

    def __post_init__(self) -> None:
        for name in ("per_case", "batches"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UsageError(f"--data.sampling.{name} {number}: expected at least 1")
        for name in ("foreground", "brain"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"--data.sampling.{name} {getattr(self, name)}: expected a share from 0 to 1")
        if self.batches is not None and self.per_case is not None:
            raise UsageError(
                f"--data.sampling.per_case {self.per_case}: batches {self.batches} says how many patches there are; "
                f"give --data.sampling.batches null, or leave per_case out"
            )

    def every_slice(self, patch: Sequence[int]) -> bool:
        """Whether an epoch is every slice once."""
        return len(patch) == 2 and self.per_case is None and self.batches is None

    def patches(self, cases: Sequence[CaseIndex], patch: Sequence[int], batch_size: int) -> int:
        """How many patches an epoch has, empty slices among them: known before any mask is read."""
        if self.batches is not None:
            return self.batches * batch_size
        if self.every_slice(patch):
            return sum(case.real_box[0].stop - case.real_box[0].start for case in cases)
        return (self.per_case or 1) * len(cases)

    def require_sense(self, patch: Sequence[int]) -> None:
        """Refuse what would do nothing with these patches.

        Raises:
            UsageError: It names the option as typed, and what does the like.
        """
        if self.foreground and self.every_slice(patch):
            raise UsageError(
                f"--data.sampling.foreground {self.foreground}: with --data.patch {list(patch)} every slice is drawn "
                f"once; give --data.sampling.per_case or .batches too, or use --data.sampling.empty drop or balance"
            )
        if self.brain and self.every_slice(patch):
            raise UsageError(
                f"--data.sampling.brain {self.brain}: with --data.patch {list(patch)} every slice is drawn once; give "
                f"--data.sampling.per_case or .batches too, or leave it out"
            )
        if self.foreground_of != "voxels" and not self.foreground:
            raise UsageError(
                f"--data.sampling.foreground_of {self.foreground_of}: --data.sampling.foreground draws no patch to a "
                f"voxel; give it a share above 0, or leave foreground_of out"
            )
        if self.empty != "keep" and not self.every_slice(patch):
            given = "per_case" if self.batches is None else "batches"
            counted = f"--data.sampling.{given} says how many patches there are"
            raise UsageError(
                f"--data.sampling.empty {self.empty}: is for every slice once, and "
                f"{counted if len(patch) == 2 else f'--data.patch {list(patch)} draws volumes'}; "
                f"use --data.sampling.foreground"
            )


@dataclass(frozen=True)
class Augmentation:
    """What is varied in training patches, of slices and of volumes alike; the default varies nothing.

    Every plain number is the chance for a sample; ranges are uniform. AlbuNet's values (Wacker et al. 2019, the
    authors' code) are in configs/augmentation/albunet_augmentation.yaml, nnU-Net's in nnunet_augmentation.yaml.

    Attributes:
        elastic: Of a smooth displacement.
        elastic_scale: Its Gaussian's sigma, as a share of the patch; the largest displacement of an axis is between an
            eighth and a half of sigma.
        rotation: Of a rotation about each axis (about z only in slices, see `spatial.matrices`).
        rotation_deg: Uniform in +-this, for each axis.
        scaling: Of a change of size, the same along all axes (along y and x in slices).
        scale_range: Of the field of view: above 1 the patch shows more. Below and above 1 are equally likely.
        mirror: Of a mirror image along z, y, x; a slice has no z to mirror.
        brightness: Of a factor for each modality.
        brightness_range: Of that factor.
        contrast: Of a factor for each modality about its mean in the patch, within the range that it has there.
        contrast_range: Of that factor.
        gamma: Of an exponent for each modality, on intensities scaled to [0, 1] and back.
        inverted_gamma: The same on the negative image.
        gamma_range: Of both exponents. Below and above 1 are equally likely.
        gamma_keeps_moments: Whether either gamma restores mean and deviation of each modality in the patch (nnU-Net's
            way), so that z-scores stay z-scores.
        keep_background: Whether brightness, contrast and gamma leave background and padding alone, also where it is
            not the darkest value, as with z-scores; AlbuNet's code changes it there.
        noise: Of Gaussian noise.
        noise_range: Of its standard deviation.
        blur: Of a Gaussian blur, mirrored at the patch's faces.
        blur_range: Of its sigma in voxels, for each modality.
        blur_modality: Chance of each modality, where the sample is blurred.
        low_resolution: Of fewer voxels along each axis, brought back by linear interpolation; a depth of 1 stays.
        low_resolution_range: Of their number, as a share of the patch's side, for each modality.
        low_resolution_modality: Chance of each modality, where the sample is at low resolution.
        modality_dropout: Chance of each modality of a sample to be hidden, as if the case lacked it; one stays always.

    Raises:
        UsageError: A value out of its range.
    """

    elastic: float = 0.0
    elastic_scale: tuple[float, float] = (0.0, 0.25)
    rotation: float = 0.0
    rotation_deg: float = 15.0
    scaling: float = 0.0
    scale_range: tuple[float, float] = (0.75, 1.25)
    mirror: tuple[float, float, float] = (0.0, 0.0, 0.0)
    brightness: float = 0.0
    brightness_range: tuple[float, float] = (0.7, 1.5)
    contrast: float = 0.0
    contrast_range: tuple[float, float] = (0.75, 1.25)
    gamma: float = 0.0
    inverted_gamma: float = 0.0
    gamma_range: tuple[float, float] = (0.5, 2.0)
    gamma_keeps_moments: bool = False
    keep_background: bool = True
    noise: float = 0.0
    noise_range: tuple[float, float] = (0.0, 0.05)
    blur: float = 0.0
    blur_range: tuple[float, float] = (0.5, 1.5)
    blur_modality: float = 0.5
    low_resolution: float = 0.0
    low_resolution_range: tuple[float, float] = (0.5, 1.0)
    low_resolution_modality: float = 0.5
    modality_dropout: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if expected := _expected(field.name, value):
                shown = list(value) if isinstance(value, tuple) else value
                raise UsageError(f"--data.augmentation.{field.name} {shown}: expected {expected}")

    @property
    def moves(self) -> bool:
        """Whether voxels may be interpolated."""
        return any((self.elastic, self.rotation, self.scaling))

    @property
    def varies_intensities(self) -> bool:
        """Whether intensities may change, interpolation included; a patch is float32 then."""
        bent = (self.brightness, self.contrast, self.gamma, self.inverted_gamma)
        return self.moves or any((*bent, self.noise, self.blur, self.low_resolution))

    @property
    def varies(self) -> bool:
        """Whether anything is done to a patch once it is read; what modality dropout hides is not read at all."""
        return self.varies_intensities or any(self.mirror)

    def require_sense(
        self, patch: Sequence[int], modalities: Sequence[str], *, augment_on: AugmentOn = "loader", alone: bool = True
    ) -> None:
        """Refuse what would do nothing with these patches; `alone`: there are no transforms of the user's own.

        Raises:
            UsageError: It names the option as typed.
        """
        if (len(patch) == 2 or patch[0] == 1) and self.mirror[0] and not any(self.mirror[1:]):
            raise UsageError(
                f"--data.augmentation.mirror {list(self.mirror)}: the chances are for z, y, x, and --data.patch "
                f"{list(patch)} has no z to mirror; give one for y or x"
            )
        if self.gamma_keeps_moments and not (self.gamma or self.inverted_gamma):
            raise UsageError(
                "--data.augmentation.gamma_keeps_moments true: neither gamma nor inverted_gamma has a chance above 0; "
                "give one of them, or leave it out"
            )
        if self.modality_dropout and len(modalities) == 1:
            raise UsageError(
                f"--data.augmentation.modality_dropout {self.modality_dropout}: the only modality, {modalities[0]}, "
                f"always stays; give several --data.modalities or leave it out"
            )
        if augment_on == "device" and alone and not self.varies:
            raise UsageError(
                f"--data.augment_on {augment_on}: --data.augmentation varies nothing once a patch is read; give one of "
                f"its options, or leave --data.augment_on out"
            )


def _expected(name: str, value: Any) -> str:
    """What an option of `Augmentation` should be, where it is not that; else nothing."""
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    finite = bool(np.isfinite(numbers).all())
    if name in ("keep_background", "gamma_keeps_moments"):
        return ""
    if name == "rotation_deg":
        return "" if finite and len(numbers) == 1 and numbers[0] >= 0 else "degrees, at least 0"
    if name == "modality_dropout":
        return "" if 0 <= value < 1 else "a chance from 0 to below 1"
    if not name.endswith(("_range", "_scale")):
        count = 3 if name == "mirror" else 1
        right = len(numbers) == count and bool(((numbers >= 0) & (numbers <= 1)).all())
        return "" if right else "three chances from 0 to 1 (z, y, x)" if count == 3 else "a chance from 0 to 1"
    if not finite or len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
        return "two numbers from 0 on, the smaller first"
    if name in ("scale_range", "gamma_range") and not 0 < numbers[0] <= 1 <= numbers[1]:
        return "a range around 1, above 0"
    if name == "low_resolution_range" and not 0 < numbers[0] <= numbers[1] <= 1:
        return "shares of a side above 0 and at most 1"
    return "voxels above 0" if name == "blur_range" and numbers[0] == 0 else ""


def require_numbers(patch: Sequence[int], batch_size: int, workers: int | str, seed: int) -> None:
    """Refuse sizes and numbers that are none.

    Raises:
        UsageError: A side or a batch below 1, workers neither "auto" nor a number from 0 on, or a seed below 0.
    """
    if min(patch) < 1:
        raise UsageError(f"--data.patch {list(patch)}: expected at least 1 voxel a side")
    if batch_size < 1:
        raise UsageError(f"--data.batch_size {batch_size}: expected at least 1")
    if workers != "auto" and (type(workers) is not int or workers < 0):
        raise UsageError(f"--data.workers {workers}: expected auto, or at least 0, which loads in the training process")
    if seed < 0:
        raise UsageError(f"--data.seed {seed}: expected a whole number from 0")


def require_batches(batches: int, patches: int, kind: str, *, ranks: int, least: int, trainer: Any) -> None:
    """Refuse an epoch without a batch, and a validation after more batches than an epoch has.

    Args:
        batches: Of an epoch, before `limit_train_batches`.
        patches: Of an epoch.
        kind: What they are, "slices" or "patches".
        ranks: Processes that train together.
        least: Patches of a rank that a batch needs.
        trainer: Lightning's, or None.

    Raises:
        CaseError: There is no batch.
        UsageError: Validation would never come; Lightning refuses that in words of its own.
    """
    if batches == 0:
        raise CaseError(
            f"{patches} training {kind} make no batch for {ranks} ranks, expected at least {least} a rank; add cases "
            f"or use fewer --trainer.devices"
        )
    every = getattr(trainer, "val_check_interval", None)
    if not isinstance(every, int) or trainer.check_val_every_n_epoch is None:
        return
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if every > batches > 0:
        raise UsageError(
            f"--trainer.val_check_interval {every}: an epoch has {batches} batches; to count over epochs, "
            f"--trainer.check_val_every_n_epoch null, or validate less often with --trainer.check_val_every_n_epoch N"
        )
