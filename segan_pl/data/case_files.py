"""One case's files, read and held against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import ORIGIN_TOLERANCE_MM, Case, CaseError, Nonfinite, Shape
from segan_pl.data.geometry import leading, nearest_rotation
from segan_pl.data.io import AXES_TOLERANCE, Volume, finite, read_channels, read_volume, same_affine

MASK = "mask"
LABEL_TOLERANCE = 1e-3


def read_case(
    case: Case, *, nonfinite: Nonfinite = "refuse", held: Mapping[str, Volume] | None = None
) -> Iterator[tuple[str, Volume]]:
    """(modality, volume) one after another, then ("mask", volume) if there is one; all on the first one's grid.

    A volume can be dropped before the next is read: memory for one is enough, and its pages are used again. A 4-D file
    that holds several modalities is read once, and kept until the last of them.

    Args:
        case: Its `channels` say which volume of a 4-D file a modality is.
        nonfinite: NaN and Inf voxels of an image: "refuse", or "zero"; a mask with any is refused.
        held: Modality to its volume where that is in memory; its file is not read.

    Raises:
        CaseError: A file cannot be used, there is no image, or grids differ.
    """
    if not case.images:
        raise CaseError(f"{case.name}: no image found, expected at least one modality; complete the case or drop it")
    first: tuple[str, tuple[Shape, NDArray[np.float64]]] | None = None
    for part, volume in _volumes(case, nonfinite, held or {}):
        place = (volume.shape, volume.affine)
        first = first or (part, place)
        if said := difference(part, place, *first, origin_mm=case.origin_tolerance_mm):
            raise CaseError(f"{case.name}: {said}; {remedy(said)}")
        yield part, volume
        del volume


def _volumes(case: Case, nonfinite: Nonfinite, held: Mapping[str, Volume]) -> Iterator[tuple[str, Volume]]:
    """Part and volume; a 4-D file once."""
    shared: tuple[Path, tuple[Volume, ...]] | None = None
    files = [*case.images.items(), *([(MASK, case.mask)] if case.mask else [])]
    for part, path in files:
        channel = case.channels.get(part)
        try:
            if part in held:
                yield part, finite(held[part], nonfinite)
                continue
            if channel is None:
                yield part, read_volume(path, nonfinite=nonfinite if part != MASK else "refuse")
                continue
            if shared is None or shared[0] != path:
                shared = (path, read_channels(path, nonfinite=nonfinite))
        except ValueError as error:
            raise CaseError(f"{case.name}: {f'{part}: ' if part in held else ''}{error}") from error
        if channel >= len(shared[1]):
            raise CaseError(f"{case.name}: {path} has {len(shared[1])} volumes, {part} should be number {channel}")
        yield part, shared[1][channel]


def labels_of(mask: Volume, case: str) -> NDArray[np.uint8]:
    """A mask's voxels as uint8; floats within 1e-3 of an integer are rounded.

    Raises:
        CaseError: A voxel is fractional, negative or above 255.
    """
    array = mask.array
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f":
        whole = np.rint(array)
        # so that NaN is refused too
        if not (gap := float(np.abs(array - whole).max())) <= LABEL_TOLERANCE:
            raise CaseError(
                f"{case}: the mask is off an integer by up to {gap:.3g}, expected labels; threshold it first"
            )
        array = whole
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise CaseError(f"{case}: the mask holds values from {low:g} to {high:g}, expected labels 0 to 255; fix it")
    return array.astype(np.uint8)


def duplicates(digests: Mapping[str, str]) -> list[str]:
    """A note for each part of a case whose file has the same content as an earlier part's."""
    seen: dict[str, str] = {}
    pairs = [(seen.setdefault(digest, part), part) for part, digest in digests.items()]
    return [f"{first} and {part} are the same file" for first, part in pairs if first != part]


AXES = "xyz"
# Of a cosine: headers keep 7 digits.
ROUNDING = 1e-5


def difference(
    part: str,
    found: tuple[Shape, NDArray[np.float64]],
    other: str,
    usual: tuple[Shape, NDArray[np.float64]],
    *,
    origin_mm: float = ORIGIN_TOLERANCE_MM,
) -> str | None:
    """What is said of a part that lies elsewhere than another one; None where they share a grid.

    Args:
        part: Its name.
        found: Its shape (D, H, W), and its affine (4, 4), voxel (x, y, z) to mm.
        other: The name of what it is held against.
        usual: The same of that.
        origin_mm: How far apart the first voxels may lie along each axis, in mm.

    Returns:
        E.g. "mask is shifted by 0.5 mm along x against t1"; axes are those of the other file's voxels.
    """
    if found[0] != usual[0]:
        return f"{part} has shape {found[0][::-1]}, {other} has shape {usual[0][::-1]}"
    if same_affine(found[1], usual[1], origin_mm=origin_mm):
        return None
    mine, theirs = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (found[1], usual[1]))
    if np.abs(found[1] - usual[1])[:3, :3].max() <= AXES_TOLERANCE:
        shift = np.linalg.inv(usual[1][:3, :3] / theirs) @ (found[1] - usual[1])[:3, 3]
        along = [f"{mm:.3g} mm along {axis}" for mm, axis in zip(shift, AXES, strict=True) if abs(mm) > origin_mm / 2]
        return f"{part} is shifted by {' and '.join(along)} against {other}"
    if np.abs(mine - theirs).max() > AXES_TOLERANCE:
        sizes = [f"({', '.join(f'{mm:.4g}' for mm in one)})" for one in (mine, theirs)]
        return f"{part} has spacing {sizes[0]} mm against {sizes[1]} mm of {other}"
    return _turned(part, found[1], other, usual[1])


def remedy(said: str) -> str:
    """What to do about a difference: a shift may be a tolerance too strict for the data set."""
    return f"resample one of them or drop the case{allowance(said)}"


def allowance(said: str) -> str:
    """The end of a remedy where a tolerance would allow the difference: that option; else nothing."""
    return ", or allow it by --data.origin_tolerance_mm" if " is shifted by " in said else ""


def _turned(part: str, found: NDArray[np.float64], other: str, usual: NDArray[np.float64]) -> str:
    """How axes lead elsewhere: other axes, flipped ones, a rotation, or other angles between them."""
    axes = ""
    rotation = nearest_rotation(usual).T @ nearest_rotation(found)
    order = max(permutations(range(3)), key=lambda axes: sum(abs(rotation[axes[n], n]) for n in range(3)))
    signs = [float(np.sign(rotation[order[n], n])) for n in range(3)]
    said = []
    if order != (0, 1, 2):
        axes = f"the axes of {part} lead to {leading(found)}, those of {other} to {leading(usual)}"
    elif min(signs) < 0:
        said.append(
            f"is flipped along {' and '.join(axis for axis, sign in zip(AXES, signs, strict=True) if sign < 0)}"
        )
    plain = np.zeros((3, 3))
    plain[list(order), range(3)] = signs
    rest = rotation @ plain.T
    if np.abs(rest - np.eye(3)).max() > ROUNDING:
        angle = math.degrees(math.acos(np.clip((np.trace(rest) - 1) / 2, -1, 1)))
        said.append(f"is rotated by {angle:.1f} degrees" if angle >= 0.1 else f"is rotated by {angle:.1g} degrees")
    if np.abs(_cosines(found) - plain.T @ _cosines(usual) @ plain).max() > ROUNDING:
        said.append("is sheared")
    rest_said = f"{part} {' and '.join(said)} against {other}" if said else ""
    return "; ".join(filter(None, (axes, rest_said)))


def _cosines(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) cosines of the angles between an affine's axes."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines: NDArray[np.float64] = axes.T @ axes
    return cosines
