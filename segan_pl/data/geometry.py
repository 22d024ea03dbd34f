"""Where a prepared volume lies in its native grid, and the way there and back.

Native volume -> oriented (axes permuted and flipped) -> resampled to another spacing -> cropped or padded. What lies
before the crop is called the target grid. Arrays are (..., D, H, W); affines map voxel (x, y, z) to mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]
Affine = tuple[tuple[float, ...], ...]
Interpolation = Literal["nearest", "linear", "cubic"]
ORDERS: dict[str, int] = {"nearest": 0, "linear": 1, "cubic": 3}
_IDENTITY: Affine = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))


@dataclass(frozen=True)
class Geometry:
    """Where a prepared volume lies: orientation, resampling, and a crop, zero padding, or both, one axis at a time.

    Attributes:
        native: Native shape (D, H, W), voxels.
        start: Index in the target grid of the first prepared voxel; negative where the prepared volume begins with
            padding.
        shape: Prepared shape (D, H, W), voxels.
        affine: The native affine, 4 rows of 4, voxel (x, y, z) to mm.
        order: The native axis (0 is z) that each axis of the target grid is.
        flips: Whether each axis of the target grid runs against its native axis.
        grid: Shape of the target grid where it was resampled, else None.
        step: Native voxels from one voxel of the target grid to the next, one for each of its axes. The centre of the
            target grid is the centre of the native volume.
    """

    native: Shape
    start: Shape
    shape: Shape
    affine: Affine = _IDENTITY
    order: Shape = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)
    grid: Shape | None = None
    step: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def resampled(self) -> bool:
        """Whether values are interpolated on the way, so that `restore` is no exact inverse."""
        return self.grid is not None

    @property
    def oriented(self) -> Shape:
        """Shape of the native volume after its axes were permuted."""
        depth, height, width = (self.native[axis] for axis in self.order)
        return depth, height, width

    @property
    def target_shape(self) -> Shape:
        """Shape of the grid that is cropped; the native shape unless oriented or resampled."""
        return self.grid or self.oriented

    @property
    def native_box(self) -> tuple[slice, ...]:
        """The part of the target grid that the prepared volume holds, as slices of the target grid."""
        return self._overlap()[0]

    @property
    def real_box(self) -> tuple[slice, ...]:
        """The part of the prepared grid that is not padding."""
        return self._overlap()[1]

    @property
    def affine_prepared(self) -> NDArray[np.float64]:
        """(4, 4) affine of the prepared volume, voxel (x, y, z) to mm."""
        to_native = np.zeros((4, 4))
        to_native[3, 3] = 1
        for axis, (target, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            step = self.step[axis]
            first = self._first(axis) + self.start[axis] * step
            sign, first = (-1, self.oriented[axis] - 1 - first) if flip else (1, first)
            to_native[2 - target, 2 - axis], to_native[2 - target, 3] = sign * step, first  # (x, y, z)
        affine: NDArray[np.float64] = np.array(self.affine, np.float64) @ to_native
        return affine

    def to_target_grid(self, native: NDArray, interpolation: Interpolation | None = None) -> NDArray:
        """Native (..., D, H, W) on the target grid; a view where nothing is resampled.

        Args:
            native: Any array on the native grid.
            interpolation: None means nearest for uint8 and bool (labels), linear (float32 or finer) for all else.
        """
        if native.shape[-3:] != self.native:
            raise ValueError(f"native array has shape {native.shape[-3:]}, the geometry says {self.native}")
        oriented = native.transpose(*range(native.ndim - 3), *(native.ndim - 3 + axis for axis in self.order))
        oriented = oriented[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]
        if self.grid is None:
            return oriented
        first = tuple(self._first(axis) for axis in range(3))
        return _resampled(oriented, self.grid, first, self.step, interpolation)

    def crop(self, native: NDArray, fill: float = 0, interpolation: Interpolation | None = None) -> NDArray:
        """Native (..., D, H, W) to prepared (..., D, H, W), `fill` where the prepared volume is padding."""
        target = self.to_target_grid(native, interpolation)
        if self.start == (0, 0, 0) and self.shape == self.target_shape and not self._oriented_or_resampled:
            return native
        return self.boxed(target, fill)

    def boxed(self, target: NDArray, fill: float = 0) -> NDArray:
        """(..., D, H, W) on the target grid to prepared, `fill` in the padding; the array itself where all is taken."""
        if self.start == (0, 0, 0) and self.shape == self.target_shape:
            return target
        source, place = self._overlap()
        out = np.full((*target.shape[:-3], *self.shape), fill, target.dtype)
        out[_last_axes(place)] = target[_last_axes(source)]
        return out

    def restore(self, prepared: NDArray, fill: float = 0, interpolation: Interpolation | None = None) -> NDArray:
        """Prepared (..., D, H, W) to native (..., D, H, W), `fill` outside the crop.

        Exact where they overlap, unless the target grid was resampled: then nearest for integers and bool (labels),
        linear for floats (probabilities), if `interpolation` does not say.
        """
        if prepared.shape[-3:] != self.shape:
            raise ValueError(f"prepared array has shape {prepared.shape[-3:]}, the geometry says {self.shape}")
        place, source = self._overlap()
        out = np.full((*prepared.shape[:-3], *self.target_shape), fill, prepared.dtype)
        out[_last_axes(place)] = prepared[_last_axes(source)]
        if self.grid is not None:
            first = tuple(-self._first(axis) / self.step[axis] for axis in range(3))
            back = tuple(1 / step for step in self.step)
            kind = interpolation or ("linear" if out.dtype.kind == "f" else "nearest")
            out = _resampled(out, self.oriented, first, back, kind)
        if not self._oriented_or_resampled:
            return out
        out = out[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]
        inverse = np.argsort(self.order)
        return np.ascontiguousarray(out.transpose(*range(out.ndim - 3), *(out.ndim - 3 + int(a) for a in inverse)))

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them, floats exact."""
        affine = [[float(value) for value in row] for row in self.affine]
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**fields, "affine": affine}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Geometry:
        """The inverse of `as_dict`."""
        made: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        made["affine"] = tuple(tuple(row) for row in fields["affine"])
        return cls(**made)

    @property
    def _oriented_or_resampled(self) -> bool:
        return self.resampled or self.order != (0, 1, 2) or any(self.flips)

    def _first(self, axis: int) -> float:
        """Where the target grid's first voxel lies, in oriented native voxels."""
        return (self.oriented[axis] - 1 - (self.target_shape[axis] - 1) * self.step[axis]) / 2

    def _overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The shared box, as slices of the target grid and of the prepared grid."""
        first = [max(0, s) for s in self.start]
        last = [
            max(f, min(n, s + p)) for f, n, s, p in zip(first, self.target_shape, self.start, self.shape, strict=True)
        ]
        native = tuple(slice(f, e) for f, e in zip(first, last, strict=True))
        prepared = tuple(slice(f - s, e - s) for f, e, s in zip(first, last, self.start, strict=True))
        return native, prepared


def _last_axes(box: tuple[slice, ...]) -> tuple[Any, ...]:
    return (..., *box)


def target_geometry(
    native: Shape, affine: NDArray[np.float64], orientation: str | None, spacing: tuple[float, float, float] | None
) -> Geometry:
    """The geometry of a whole target grid, not cropped.

    Args:
        native: (D, H, W).
        affine: (4, 4), voxel (x, y, z) to mm.
        orientation: Where x, y and z of the target grid lead, e.g. "LPS"; None keeps the file's axes.
        spacing: (x, y, z) of the target grid in mm; None keeps the file's.
    """
    order: Shape = (0, 1, 2)
    flips = (False, False, False)
    if orientation is not None:
        # The native axis next to each axis (D, H, W) of the target grid, and whether it is flipped.
        rotation = nearest_rotation(np.asarray(affine, np.float64))
        axis = _voxel_axes(rotation)
        wanted = [("RAS".find(letter), 1) if letter in "RAS" else ("LPI".find(letter), -1) for letter in orientation]
        z, y, x = (
            (2 - axis[side], bool(np.sign(rotation[side, axis[side]]) != sign)) for side, sign in reversed(wanted)
        )
        order, flips = (z[0], y[0], x[0]), (z[1], y[1], x[1])
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    shape: Shape = tuple(native[axis] for axis in order)  # type: ignore[assignment]
    if spacing is None:
        return Geometry(native, (0, 0, 0), shape, rows, order, flips)
    sizes = np.sqrt((np.asarray(affine, np.float64)[:3, :3] ** 2).sum(0))[::-1]  # mm along z, y, x
    step = tuple(float(new / sizes[axis]) for new, axis in zip(spacing[::-1], order, strict=True))
    if np.allclose(step, 1, rtol=0, atol=1e-4):
        return Geometry(native, (0, 0, 0), shape, rows, order, flips)
    grid: Shape = tuple(max(1, round(n / s)) for n, s in zip(shape, step, strict=True))  # type: ignore[assignment]
    return Geometry(native, (0, 0, 0), grid, rows, order, flips, grid, step)  # type: ignore[arg-type]


def leading(affine: NDArray[np.float64]) -> str:
    """Where a file's x, y and z lead, the nearest of right or left, front or back, up or down, e.g. "LPS"."""
    rotation = nearest_rotation(affine)
    axes = _voxel_axes(rotation)
    letters = {voxel: "RAS"[world] if rotation[world, voxel] > 0 else "LPI"[world] for world, voxel in enumerate(axes)}
    return "".join(letters[voxel] for voxel in range(3))


def _voxel_axes(rotation: NDArray[np.float64]) -> Shape:
    """The voxel axis (x is 0) next to each of the world's, each once."""
    return max(permutations(range(3)), key=lambda voxel: sum(rotation[world, voxel[world]] ** 2 for world in range(3)))  # type: ignore[return-value]


def nearest_rotation(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation, or mirrored rotation, next to an affine's axes: world x, y, z by voxel x, y, z."""
    u, _, v = np.linalg.svd(affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(0)))
    rotation: NDArray[np.float64] = u @ v
    return rotation


def _resampled(
    array: NDArray, shape: Shape, first: tuple[float, ...], step: tuple[float, ...], interpolation: Interpolation | None
) -> NDArray:
    """(..., D, H, W) at `first` + index * `step`; beyond the border, the border's value."""
    # half a second, which only those should pay who resample
    from scipy import ndimage

    kind = interpolation or ("nearest" if array.dtype in (np.uint8, np.bool_) else "linear")
    dtype = array.dtype if kind == "nearest" else np.result_type(array.dtype, np.float32)
    out = np.empty((*array.shape[:-3], *shape), dtype)
    for index in np.ndindex(array.shape[:-3]):
        source = array[index].astype(dtype, copy=False)
        ndimage.affine_transform(source, step, first, shape, out[index], ORDERS[kind], "nearest")
    return out
