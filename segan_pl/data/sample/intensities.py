"""Intensities of augmented patches, for a whole batch at once: brightness, gamma, noise and blur.

Ours, since MONAI's and kornia's transforms take one sample or one value at a time, or draw by themselves; what they
compute is MONAI's (gamma) and SciPy's (blur).
"""

from __future__ import annotations

import torch
from torch import Tensor

from segan_pl.data.sample.changes import NOISE, Changes
from segan_pl.data.sample.random_numbers import normal

# SciPy cuts a Gaussian off after so many sigmas.
REACH = 4.0


def with_intensities(
    image: Tensor,
    changes: Changes,
    seed: Tensor,
    modality_mask: Tensor,
    *,
    background: float = 0.0,
    keep_background: bool = False,
) -> Tensor:
    """Brightness, gamma, gamma of the negative, noise, blur on (B, M, D, H, W) float32, in this order, where it lies.

    Args:
        image: Prepared patches; changed.
        changes: Of the samples.
        seed: (B,) theirs, on the image's device.
        modality_mask: (B, M) bool, what they show; the rest takes no part.
        background: The prepared value of padding, about which brightness multiplies.
        keep_background: Put the background back, after brightness and gamma, where all modalities of a sample had it.
    """
    _bend(image, changes, modality_mask, background=background, keep_background=keep_background)
    noisy = rows_of(changes.noise > 0, image)
    if len(noisy):
        noise = normal(seed[noisy], NOISE, image[0].numel()).unflatten(1, image.shape[1:])
        noise.mul_(changes.noise[noisy.cpu(), None, None, None, None].to(noise))
        image.index_add_(0, noisy, noise)
    blurred = rows_of(((changes.blur > 0) & modality_mask.cpu()).flatten(), image)
    if len(blurred):
        volumes = image.flatten(0, 1)  # (B * M, D, H, W), the same memory
        sigma = changes.blur.flatten()[blurred.cpu()]
        volumes.index_copy_(0, blurred, blur(volumes.index_select(0, blurred), sigma))
    return image


def _bend(image: Tensor, changes: Changes, modality_mask: Tensor, *, background: float, keep_background: bool) -> None:
    """Brightness and both gammas, where the image lies; samples that have none are not touched."""
    fields = torch.stack([changes.brightness, changes.gamma, changes.inverted_gamma])  # (3, B, M)
    changed = (fields != 1).any(2)
    bent = rows_of(changed.any(0), image)
    if keep_background and len(bent):
        hidden = ~modality_mask.index_select(0, bent)[..., None, None, None]
        outside = ((image.index_select(0, bent) == background) | hidden).all(1, keepdim=True)
    for number, rows in enumerate(rows_of(one, image) for one in changed):
        if len(rows):
            some = image.index_select(0, rows)
            value = fields[number][rows.cpu(), :, None, None, None].to(image)
            if number == 0:
                some.sub_(background).mul_(value).add_(background)
            else:
                some = gamma(some, value) if number == 1 else gamma(some.neg_(), value).neg_()
            image.index_copy_(0, rows, some)
    if keep_background and len(bent):
        image.index_copy_(0, bent, image.index_select(0, bent).masked_fill_(outside, background))


def rows_of(where: Tensor, image: Tensor) -> Tensor:
    """The rows of `where` (N,) that are true, for index_select and index_copy_, which copy faster than x[rows]."""
    return where.nonzero()[:, 0].to(image.device)


def gamma(image: Tensor, exponent: Tensor) -> Tensor:
    """((v - min) / (max - min)) ** exponent, scaled back, for each volume of (B, M, D, H, W) (MONAI's AdjustContrast).

    Args:
        image: float32.
        exponent: (B, M, 1, 1, 1).
    """
    low, high = image.amin((2, 3, 4), keepdim=True), image.amax((2, 3, 4), keepdim=True)
    share = (image - low).div_(high - low + 1e-7)
    return share.pow_(exponent).mul_(high - low).add_(low)


def blur(volumes: Tensor, sigma: Tensor) -> Tensor:
    """SciPy's Gaussian on each of (N, D, H, W), mirrored at the faces as the authors'; a depth of 1 is left alone.

    A product with a matrix along each axis, faster than a convolution here, and any side is deep enough to mirror.

    Args:
        volumes: float32.
        sigma: (N,) in voxels, above 0.
    """
    depth, height, width = volumes.shape[1:]
    along = {n: mirrored_gaussian(n, sigma).to(volumes) for n in {depth, height, width}}
    out = volumes @ along[width].mT[:, None]
    out = along[height][:, None] @ out
    return (along[depth] @ out.flatten(2)).view_as(out) if depth > 1 else out


def mirrored_gaussian(n: int, sigma: Tensor) -> Tensor:
    """(N, n, n) float64: what each voxel of a row gives to each, the row mirrored at its ends (c b a | a b c)."""
    reach = int(REACH * float(sigma.max()) + 0.5)
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2) * (steps.abs() <= (REACH * sigma[:, None] + 0.5).floor())
    weights = weights / weights.sum(1, keepdim=True)
    source = (torch.arange(n)[:, None] + steps) % (2 * n)
    source = torch.where(source < n, source, 2 * n - 1 - source)  # (n, steps)
    rows = torch.zeros(len(sigma), n, n, dtype=torch.float64)
    return rows.scatter_add_(2, source.expand(len(sigma), -1, -1), weights[:, None].expand(-1, n, -1))
