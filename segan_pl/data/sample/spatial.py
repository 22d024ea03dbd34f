"""Spatial changes of patches, for a whole batch at once: displacement, rotation, scale.

What is drawn says how large a box of the volume a changed patch needs, and the reader takes that box, so that a turned
patch has no empty corner where the volume has voxels. (A crop of the patch's own size turned afterwards loses its
corners, and a patch of depth 1 turned out of its plane is mostly empty: 27 % of the samples in AlbuNet's 2-D runs.)
Ours for this reason: MONAI's and kornia's transforms see the patch only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segan_pl.data.sample.changes import ELASTIC, Changes
from segan_pl.data.sample.random_numbers import uniform

Patch = tuple[int, int, int]


def margins(changes: Changes, patch: Patch, depth: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """How many voxels a changed patch needs on either side of its own, and which patches are changed in their plane.

    In the plane only where the patch has depth 1, and (ours) where it is a slab, thinner than it is wide, and needs
    more slices than the volume has: turned out of its plane, it would be blank in good part.

    Args:
        changes: Of B samples.
        patch: (D, H, W).
        depth: (B,) slices of the volumes; without it there is always room.

    Returns:
        (B, 3) int64, negative where a magnified patch needs fewer voxels than it has; and (B,) bool.
    """
    flat = torch.full((len(changes.scale),), patch[0] == 1)
    needed = _margins(changes, patch, flat)
    if depth is not None and 1 < patch[0] < max(patch[1:]):
        flat = patch[0] + 2 * needed[:, 0] > depth
        if bool(flat.any()):
            needed = _margins(changes, patch, flat)
    return needed, flat


def _margins(changes: Changes, patch: Patch, flat: Tensor) -> Tensor:
    """A box about the patch's centre holds all of the displaced, turned and scaled patch: none is left by a corner."""
    sides = torch.tensor(patch, dtype=torch.float64)
    most = changes.strength * changes.share[:, None] * sides * (sides > 1)
    most[:, 0] *= ~flat
    reach = matrices(changes, flat).abs() @ ((sides - 1) / 2 + most)[..., None]  # (B, 3, 1)
    # A ten-thousandth of a voxel is float32's rounding, which asks for no further voxel.
    return (reach[..., 0] - (sides - 1) / 2 - 1e-4).ceil().long()


def matrices(changes: Changes, flat: Tensor) -> Tensor:
    """(B, 3, 3) float64, acting on (z, y, x): a turn about z, then y, then x, then the scale; `flat`: slices stay."""
    angles = changes.angles.clone()
    angles[flat, 1:] = 0
    turn = torch.eye(3, dtype=torch.float64).expand(len(angles), 3, 3)
    for axis in range(3):
        a, b = [other for other in range(3) if other != axis]
        one = torch.eye(3, dtype=torch.float64).repeat(len(angles), 1, 1)
        one[:, a, a] = one[:, b, b] = angles[:, axis].cos()
        one[:, b, a] = angles[:, axis].sin()
        one[:, a, b] = -one[:, b, a]
        turn = one @ turn
    scales = changes.scale[:, None].repeat(1, 3)
    scales[flat, 0] = 1
    return scales[..., None] * turn


def source_coordinates(changes: Changes, seed: Tensor, patch: Patch, flat: Tensor) -> Tensor:
    """Where each voxel comes from, relative to the patch's centre: (B, 3, D, H, W) float32 in voxels, on seed's device.

    Displacement, then rotation, then scale, as AlbuNet's authors do.
    """
    axes = [torch.arange(n, dtype=torch.float32, device=seed.device) - (n - 1) / 2 for n in patch]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    turn = matrices(changes, flat).float().to(seed.device)
    coordinates = (turn @ grid.flatten(1)).unflatten(2, patch)
    # With AlbuNet's values this is one sample in ten.
    for b in changes.share.nonzero()[:, 0].tolist():
        field = displacement(patch, float(changes.share[b]), changes.strength[b], seed[b : b + 1])
        if flat[b]:
            field[0] = 0
        coordinates[b] += (turn[b] @ field.flatten(1)).unflatten(1, patch)
    return coordinates


def displacement(patch: Patch, share: float, strength: Tensor, seed: Tensor) -> Tensor:
    """(3, *patch) smooth noise whose largest value along an axis is `strength` of sigma; none along a side of 1.

    Uniform noise in the patch, nothing outside it, under a Gaussian of sigma `share` of the patch, as the authors'
    (SciPy's with mode "constant"). Ours: a matrix for each axis instead of a kernel as long as the patch, and noise no
    finer than half a sigma, of which the Gaussian leaves nothing that could be told from finer noise.
    """
    smooth = [gaussian(n, share).to(seed.device) for n in patch]
    cells = [one.shape[1] for one in smooth]
    noise = (2 * uniform(seed, ELASTIC, 3 * math.prod(cells)) - 1).reshape(3, *cells)
    slices = smooth[1] @ (noise @ smooth[2].T)  # (3, cells, H, W)
    waves = (smooth[0] @ slices.flatten(2)).view(3, *patch)
    largest = strength.float().to(seed.device) * share * torch.tensor(patch, device=seed.device)
    largest = largest * torch.tensor([n > 1 for n in patch], device=seed.device)
    return waves * (largest / (waves.abs().amax((1, 2, 3)) + 1e-8))[:, None, None, None]


def gaussian(n: int, share: float) -> Tensor:
    """(n, cells) weights of noise in equal cells at n voxels: a Gaussian of sigma `share * n` voxels, not truncated."""
    cells = min(n, math.ceil(2 / share))
    centres = (torch.arange(cells) + 0.5) * n / cells - 0.5
    # With a sigma below a hundredth of a voxel nothing reaches a neighbour anyway.
    away = (torch.arange(n)[:, None] - centres) / max(share * n, 0.01)
    return torch.exp(-(away**2) / 2)


def grid_in(box: Sequence[int], coordinates: Tensor) -> Tensor:
    """Coordinates (B, 3, D, H, W) from the middle of a box as grid_sample wants them: (B, D, H, W, 3), x first.

    Without a depth, of the box and of the patch, (B, H, W, 2): twice as fast, and the same.
    """
    grid = coordinates * torch.tensor([2 / n for n in box], device=coordinates.device)[:, None, None, None]
    if box[0] == 1 and coordinates.shape[2] == 1:
        return grid[:, (2, 1), 0].movedim(1, -1)
    return grid.flip(1).movedim(1, -1)


def resample(box: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Read boxes (B, N, *box) where a grid says: (B, N, D, H, W); 0 outside them.

    Args:
        box: float32.
        grid: As `grid_in` makes it.
        mode: "bilinear" (trilinear) for images, "nearest" for masks.
    """
    if grid.ndim == 4:
        return functional.grid_sample(box[:, :, 0], grid, mode=mode, align_corners=False)[:, :, None]
    return functional.grid_sample(box, grid, mode=mode, align_corners=False)
