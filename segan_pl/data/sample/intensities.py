"""Intensities of augmented patches, for a whole batch at once: brightness to low resolution, see `with_intensities`.

Ours, since MONAI's and kornia's transforms take one sample or one value at a time, or draw by themselves; what they
compute is MONAI's (gamma), SciPy's (blur) and nnU-Net's (contrast, low resolution, and gamma that keeps moments).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from segan_pl.data.sample.changes import NOISE, Changes
from segan_pl.data.sample.random_numbers import normal

# SciPy cuts a Gaussian off after so many sigmas.
REACH = 4.0
CACHED = 2**19  # voxels: 2 MB in float32
VOLUME = (-3, -2, -1)


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
    # One sample at a time on a CPU, whose memory is slower than its cache; a GPU takes all at once.
    for chosen in noisy.split(1 if image.device.type == "cpu" else max(1, len(noisy))):
        if len(chosen):
            rows = chosen.to(image.device)
            noise = normal(seed[rows], NOISE, image[0].numel()).unflatten(1, image.shape[1:])
            noise.mul_(changes.noise[chosen, None, None, None, None].to(noise))
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
    bent = rows_of(changed.any(0))
    outside: list[Tensor] = []
    if keep_background:
        few = 1 if image.device.type == "cpu" else len(image)
        for rows in bent.to(image.device).split(few):
            hidden = ~modality_mask.index_select(0, rows)[..., None, None, None]
            outside += ((image.index_select(0, rows) == background) | hidden).all(1)
    for number, one in enumerate(changed):
        rows = rows_of(one)
        values = fields[number][rows, :, None, None, None].to(image)
        for some, value in in_cache(image, rows, values):
            if number == 0:
                brighten(some, value, background)
            elif number == 1:
                contrast(some, value)
            elif number == 2:
                gamma(some, value, keep_moments=keep_moments)
            else:
                gamma(some.neg_(), value, keep_moments=keep_moments).neg_()
    for row, blank in zip(bent.tolist() if outside else (), outside, strict=True):
        image[row].masked_fill_(blank, background)


def in_cache(image: Tensor, rows: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of (B, M, D, H, W), each with its values, to be changed where they lie.

    On a CPU these are a sample, or as many of its modalities as stay in the processor's cache. A GPU is given all
    samples at once, a copy that is put back.

    Args:
        image: Changed by what is done to the parts.
        rows: (R,) the samples wanted, on the CPU.
        values: (R, M, 1, 1, 1).
    """
    if image.device.type == "cpu":
        for row, value in zip(rows.tolist(), values, strict=True):
            few = max(1, CACHED // image[row, 0].numel())
            yield from zip(image[row].split(few), value.split(few), strict=True)
    elif len(rows):
        there = rows.to(image.device)
        some = image.index_select(0, there)
        yield some, values
        image.index_copy_(0, there, some)


def rows_of(where: Tensor) -> Tensor:
    """The rows of `where` (N,) that are true, for index_select and index_copy_, which copy faster than x[rows].

    They lie where `where` does: found on the CPU, no device is waited for.
    """
    return where.nonzero()[:, 0]


def brighten(image: Tensor, factor: Tensor, background: float) -> Tensor:
    """Each volume of (..., D, H, W) times its factor (..., 1, 1, 1), about the background, where it lies."""
    if background == 0:
        return image.mul_(factor)
    return image.sub_(background).mul_(factor).add_(background)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Each volume of (..., D, H, W) stretched about its mean, within the range that it had (nnU-Net's contrast).

    Args:
        image: float32; changed where it lies.
        factor: (..., 1, 1, 1).
    """
    low, high = image.amin(VOLUME, keepdim=True), image.amax(VOLUME, keepdim=True)
    mean = image.mean(VOLUME, keepdim=True)
    image.sub_(mean).mul_(factor).add_(mean)
    # A quarter of the time of clamp_ with limits for each volume.
    return torch.minimum(torch.maximum(image, low, out=image), high, out=image)


def gamma(image: Tensor, exponent: Tensor, *, keep_moments: bool = False) -> Tensor:
    """((v - min) / (max - min)) ** exponent, scaled back, for each volume of (..., D, H, W) (MONAI's AdjustContrast).

    Args:
        image: float32; changed where it lies.
        exponent: (..., 1, 1, 1).
        keep_moments: Shift and scale each volume to the mean and the deviation that it had (nnU-Net's gamma).
    """
    low, high = image.amin(VOLUME, keepdim=True), image.amax(VOLUME, keepdim=True)
    if keep_moments:
        # With torch.std_mean gamma takes 1.7 times as long on a CPU.
        mean = image.mean(VOLUME, keepdim=True)
        deviation = (image - mean).square_().mean(VOLUME, keepdim=True).sqrt_()
    image.sub_(low).div_(high - low + 1e-7).pow_(exponent).mul_(high - low).add_(low)
    if keep_moments:
        image.sub_(image.mean(VOLUME, keepdim=True))
        found = image.square().mean(VOLUME, keepdim=True).sqrt_()
        image.mul_(deviation / found.clamp_min(1e-7)).add_(mean)
    return image


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
