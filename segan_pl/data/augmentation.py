"""Mild 2-D augmentation: parameters are drawn first, a row a sample, and applied after.

Ours; SegAN and SegAN-CAT crop at random and do nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from segan_pl.errors import UsageError


class Draws(NamedTuple):
    """One batch's random numbers; every field (B, ...).

    Attributes:
        corner: (B, 2) in [0, 1): where the patch lies between its first and its last possible place (y, x).
        flip: (B, 2) bool, mirrored along (y, x).
        rotation: (B,) radians.
        scale: (B,) magnification, 1 for none.
        gain: (B, M) intensity factor.
        gamma: (B, M) exponent on intensities in [0, 1].
        hide: (B, M) in [0, 1), a modality is hidden where it is below `modality_dropout`; 1 where none may be.
    """

    corner: NDArray[np.float64]
    flip: NDArray[np.bool_]
    rotation: NDArray[np.float64]
    scale: NDArray[np.float64]
    gain: NDArray[np.float64]
    gamma: NDArray[np.float64]
    hide: NDArray[np.float64]

    def take(self, samples: NDArray[np.int64]) -> Draws:
        """The random numbers of some samples."""
        return Draws(**{name: field[samples] for name, field in self._asdict().items()})


@dataclass(frozen=True)
class Augmentation:
    """What is varied in training, beside the place of the patch; the default varies nothing (the papers' way).

    Attributes:
        flip_x: Chance of a left-right mirror image.
        flip_y: Chance of a front-back mirror image.
        rotation_deg: Uniform in +-this.
        scale: Uniform in 1 +- this.
        gain: Intensity factor, uniform in 1 +- this, a modality each.
        gamma: Exponent exp(u), u uniform in +-this, a modality each; for intensities in [0, 1].
        modality_dropout: Chance of each modality of a sample to be hidden, as if the case lacked it; one stays always.
    """

    flip_x: float = 0.0
    flip_y: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 0.0
    gain: float = 0.0
    gamma: float = 0.0
    modality_dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.modality_dropout < 1:
            raise UsageError(f"modality_dropout is {self.modality_dropout}, expected a chance from 0 to below 1")

    def draw(self, rng: np.random.Generator, size: int, modalities: int) -> Draws:
        """Random numbers for `size` samples; always the same count of draws, so options do not shift each other.

        Those of `modality_dropout` come last and only where it is asked for, as runs without it never drew them.
        """
        corner = rng.random((size, 2))
        flip = rng.random((size, 2)) < (self.flip_y, self.flip_x)
        spin, zoom = rng.uniform(-1, 1, (2, size))
        gain, gamma = rng.uniform(-1, 1, (2, size, modalities))
        hide = rng.random((size, modalities)) if self.modality_dropout else np.ones((size, modalities))
        return Draws(
            corner,
            flip,
            spin * math.radians(self.rotation_deg),
            1 + zoom * self.scale,
            1 + gain * self.gain,
            np.exp(gamma * self.gamma),
            hide,
        )

    @property
    def warps(self) -> bool:
        """Whether voxels must be interpolated."""
        return self.rotation_deg > 0 or self.scale > 0

    @property
    def shades(self) -> bool:
        """Whether intensities change."""
        return self.gain > 0 or self.gamma > 0


def shade(image: Tensor, draws: Draws) -> Tensor:
    """Apply gain and gamma to (B, M, H, W) intensities in [0, 1]; negative ones keep their sign."""
    gain = torch.from_numpy(draws.gain).to(image.dtype)[..., None, None]
    gamma = torch.from_numpy(draws.gamma).to(image.dtype)[..., None, None]
    return image.sign() * image.abs().pow(gamma) * gain


def kept_modalities(present: Tensor, hide: NDArray[np.float64], chance: float) -> Tensor:
    """Which modalities a sample shows (Neverova et al. 2016 call it ModDrop); where all would go, one stays.

    The one that stays has the largest draw, so each is equally likely.

    Args:
        present: (B, M) bool, what the cases have.
        hide: (B, M) in [0, 1).
        chance: Of each modality to be hidden.

    Returns:
        (B, M) bool, within `present`; none of a sample is left only where it had none.
    """
    draws = torch.from_numpy(hide)
    kept = present & (draws >= chance)
    spared = torch.where(present, draws, -1.0).argmax(1, keepdim=True)
    last = torch.zeros_like(present).scatter_(1, spared, True) & present
    return torch.where(kept.any(1, keepdim=True), kept, last)


def window(size: tuple[int, int], patch: tuple[int, int], corner: NDArray[np.float64]) -> tuple[int, int]:
    """First voxel (y, x) of a patch in a slice; centred (and negative) along an axis on which the slice is smaller."""
    starts = [int(u * (n - p + 1)) if n >= p else -((p - n) // 2) for u, n, p in zip(corner, size, patch, strict=True)]
    return starts[0], starts[1]


def warp(
    planes: Tensor, start: tuple[int, int], patch: tuple[int, int], rotation: float, scale: float, mode: str
) -> Tensor:
    """A rotated and scaled patch of a whole slice, zero outside it.

    The window turns about its own centre on the whole slice, so no corner is empty while the slice has voxels there.

    Args:
        planes: (M, H, W) float32.
        start: First voxel of the unturned window.
        patch: Its size.
        rotation: Radians, clockwise with y down and x to the right.
        scale: Magnification.
        mode: "bilinear" for images, "nearest" for masks.

    Returns:
        (M, *patch).
    """
    height, width = planes.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(p, dtype=torch.float32) - (p - 1) / 2 for p in patch), indexing="ij")
    cos, sin = math.cos(rotation) / scale, math.sin(rotation) / scale
    centre = [s + (p - 1) / 2 for s, p in zip(start, patch, strict=True)]
    source_y, source_x = centre[0] + cos * y - sin * x, centre[1] + sin * y + cos * x
    grid = torch.stack([(2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1], -1)
    return functional.grid_sample(planes[None], grid[None], mode=mode, align_corners=False)[0]
