"""The grid of 1 mm that a patient's sequences are brought to, and the way back, each by one interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segan_pl.clinical.align import as_transform
from segan_pl.data.case import Shape
from segan_pl.data.geometry import target_geometry
from segan_pl.data.io import Volume
from segan_pl.inference.atlases.registration import as_image, one_thread, simple_itk

Interpolation = Literal["linear", "bspline", "nearest"]
ORIENTATION = "LPS"


@dataclass(frozen=True)
class Space:
    """A grid.

    Attributes:
        shape: (D, H, W).
        affine: (4, 4), voxel (x, y, z) to mm, RAS.
    """

    shape: Shape
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, volume: Volume, spacing_mm: float | None) -> Space:
        """The grid of an image turned to axial slices (x to the left, y to the back, z up), of cubes of `spacing_mm`.

        The axes stay those of the scan: they are permuted and flipped, not rotated (the paper's fslswapdim). None keeps
        the size of the voxels, as of an atlas.
        """
        cubes = None if spacing_mm is None else (spacing_mm,) * 3
        geometry = target_geometry(volume.shape, volume.affine, ORIENTATION, cubes)
        return cls(geometry.target_shape, geometry.affine_prepared)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> Space:
        """The inverse of `as_dict`."""
        depth, height, width = held["shape"]
        return cls((depth, height, width), np.array(held["affine"], np.float64))


def resampled(volume: Volume, motion: ArrayLike, space: Space, interpolation: Interpolation) -> NDArray[np.float32]:
    """An image on another grid, by one interpolation through its motion.

    Args:
        volume: On its own grid.
        motion: (4, 4), from places in `space` to places in the image, mm, LPS.
        space: Where to.
        interpolation: "bspline" is cubic; what it overshoots is clipped to the image's own range.

    Returns:
        (D, H, W); 0 where the image was not scanned.
    """
    found = _onto(volume.array, volume.affine, np.asarray(motion, np.float64), space, interpolation)
    if interpolation == "bspline":
        np.clip(found, min(0.0, float(volume.array.min())), float(volume.array.max()), out=found)
    return found


def resampled_label(label: NDArray[np.uint8], affine: NDArray, motion: ArrayLike, space: Space) -> NDArray[np.uint8]:
    """A mask on another grid: the label of the nearest voxel; arguments as `resampled`."""
    found = _onto(label, affine, np.asarray(motion, np.float64), space, "nearest")
    return np.rint(found).astype(np.uint8)


def _onto(
    array: NDArray, affine: NDArray[np.float64], motion: NDArray[np.float64], space: Space, interpolation: Interpolation
) -> NDArray[np.float32]:
    sitk = simple_itk("clinical")
    kinds = {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline, "nearest": sitk.sitkNearestNeighbor}
    # SimpleITK takes an image for the grid; of one byte a voxel, since nothing of it is read but the grid
    grid = as_image(sitk, np.zeros((1, 1, 1), np.float32), space.affine)
    with one_thread(sitk):
        found = sitk.Resample(
            as_image(sitk, array, affine),
            list(space.shape[::-1]),
            as_transform(sitk, motion),
            kinds[interpolation],
            grid.GetOrigin(),
            grid.GetSpacing(),
            grid.GetDirection(),
            0.0,
            sitk.sitkFloat32,
        )
    return np.array(sitk.GetArrayViewFromImage(found))
