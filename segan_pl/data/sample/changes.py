"""What is drawn for each sample of a batch: how it is changed, and which of its modalities are hidden."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.sample.options import Augmentation
from segan_pl.data.sample.random_numbers import uniform


class Changes(NamedTuple):
    """What happens to each sample of a batch, on the CPU; what does not happen is neutral.

    Attributes:
        share: (B,) sigma of the displacement as a share of the patch; 0 for none.
        strength: (B, 3) largest displacement along z, y, x, in sigma.
        angles: (B, 3) radians about z, y, x; 0 for none.
        scale: (B,) of the field of view; 1 for none.
        mirror: (B, 3) bool, along z, y, x.
        brightness: (B, M) factors; 1 for none.
        contrast: (B, M) factors; 1 for none.
        gamma: (B, M) exponents; 1 for none.
        inverted_gamma: (B, M) exponents on the negative; 1 for none.
        noise: (B,) standard deviation; 0 for none.
        blur: (B, M) sigma in voxels; 0 for none.
        low_resolution: (B, M) voxels a side as a share of those there were; 1 for none.
    """

    share: Tensor
    strength: Tensor
    angles: Tensor
    scale: Tensor
    mirror: Tensor
    brightness: Tensor
    contrast: Tensor
    gamma: Tensor
    inverted_gamma: Tensor
    noise: Tensor
    blur: Tensor
    low_resolution: Tensor

    @property
    def moved(self) -> Tensor:
        """(B,) bool: which samples need voxels interpolated."""
        return (self.share > 0) | (self.angles != 0).any(1) | (self.scale != 1)

    def take(self, rows: Tensor) -> Changes:
        """Those of some samples."""
        return Changes(*(field[rows] for field in self))


# These streams hold numbers for each voxel; those with numbers for each sample count from 0.
NOISE, ELASTIC = 100, 101


def draw_changes(seed: Tensor, options: Augmentation, modalities: int) -> Changes:
    """What happens to the samples of these seeds (B,): every option has numbers of its own, so none shifts another's.

    Args:
        seed: (B,) int64, on any device.
        options: What is varied.
        modalities: M; those that a case lacks have numbers too.
    """
    seed = seed.cpu()
    space = (options.elastic, options.rotation, options.scaling)
    values = (options.brightness, options.gamma, options.inverted_gamma, options.noise, options.blur)
    happens = uniform(seed, 0, 8) < torch.tensor((*space, *values))
    # A sample needs each of these numbers once.
    one = uniform(seed, 1, 8).double()
    angles = (2 * one[:, 4:7] - 1) * math.radians(options.rotation_deg)
    factor, exponent, inverted, sigma, blurred = (
        uniform(seed, 3, 5 * modalities).double().unflatten(1, (modalities, 5)).unbind(2)
    )
    # Options that came later have streams of their own, so that the numbers of the others stay as they were.
    later = uniform(seed, 6, 2) < torch.tensor((options.contrast, options.low_resolution))
    contrast, share, lowered = uniform(seed, 7, 3 * modalities).double().unflatten(1, (modalities, 3)).unbind(2)
    lowered = later[:, 1, None] & (lowered < options.low_resolution_modality)
    coins = uniform(seed, 4, 1 + 2 * modalities) < 0.5
    scale = _around_one(options.scale_range, one[:, 7], coins[:, 0])
    exponents = (
        _around_one(options.gamma_range, drawn, coins[:, 1 + n :: 2]) for n, drawn in enumerate((exponent, inverted))
    )
    gamma, inverted_gamma = (torch.where(happens[:, 4 + n, None], drawn, 1.0) for n, drawn in enumerate(exponents))
    return Changes(
        share=_between(options.elastic_scale, one[:, 0]) * happens[:, 0],
        strength=_between((1 / 8, 1 / 2), one[:, 1:4]),
        angles=angles * happens[:, 1, None],
        scale=torch.where(happens[:, 2], scale, 1.0),
        mirror=uniform(seed, 2, 3) < torch.tensor(options.mirror),
        brightness=torch.where(happens[:, 3, None], _between(options.brightness_range, factor), 1.0),
        contrast=torch.where(later[:, 0, None], _between(options.contrast_range, contrast), 1.0),
        gamma=gamma,
        inverted_gamma=inverted_gamma,
        noise=_between(options.noise_range, uniform(seed, 5, 1)[:, 0].double()) * happens[:, 6],
        blur=_between(options.blur_range, sigma) * (happens[:, 7, None] & (blurred < options.blur_modality)),
        low_resolution=torch.where(lowered, _between(options.low_resolution_range, share), 1.0),
    )


def _between(limits: tuple[float, float], drawn: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * drawn


def _around_one(limits: tuple[float, float], drawn: Tensor, below: Tensor) -> Tensor:
    """Below 1 or above it, equally likely, uniform on either side."""
    return torch.where(below, _between((limits[0], 1.0), drawn), _between((1.0, limits[1]), drawn))


def kept_modalities(modality_mask: Tensor, hide: NDArray[np.float64], chance: float) -> Tensor:
    """Which modalities a sample shows (Neverova et al. 2016 call it ModDrop); where all would go, one stays.

    The one that stays has the largest draw, so each is equally likely.

    Args:
        modality_mask: (B, M) bool, what the cases have.
        hide: (B, M) in [0, 1).
        chance: Of each modality to be hidden.

    Returns:
        (B, M) bool, within `modality_mask`; none of a sample is left only where it had none.
    """
    draws = torch.from_numpy(hide)
    kept = modality_mask & (draws >= chance)
    spared = torch.where(modality_mask, draws, -1.0).argmax(1, keepdim=True)
    last = torch.zeros_like(modality_mask).scatter_(1, spared, True) & modality_mask
    return torch.where(kept.any(1, keepdim=True), kept, last)
