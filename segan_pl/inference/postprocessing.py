"""Named steps that mend a segmentation on its native grid; none runs unless asked for."""

from __future__ import annotations

import math
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
        volume_ml: What the step compares with, above 0; 0 where it compares nothing.
    """

    name: str
    volume_ml: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in STEPS:
            raise UsageError(f"--postprocess {self.name}: no such step; {nearest(self.name, STEPS)}")
        if self.name in COMPARING and not 0 < self.volume_ml < math.inf:
            raise UsageError(f"--postprocess {self}: expected a volume above 0 ml, e.g. {self.name}:0.5")
        if self.name not in COMPARING and self.volume_ml != 0:
            raise UsageError(f"--postprocess {self}: takes no volume; leave {self.volume_ml:g} out")

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
        return f"{self.name}:{repr(float(self.volume_ml)).removesuffix('.0')}" if self.volume_ml else self.name

    def require_tissues(self, convention: Convention) -> None:
        """Raise UsageError where native labels do not tell apart what the step relabels."""
        if self.name == "small_enhancing" and not {"enhancing", "necrosis"} <= {name for name, _ in convention.tissues}:
            raise UsageError(f"--postprocess {self.name}: '{convention.name}' has no enhancing tumour and necrosis")


def postprocess(
    label: NDArray[np.uint8], steps: Sequence[Step], *, convention: Convention, voxel_ml: float
) -> NDArray[np.uint8]:
    """Carry out the steps, in order, on (D, H, W) native labels.

    Raises:
        UsageError: A step relabels tissues that the convention does not tell apart.
    """
    for step in steps:
        step.require_tissues(convention)
    if not steps or not label.any():
        return label
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in _occupied(label))
    mended = label[box]  # no step leaves the box of what is labelled
    for step in steps:
        mended = STEPS[step.name](mended, step.volume_ml, convention, voxel_ml)
    out = np.zeros_like(label)
    out[box] = mended
    return out


def _occupied(label: NDArray[np.uint8]) -> list[NDArray[np.intp]]:
    """Indices with a label, one array an axis."""
    return [np.flatnonzero(label.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]


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
COMPARING = ("small_components", "small_enhancing")  # the steps with a volume
