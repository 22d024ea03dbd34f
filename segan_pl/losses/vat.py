"""Virtual adversarial training (VAT): the small change of an image that changes the prediction most, and its price.

Miyato et al. 2018 (arXiv 1704.03976), and its form in Reciprocal (Peiris et al. 2022), eq. 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.nn.modules.batchnorm import _BatchNorm

from segan_pl.errors import require_choice
from segan_pl.losses.activation import Activation, activate, at_least_float32
from segan_pl.losses.voxels import cleared, masked_mean
from segan_pl.recipe import Recorded

Network = Callable[[Tensor], Tensor]
VATNorm = Literal["sample", "rms", "voxel"]
Reference = Literal["prediction", "labels"]


def check_vat_options(norm: str, epsilon: float, xi: float, power_iterations: int) -> None:
    """Raise ValueError for options that `adversarial_perturbation` does not know."""
    require_choice("vat norm", norm, VATNorm)
    for name, value in (("epsilon", epsilon), ("xi", xi)):
        if not (isfinite(value) and value > 0):
            raise ValueError(f"vat {name} is {value}, expected a number above 0")
    if power_iterations < 0:
        raise ValueError(f"vat power_iterations are {power_iterations}, expected at least 0 (0: a random direction)")


def divergence(reference: Tensor, logits: Tensor, activation: Activation) -> Tensor:
    """Kullback-Leibler divergence of the predicted distribution from the reference's, voxel by voxel, in nats.

    For a reference in {0, 1} it is the cross-entropy.

    Args:
        reference: (B, C, *spatial) probabilities, or labels in {0, 1}; no gradient flows into it.
        logits: (B, C, *spatial).
        activation: "sigmoid": a Bernoulli distribution in each voxel and channel; "softmax": one over C in each voxel.

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


def unit(direction: Tensor, norm: VATNorm, shown: Tensor | None = None) -> Tensor:
    """(B, M, *spatial) scaled to length 1; a direction of zeros stays.

    Of modalities that (B, M) bool `shown` says are not there it is 0, and the length is that of the others.

    sample: Euclidean over all but the batch (Miyato et al.). One length means less, the larger the patch: 2.5 is 0.0009
    a value in a patch of 4 x 128 x 128 x 128.
    rms: root mean square over all but the batch, so that a length is in the image's units whatever the patch (ours).
    voxel: Euclidean over the modalities, every voxel its own (Reciprocal's code): background gets as much as tumour.
    """
    axes = (1,) if norm == "voxel" else tuple(range(1, direction.ndim))
    if shown is not None:
        shown = shown.reshape(*shown.shape, *[1] * (direction.ndim - 2)).to(direction.dtype)
        direction = direction * shown
    largest = direction.abs().amax(axes, keepdim=True)
    # Scaled to at most 1, so that no square underflows.
    scaled = direction / torch.where(largest > 0, largest, 1)
    squares = scaled.square()
    length = (squares.mean(axes, keepdim=True) if norm == "rms" else squares.sum(axes, keepdim=True)).sqrt()
    # The mean is over the modalities that are there.
    if shown is not None and norm == "rms":
        length = length / shown.mean(1, keepdim=True).clamp_min(1 / shown.shape[1]).sqrt()
    return scaled / torch.where(length > 0, length, 1)


def adversarial_perturbation(
    network: Network,
    image: Tensor,
    reference: Tensor,
    activation: Activation,
    *,
    shown: Tensor | None = None,
    mask: Tensor | None = None,
    norm: VATNorm = "rms",
    epsilon: float = 0.1,
    xi: float = 0.1,
    power_iterations: int = 1,
) -> Tensor:
    """The change of the image, `epsilon` long, that raises the divergence most: power iteration from a random start.

    Each iteration is a forward and a backward pass to the image; the network's parameters receive no gradient. For a
    network with batch norm in training mode, see `frozen_statistics`.

    Args:
        network: Image to logits.
        image: (B, M, *spatial).
        reference: (B, C, *spatial), what predictions are compared with.
        activation: Of the label scheme.
        shown: (B, M) bool, the modalities that may change; default all.
        mask: (B, 1, *spatial) bool, the voxels whose divergence counts; default all. The image may change anywhere.
        norm: See `unit`.
        epsilon: Length of the result, in `norm`; the image's units with norm "rms".
        xi: Length of the step at whose end the gradient is taken, in `norm`. Against the clean prediction the
            gradient is 0 without a step, and one lost in rounding leaves a gradient of rounding errors.
        power_iterations: 1 in both papers; 0 keeps the random direction.

    Returns:
        (B, M, *spatial), float32 (float64 for a float64 image), without a graph.

    Raises:
        ValueError: An option is out of range.
    """
    check_vat_options(norm, epsilon, xi, power_iterations)
    direction = unit(torch.randn_like(image, dtype=at_least_float32(image).dtype), norm, shown)
    for _ in range(power_iterations):
        with torch.enable_grad():
            step = (xi * direction).requires_grad_()
            terms = divergence(cleared(reference, mask), network(shifted(image, step)), activation)
            # A mean underflows float16.
            gap = cleared(terms, mask).sum()
            (slope,) = torch.autograd.grad(gap, step)
        direction = unit(slope, norm, shown)
    return epsilon * direction


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, batch norm in training mode normalises by the batch and leaves its running statistics as they are.

    They score validation, where no image is perturbed. Miyato et al.'s code switches them off alike.
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


def vat_loss(
    network: Network,
    image: Tensor,
    reference: Tensor,
    activation: Activation,
    change: Tensor,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    """Mean divergence of the changed image's prediction from the reference (Reciprocal, eq. 4; a mean as coded).

    Args:
        network: Image to logits.
        image: (B, M, *spatial).
        reference: (B, C, *spatial): labels (Reciprocal), or the clean prediction (Miyato et al.).
        activation: Of the label scheme.
        change: (B, M, *spatial), as `adversarial_perturbation` finds it.
        mask: (B, 1, *spatial) bool, the voxels that count, over which the mean is; default all.

    Returns:
        Scalar of at least 0, with the network's graph; float32 under any precision; 0 for an empty batch.
    """
    terms = divergence(cleared(reference, mask), network(shifted(image, change)), activation)
    return masked_mean(terms, mask)


@torch.no_grad()
def released_vat_loss(
    network: Network, image: Tensor, target: Tensor, activation: Activation, *, mask: Tensor | None = None
) -> Tensor:
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
        mask: (B, 1, *spatial) bool, the voxels that count; default all.

    Returns:
        Scalar in [0, 1] without a graph.
    """
    noise = 2.5 * unit(torch.randn_like(image, dtype=at_least_float32(image).dtype), "voxel")
    p = activate(network(shifted(image, noise)), activation)
    return masked_mean(p * target.to(p.dtype), mask)


class VATLoss(Recorded):
    """The price of the adversarial perturbation, as a configuration gives it to an objective.

    Args:
        reference: What the changed image's prediction is held against: the clean "prediction" (Miyato et al.), or the
            "labels" (Reciprocal's eq. 4).
        norm: See `unit`.
        epsilon: See `adversarial_perturbation`.
        xi: See `adversarial_perturbation`.
        power_iterations: See `adversarial_perturbation`.

    Raises:
        ValueError: An option is out of range.
    """

    moves_statistics = False

    def __init__(
        self,
        *,
        reference: Reference = "prediction",
        norm: VATNorm = "rms",
        epsilon: float = 0.1,
        xi: float = 0.1,
        power_iterations: int = 1,
    ) -> None:
        require_choice("vat reference", reference, Reference)
        check_vat_options(norm, epsilon, xi, power_iterations)
        self.reference = reference
        self.perturbation = partial(
            adversarial_perturbation, norm=norm, epsilon=epsilon, xi=xi, power_iterations=power_iterations
        )

    def __call__(
        self,
        network: Network,
        image: Tensor,
        target: Tensor,
        probability: Tensor,
        activation: Activation,
        shown: Tensor | None,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Scalar of at least 0; a missing modality stays missing in the changed image.

        Args:
            network: Image to logits.
            image: (B, M, *spatial).
            target: (B, C, *spatial) in {0, 1}.
            probability: (B, C, *spatial), of the clean image.
            activation: Of the label scheme.
            shown: (B, M) bool, the modalities that are there; None for all.
            mask: (B, 1, *spatial) bool, the voxels that count; None for all.
        """
        reference = target if self.reference == "labels" else probability.detach()
        change = self.perturbation(network, image, reference, activation, shown=shown, mask=mask)
        return vat_loss(network, image, reference, activation, change, mask=mask)


class ReleasedVATLoss(Recorded):
    """`released_vat_loss` as an objective calls it; its change is random, and 2.5 long at every voxel."""

    # The released script took no care of running statistics, and its segmentor has none.
    moves_statistics = True
    reference: Reference = "labels"

    def __call__(
        self,
        network: Network,
        image: Tensor,
        target: Tensor,
        probability: Tensor,
        activation: Activation,
        shown: Tensor | None,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Scalar in [0, 1] without a graph; `probability` and `shown` are not read."""
        return released_vat_loss(network, image, target, activation, mask=mask)
