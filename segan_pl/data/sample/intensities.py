"""Intensities of augmented patches, for a whole batch at once: brightness to low resolution, see `with_intensities`.

Ours, since MONAI's and kornia's transforms take one sample or one value at a time, or draw by themselves; what they
compute is MONAI's (gamma), SciPy's (blur) and nnU-Net's (contrast, low resolution, and gamma that keeps moments).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segan_pl.data.sample.changes import NOISE, Changes
from segan_pl.data.sample.random_numbers import normal

# SciPy cuts a Gaussian off after so many sigmas.
REACH = 4.0
CACHED = 2**19  # voxels: 2 MB in float32


def with_intensities(
    image: Tensor,
    changes: Changes,
    seed: Tensor,
    modality_mask: Tensor,
    *,
    background: float = 0.0,
    keep_background: bool = False,
    keep_moments: bool = False,
) -> Tensor:
    """All that changes intensities of (B, M, D, H, W) float32, where it lies.

    Order: brightness, contrast, gamma, gamma of the negative, noise, blur, low resolution.

    Args:
        image: Prepared patches; changed.
        changes: Of the samples.
        seed: (B,) theirs, on the image's device.
        modality_mask: (B, M) bool, what they show; the rest takes no part.
        background: The prepared value of padding, about which brightness multiplies.
        keep_background: Put the background back, after brightness to gamma, where all modalities of a sample had it.
        keep_moments: Restore mean and deviation after either gamma, see `gamma`.
    """
    _bend(
        image, changes, modality_mask, background=background, keep_background=keep_background, keep_moments=keep_moments
    )
    known = modality_mask.cpu()
    noisy = rows_of(changes.noise > 0)
    if len(noisy):
        rows = noisy.to(image.device)
        noise = normal(seed[rows], NOISE, image[0].numel()).unflatten(1, image.shape[1:])
        noise.mul_(changes.noise[noisy, None, None, None, None].to(noise))
        image.index_add_(0, rows, noise)
    blurred = rows_of(((changes.blur > 0) & known).flatten())
    if len(blurred):
        volumes = image.flatten(0, 1)  # (B * M, D, H, W), the same memory
        rows = blurred.to(image.device)
        volumes.index_copy_(0, rows, blur(volumes.index_select(0, rows), changes.blur.flatten()[blurred]))
    for b, modality in ((changes.low_resolution < 1) & known).nonzero().tolist():
        image[b, modality] = low_resolution(image[b, modality], float(changes.low_resolution[b, modality]))
    return image


def _bend(
    image: Tensor,
    changes: Changes,
    modality_mask: Tensor,
    *,
    background: float,
    keep_background: bool,
    keep_moments: bool,
) -> None:
    """Brightness, contrast and both gammas, where the image lies; samples that have none are not touched."""
    fields = torch.stack([changes.brightness, changes.contrast, changes.gamma, changes.inverted_gamma])  # (4, B, M)
    changed = (fields != 1).any(2)
    # As many samples at a time as stay in a processor's cache: gamma of 24 x 128 x 128 takes a quarter less. A GPU
    # takes all at once.
    few = max(1, CACHED // image[0].numel()) if image.device.type == "cpu" else len(image)
    bent = rows_of(changed.any(0))
    outside: list[Tensor] = []
    if keep_background:
        for rows in bent.to(image.device).split(few):
            hidden = ~modality_mask.index_select(0, rows)[..., None, None, None]
            outside += ((image.index_select(0, rows) == background) | hidden).all(1)
    for number, one in enumerate(changed):
        for chosen in rows_of(one).split(few):
            if not len(chosen):
                continue
            rows = chosen.to(image.device)
            some = image.index_select(0, rows)
            value = fields[number][chosen, :, None, None, None].to(image)
            if number == 0:
                some.sub_(background).mul_(value).add_(background)
            elif number == 1:
                some = contrast(some, value)
            elif number == 2:
                some = gamma(some, value, keep_moments=keep_moments)
            else:
                some = gamma(some.neg_(), value, keep_moments=keep_moments).neg_()
            image.index_copy_(0, rows, some)
    for row, blank in zip(bent.tolist() if outside else (), outside, strict=True):
        image[row].masked_fill_(blank, background)


def rows_of(where: Tensor) -> Tensor:
    """The rows of `where` (N,) that are true, for index_select and index_copy_, which copy faster than x[rows].

    They lie where `where` does: found on the CPU, no device is waited for.
    """
    return where.nonzero()[:, 0]


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Each volume of (B, M, D, H, W) stretched about its mean, within the range that it had (nnU-Net's contrast).

    Args:
        image: float32; changed where it lies.
        factor: (B, M, 1, 1, 1).
    """
    low, high = image.amin((2, 3, 4), keepdim=True), image.amax((2, 3, 4), keepdim=True)
    mean = image.mean((2, 3, 4), keepdim=True)
    return image.sub_(mean).mul_(factor).add_(mean).clamp_(low, high)


def gamma(image: Tensor, exponent: Tensor, *, keep_moments: bool = False) -> Tensor:
    """((v - min) / (max - min)) ** exponent, scaled back, for each volume of (B, M, D, H, W) (MONAI's AdjustContrast).

    Args:
        image: float32.
        exponent: (B, M, 1, 1, 1).
        keep_moments: Shift and scale each volume to the mean and the deviation that it had (nnU-Net's gamma).
    """
    low, high = image.amin((2, 3, 4), keepdim=True), image.amax((2, 3, 4), keepdim=True)
    share = (image - low).div_(high - low + 1e-7)
    bent = share.pow_(exponent).mul_(high - low).add_(low)
    if not keep_moments:
        return bent
    # With torch.std_mean gamma takes 1.7 times as long on a CPU.
    mean = image.mean((2, 3, 4), keepdim=True)
    deviation = (image - mean).square_().mean((2, 3, 4), keepdim=True).sqrt_()
    bent.sub_(bent.mean((2, 3, 4), keepdim=True))
    found = bent.square().mean((2, 3, 4), keepdim=True).sqrt_()
    return bent.mul_(deviation / found.clamp_min(1e-7)).add_(mean)


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


def low_resolution(volume: Tensor, share: float) -> Tensor:
    """A volume (D, H, W) as a coarser scan would show it, on its own grid (nnU-Net's simulated low resolution).

    Fewer voxels are read, each the nearest, and linear interpolation fills in the others. One volume at a time, since
    each has a size of its own: as fast as matrices for a batch of slices, and twice as fast for 3-D patches.

    Args:
        volume: float32; a depth of 1 is left alone.
        share: Voxels a side as a share of those there were, above 0.
    """
    shape = volume.shape[1:] if len(volume) == 1 else volume.shape
    fewer = [max(1, round(n * share)) for n in shape]
    coarse = functional.interpolate(volume.view(1, 1, *shape), fewer, mode="nearest-exact")
    mode = "bilinear" if len(volume) == 1 else "trilinear"
    return functional.interpolate(coarse, shape, mode=mode).view(volume.shape)
