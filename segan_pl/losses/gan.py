"""Losses of a segmentor that is the discriminator of a GAN, too, and of what it plays against.

K labels that exclude each other and "fake" make K + 1 classes, of which the last has logit 0 (Salimans et al. 2016;
Mondal et al. 2018; GT-GAN, eq. 2 to 8). So a voxel is real with probability Z / (Z + 1), Z the sum of the K
exponentials. Everything is a mean over voxels where the papers' equations have sums, as in Mondal's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from segan_pl.errors import require_choice
from segan_pl.losses.activation import at_least_float32

Average = Literal["arithmetic", "harmonic"]


def evidence(logits: Tensor) -> Tensor:
    """The logit of "real" in each voxel, log Z (eq. 6): (B, K, *spatial) to (B, 1, *spatial), at least float32."""
    return at_least_float32(logits).logsumexp(1, keepdim=True)


def real_loss(logits: Tensor) -> Tensor:
    """Cross-entropy against "real", -log(Z / (Z + 1)): of the segmentor on images, of a generator on its own.

    Eq. 4 is printed as log(Z / Z + 1), a constant without a gradient. Eq. 7, with -log(1 - D) to be minimised, would
    push a generator to look fake; this is what Goodfellow et al. 2014 minimise instead.

    Args:
        logits: (B, K, *spatial).

    Returns:
        Scalar of at least 0, in nats, ln 2 at chance; float32 under any precision (float64 for float64).
    """
    return softplus(-evidence(logits)).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """Cross-entropy against "fake", -log(1 / (Z + 1)) (eq. 5): of the segmentor on generated images.

    Args:
        logits: (B, K, *spatial).

    Returns:
        Scalar of at least 0, in nats, ln 2 at chance; float32 under any precision (float64 for float64).
    """
    return softplus(evidence(logits)).mean()


def verdict(logits: Tensor) -> Tensor:
    """Mean probability of "real" over voxels and samples, (B, K, *spatial) to a scalar without a graph."""
    return evidence(logits.detach()).sigmoid().mean()


def feature_matching(
    fake: Sequence[Tensor], real: Sequence[Tensor], *, average: Average = "arithmetic", epsilon: float = 1e-8
) -> Tensor:
    """Gap between the batch means of features of generated and of real images (Salimans et al. 2016, eq. 8).

    Of each layer the mean magnitude of the gap. Mondal's code averages 14 layers with weights softmax(-log(d / sum d)),
    which is their harmonic mean; it is NaN where a layer's gap is 0.

    Args:
        fake: One (B, C, *spatial) tensor for each layer.
        real: The same layers, of any number of samples.
        average: Of the layers' gaps: "arithmetic", or "harmonic" (weighted feature matching).
        epsilon: Added to each gap in a harmonic mean.

    Returns:
        Scalar of at least 0, in the features' units; float32 under any precision (float64 for float64).

    Raises:
        ValueError: The layers differ in number or shape, or the average is unknown.
    """
    require_choice("average", average, Average)
    shapes = [tuple(tuple(layer.shape[1:]) for layer in layers) for layers in (fake, real)]
    if not fake or shapes[0] != shapes[1]:
        raise ValueError(f"features of generated images are {shapes[0]}, of real ones {shapes[1]}; expected the same")
    with torch.autocast(fake[0].device.type, enabled=False):
        pairs = zip(fake, real, strict=True)
        means = [[at_least_float32(layer).mean(0) for layer in pair] for pair in pairs]
        gaps = torch.stack([(generated - true).abs().mean() for generated, true in means])
        if average == "arithmetic":
            return gaps.mean()
        return len(gaps) / (1 / (gaps + epsilon)).sum()


def noise_nll(mean: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
    """Negative log-likelihood of the noise that an image was made of, up to a constant (bad-GAN, Dai et al. 2017).

    Where an encoder finds the noise again, no two kinds of noise have become the same image. Summed over its numbers,
    averaged over samples, as in Mondal's code.

    Args:
        mean: (B, N), the encoder's.
        log_sigma: (B, N), logarithm of its standard deviation.
        noise: (B, N).

    Returns:
        Scalar of any sign, float32 under any precision (float64 for float64).
    """
    with torch.autocast(mean.device.type, enabled=False):
        mean, log_sigma = at_least_float32(mean), at_least_float32(log_sigma)
        away = (noise.to(mean.dtype) - mean) / (1e-8 + log_sigma.exp())
        return (log_sigma + away.square() / 2).sum(1).mean()
