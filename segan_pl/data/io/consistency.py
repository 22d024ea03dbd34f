"""What a header says twice and not alike, and axes that no scanner has."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.geometry import nearest_rotation

# From where on it is noted; docs/check.md states them. Between two forms:
ANGLE_DEGREES = 1.0
# Between two forms that are not rotated against each other.
SHIFT_MM = 1.0
# Between two sizes of a voxel; headers round to two or three digits.
SIZE_FACTOR = 1.01
# Of two axes away from a right angle; a cosine of 0.001.
SKEW_DEGREES = 0.06


def forms_note(used: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[str, ...]:
    """A note where the qform places a volume elsewhere than the sform, which is used.

    Args:
        used: (4, 4) of the sform, in mm.
        other: The same of the qform.
        shape: (X, Y, Z), voxels.
    """
    if not np.isfinite(other).all():
        return ()
    rotation = nearest_rotation(other).T @ nearest_rotation(used)
    if np.linalg.det(rotation) < 0:
        return ("the qform mirrors what the sform says; the sform is used",)
    angle = math.degrees(math.acos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    if angle > ANGLE_DEGREES:
        return (f"qform and sform are {angle:.1f} degrees apart; the sform is used",)
    corners = np.array([[x, y, z, 1] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1) for z in (0, shape[2] - 1)])
    # of all corners: a rotation moves some
    gap = float(np.linalg.norm(((used - other) @ corners.T)[:3], axis=0).min())
    return (f"qform and sform are {gap:.1f} mm apart; the sform is used",) if gap > SHIFT_MM else ()


def sizes_note(affine: NDArray[np.float64], spacing: NDArray[np.float64], form: str) -> tuple[str, ...]:
    """A note where the header's voxel sizes are not those of the form that is used.

    Args:
        affine: (4, 4), in mm.
        spacing: (3,), the header's own sizes, in mm.
        form: What the affine comes from.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    factors = np.maximum(sizes, spacing) / np.minimum(sizes, spacing)
    if not (factors > SIZE_FACTOR).any():
        return ()
    found, said = (" x ".join(f"{mm:.4g}" for mm in one) for one in (sizes, spacing))
    factor = f"a factor of {factors.max():.3g}"
    return (f"voxels of {found} mm by the {form}, {said} mm by pixdim ({factor}); the {form} is used",)


def shear_note(affine: NDArray[np.float64]) -> tuple[str, ...]:
    """A note where two axes are not at a right angle."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs((axes.T @ axes)[[0, 0, 1], [1, 2, 2]])
    off = math.degrees(math.asin(min(1.0, float(cosines.max()))))
    if off <= SKEW_DEGREES:
        return ()
    return (f"sheared: two axes are {90 - off:.4g} degrees apart, not 90; volumes and distances take them for it",)
