"""Virtual adversarial training: the small change of an image that changes the prediction most, and its price.

Miyato et al. 2018 (arXiv 1704.03976), and its form in Reciprocal (Peiris et al. 2022), eq. 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.nn.modules.batchnorm import _BatchNorm

from segan_pl.losses.activation import Activation, activate
from segan_pl.losses.precision import at_least_float32

Network = Callable[[Tensor], Tensor]
VirtualNorm = Literal["sample", "rms", "voxel"]


def check_virtual_options(norm: str, radius: float, probe: float, iterations: int) -> None:
    """Raise ValueError for options that `perturbation` does not know."""
    if norm not in get_args(VirtualNorm):
        raise ValueError(f"virtual norm is {norm!r}, expected one of {get_args(VirtualNorm)}")
    for name, value in (("radius", radius), ("probe", probe)):
        if not (isfinite(value) and value > 0):
            raise ValueError(f"virtual {name} is {value}, expected a number above 0")
    if iterations < 0:
        raise ValueError(f"virtual iterations are {iterations}, expected at least 0 (0 keeps the random direction)")


def divergence(reference: Tensor, logits: Tensor, activation: Activation) -> Tensor:
    """Kullback-Leibler divergence of the predicted distribution from the reference's, voxel by voxel, in nats.

    For a reference in {0, 1} it is the cross-entropy.

    Args:
        reference: (B, C, *spatial) probabilities, or labels in {0, 1}; no gradient flows into it.
        logits: (B, C, *spatial).
        activation: "sigmoid": a Bernoulli distribution each voxel and channel; "softmax": one over C each voxel.

    Returns:
        (B, C, *spatial) with sigmoid, (B, 1, *spatial) with softmax; at least 0 up to rounding; float32 under any
        precision (float64 for float64).

    Raises:
        ValueError: The shapes differ.
    """
    if reference.shape != logits.shape:
        raise ValueError(f"the reference has shape {tuple(reference.shape)}, the logits {tuple(logits.shape)}")
    with torch.autocast(logits.device.type, enabled=False):
        z = at_least_float32(logits)
        q = reference.detach().to(z.dtype)
        if activation == "softmax":
            return (torch.xlogy(q, q) - q * z.log_softmax(1)).sum(1, keepdim=True)
        entropy = torch.xlogy(q, q) + torch.xlogy(1 - q, 1 - q)
        return entropy - q * logsigmoid(z) - (1 - q) * logsigmoid(-z)


def unit(direction: Tensor, norm: VirtualNorm, shown: Tensor | None = None) -> Tensor:
    """(B, M, *spatial) scaled to length 1; a direction of zeros stays.

    Of modalities that (B, M) bool `shown` says are not there it is 0, and the length is that of the others.

    sample: Euclidean over all but the batch (Miyato et al.). One radius means less, the larger the patch: 2.5 is 0.0009
    a value in a patch of 4 x 128 x 128 x 128.
    rms: root mean square over all but the batch, so that a radius is in the image's units whatever the patch (ours).
    voxel: Euclidean over the modalities, every voxel its own (Reciprocal's code): background gets as much as tumour.
    """
    axes = (1,) if norm == "voxel" else tuple(range(1, direction.ndim))
    if shown is not None:
        shown = shown.reshape(*shown.shape, *[1] * (direction.ndim - 2)).to(direction.dtype)
        direction = direction * shown
    largest = direction.abs().amax(axes, keepdim=True)
    scaled = direction / torch.where(largest > 0, largest, 1)  # so that no square underflows
    squares = scaled.square()
    length = (squares.mean(axes, keepdim=True) if norm == "rms" else squares.sum(axes, keepdim=True)).sqrt()
    if shown is not None and norm == "rms":  # the mean is over what is there
        length = length / shown.mean(1, keepdim=True).clamp_min(1 / shown.shape[1]).sqrt()
    return scaled / torch.where(length > 0, length, 1)


def perturbation(
    network: Network,
    image: Tensor,
    reference: Tensor,
    activation: Activation,
    *,
    shown: Tensor | None = None,
    norm: VirtualNorm = "rms",
    radius: float = 0.1,
    probe: float = 0.1,
    iterations: int = 1,
) -> Tensor:
    """The change of the image, `radius` long, that raises the divergence most: power iteration from a random start.

    Each iteration is a forward and a backward pass to the image; the network's parameters receive no gradient. For a
    network with batch norm in training mode, see `resting_statistics`.

    Args:
        network: Image to logits.
        image: (B, M, *spatial).
        reference: (B, C, *spatial), what predictions are compared with.
        activation: Of the label scheme.
        shown: (B, M) bool, the modalities that may change; default all.
        norm: See `unit`.
        radius: Length of the result, in `norm`.
        probe: Length of the step at whose end the gradient is taken, in `norm`. Against the clean prediction the
            gradient is 0 without a step, and one lost in rounding leaves a gradient of rounding errors.
        iterations: 1 in both papers; 0 keeps the random direction.

    Returns:
        (B, M, *spatial), float32 (float64 for a float64 image), without a graph.

    Raises:
        ValueError: An option is out of range.
    """
    check_virtual_options(norm, radius, probe, iterations)
    direction = unit(torch.randn_like(image, dtype=at_least_float32(image).dtype), norm, shown)
    for _ in range(iterations):
        with torch.enable_grad():
            step = (probe * direction).requires_grad_()
            gap = divergence(reference, network(shifted(image, step)), activation).sum()  # a mean underflows float16
            (slope,) = torch.autograd.grad(gap, step)
        direction = unit(slope, norm, shown)
    return radius * direction


@contextmanager
def resting_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, batch norm in training mode normalises by the batch and leaves its running statistics as they are.

    They score validation, where no image is hostile. Miyato et al.'s code switches them off alike.
    """
    moving = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
    for module in moving:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in moving:
            module.track_running_stats = True


def shifted(image: Tensor, change: Tensor) -> Tensor:
    """The changed image in its own precision; added in the change's, which is at least float32."""
    return (image + change).to(image.dtype)


def virtual_loss(network: Network, image: Tensor, reference: Tensor, activation: Activation, change: Tensor) -> Tensor:
    """Mean divergence of the changed image's prediction from the reference (Reciprocal, eq. 4; a mean as coded).

    Args:
        network: Image to logits.
        image: (B, M, *spatial).
        reference: (B, C, *spatial): labels (Reciprocal), or the clean prediction (Miyato et al.).
        activation: Of the label scheme.
        change: (B, M, *spatial), as `perturbation` finds it.

    Returns:
        Scalar of at least 0, with the network's graph; float32 under any precision; 0 for an empty batch.
    """
    terms = divergence(reference, network(shifted(image, change)), activation)
    return terms.mean() if terms.numel() else terms.sum()


@torch.no_grad()
def released_virtual_loss(network: Network, image: Tensor, target: Tensor, activation: Activation) -> Tensor:
    """What Reciprocal's released code adds for virtual adversarial training: a constant, mean(p * y) under noise.

    Its direction is the random start, 2.5 long at every voxel of an image in [0, 1], because it never reads the
    gradient; its divergence takes probabilities for log-probabilities, which for y in {0, 1} leaves -p * y, of which
    the absolute mean is taken; and it is cut from the graph before the backward pass. The code's first forward pass,
    whose gradient nobody reads, is left out here.

    Args:
        network: Image to logits.
        image: (B, M, *spatial).
        target: (B, C, *spatial) in {0, 1}.
        activation: Of the label scheme.

    Returns:
        Scalar in [0, 1] without a graph.
    """
    noise = 2.5 * unit(torch.randn_like(image, dtype=at_least_float32(image).dtype), "voxel")
    p = activate(network(shifted(image, noise)), activation)
    product = p * target.to(p.dtype)
    return product.mean() if product.numel() else product.sum()
