"""Named steps that mend a segmentation on its native grid; none runs unless asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segan_pl.data.labels import Convention
from segan_pl.errors import UsageError, nearest

ANY_NEIGHBOUR = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Step:
    """One step and its number, e.g. components below 0.5 ml.

    Attributes:
        name: A key of STEPS.
        volume_ml: What the step compares with; 0 where it compares nothing.
    """

    name: str
    volume_ml: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in STEPS:
            raise UsageError(f"--postprocess {self.name}: no such step; {nearest(self.name, STEPS)}")
        if self.volume_ml < 0:
            raise UsageError(f"--postprocess {self}: expected a volume of at least 0 ml")

    @classmethod
    def parse(cls, text: str) -> Step:
        """From "name" or "name:ml".

        Raises:
            UsageError: No such step, or no number.
        """
        name, colon, volume = text.partition(":")
        try:
            return cls(name, float(volume) if colon else 0.0)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"--postprocess {text}: expected NAME or NAME:ml, e.g. small_components:0.5") from error

    def __str__(self) -> str:
        return f"{self.name}:{self.volume_ml:g}" if self.volume_ml else self.name


def postprocess(
    label: NDArray[np.uint8], steps: Sequence[Step], *, convention: Convention, voxel_ml: float
) -> NDArray[np.uint8]:
    """Carry out the steps, in order, on (D, H, W) native labels."""
    for step in steps:
        label = STEPS[step.name](label, step.volume_ml, convention, voxel_ml)
    return label


def small_components(label: NDArray[np.uint8], volume_ml: float, _: Convention, voxel_ml: float) -> NDArray[np.uint8]:
    """Set whole-tumour components (26 neighbours) below a volume to background."""
    components, count = ndimage.label(label > 0, ANY_NEIGHBOUR)
    if count == 0:
        return label
    small = np.bincount(components.ravel()) * voxel_ml < volume_ml
    small[0] = False
    return np.where(small[components], 0, label).astype(np.uint8)


def small_enhancing(
    label: NDArray[np.uint8], volume_ml: float, convention: Convention, voxel_ml: float
) -> NDArray[np.uint8]:
    """Relabel enhancing tumour as necrosis where the case has less of it than a volume (Isensee et al. 2018)."""
    tissues = dict(convention.tissues)
    if not {"enhancing", "necrosis"} <= set(tissues):
        raise UsageError(f"--postprocess small_enhancing: '{convention.name}' has no enhancing tumour and necrosis")
    enhancing = label == tissues["enhancing"]
    if enhancing.sum() * voxel_ml >= volume_ml:
        return label
    return np.where(enhancing, tissues["necrosis"], label).astype(np.uint8)


def fill_holes(label: NDArray[np.uint8], _: float, convention: Convention, __: float) -> NDArray[np.uint8]:
    """Label background that tumour encloses in 3-D like the labelled voxel nearest to it."""
    holes = ndimage.binary_fill_holes(label > 0) & (label == 0)
    if not holes.any():
        return label
    nearest_voxel = ndimage.distance_transform_edt(label == 0, return_distances=False, return_indices=True)
    return np.where(holes, label[tuple(nearest_voxel)], label).astype(np.uint8)


STEPS: dict[str, Callable[[NDArray[np.uint8], float, Convention, float], NDArray[np.uint8]]] = {
    "small_components": small_components,
    "small_enhancing": small_enhancing,
    "fill_holes": fill_holes,
}
