"""Options of training patches that make no sense, alone or together, refused before any case is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from segan_pl.data.augmentation import Augmentation
from segan_pl.data.patches import PatchSampling
from segan_pl.data.sampling import Empty
from segan_pl.data.transforms import PatchAugmentation
from segan_pl.errors import UsageError

INSTEAD = {
    "empty": "sampling.foreground",
    "augmentation.flip_x": "patch_augmentation.mirror",
    "augmentation.flip_y": "patch_augmentation.mirror",
    "augmentation.rotation_deg": "patch_augmentation.rotation",
    "augmentation.scale": "patch_augmentation.scaling",
    "augmentation.gain": "patch_augmentation.brightness",
    "augmentation.gamma": "patch_augmentation.gamma",
}
"""Options of slices, and what does the like for 3-D patches."""


def require_numbers(patch: Sequence[int], batch_size: int, workers: int) -> None:
    """Refuse sizes and numbers that are none.

    Raises:
        UsageError: A side or a batch below 1, or fewer than 0 workers.
    """
    if min(patch) < 1:
        raise UsageError(f"--data.patch {list(patch)}: expected at least 1 voxel a side")
    if batch_size < 1:
        raise UsageError(f"--data.batch_size {batch_size}: expected at least 1")
    if workers < 0:
        raise UsageError(f"--data.workers {workers}: expected at least 0, which loads in the training process")


def require_one_kind(
    patch: Sequence[int],
    empty: Empty,
    augmentation: Augmentation,
    *,
    sampling: PatchSampling | None,
    patch_augmentation: PatchAugmentation | None,
) -> None:
    """Refuse options of slices with 3-D patches, and the other way about, which would do nothing.

    Raises:
        UsageError: It names them, and what does the like.
    """
    if len(patch) == 3:
        wrong = [*(["empty"] if empty != "keep" else []), *_varied(augmentation)]
        wrong = [name for name in wrong if name != "augmentation.modality_dropout"]
        remedy = list(dict.fromkeys(INSTEAD[name] for name in wrong))
    else:
        given = {"sampling": sampling, "patch_augmentation": patch_augmentation}
        wrong, remedy = [name for name, value in given.items() if value is not None], ["augmentation"]
    if wrong:
        named, meant = (", ".join(f"--data.{name}" for name in names) for names in (wrong, remedy))
        raise UsageError(f"--data.patch {list(patch)}: {named} is of the other kind of patch; use {meant}")


def _varied(found: Augmentation) -> list[str]:
    """The options that are not at their default."""
    return [f"augmentation.{field.name}" for field in fields(found) if getattr(found, field.name) != field.default]


def require_several_to_hide(augmentation: Augmentation, modalities: Sequence[str]) -> None:
    """Refuse modality dropout of a single modality: it always stays.

    Raises:
        UsageError: It names the modality.
    """
    if augmentation.modality_dropout and len(modalities) == 1:
        raise UsageError(
            f"--data.augmentation.modality_dropout {augmentation.modality_dropout}: the only modality, "
            f"{modalities[0]}, always stays; give several --data.modalities or leave it out"
        )
