"""What a prediction says of samples without a label: hard labels, how sure it is, and where; for regions and labels."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from segan_pl.losses.activation import Activation


def hard_labels(probability: Tensor, activation: Activation) -> Tensor:
    """The labels that a prediction decides for, (B, C, *spatial) in {0, 1}, without a graph.

    Args:
        probability: (B, C, *spatial), after the activation.
        activation: "softmax": the likeliest label of each voxel, of equal ones the first; "sigmoid": each region where
            it is above 1/2.
    """
    probability = probability.detach()
    if activation == "sigmoid":
        return (probability > 0.5).to(probability.dtype)
    return torch.zeros_like(probability).scatter_(1, probability.argmax(1, keepdim=True), 1.0)


def confidence(probability: Tensor, activation: Activation) -> Tensor:
    """How likely the label is that a prediction decides for, from 1/C or 1/2 to 1, without a graph.

    Returns:
        (B, 1, *spatial) with softmax; (B, C, *spatial) with sigmoid, where each region is a decision of its own.
    """
    probability = probability.detach()
    if activation == "sigmoid":
        return torch.maximum(probability, 1 - probability)
    return probability.amax(1, keepdim=True)


def entropy(probability: Tensor, activation: Activation) -> Tensor:
    """Entropy of a prediction in nats, from 0 to `largest_entropy`, of the same shapes as `confidence`."""
    probability = probability.detach()
    if activation == "sigmoid":
        return -torch.xlogy(probability, probability) - torch.xlogy(1 - probability, 1 - probability)
    return -torch.xlogy(probability, probability).sum(1, keepdim=True)


def largest_entropy(channels: int, activation: Activation) -> float:
    """Entropy of a voxel of which nothing is known: ln C of C labels, ln 2 of a region."""
    return math.log(channels if activation == "softmax" else 2)


def mean_where(terms: Tensor, where: Tensor) -> Tensor:
    """Mean of (B, C, *spatial) over the elements where (B, 1 or C, *spatial) bool `where` is True; 0 where none is."""
    where = where.expand_as(terms)
    return terms.masked_fill(~where, 0).sum() / where.sum().clamp_min(1)


def largest_components(labels: Tensor, activation: Activation) -> Tensor:
    """Of each label or region of a sample the largest connected component, voxels touching at corners too.

    What is taken from an exclusive label becomes background. Of equally large ones the first in memory stays. Computed
    on the CPU by SciPy, a sample and a channel at a time.

    Args:
        labels: (B, C, *spatial) in {0, 1}.
        activation: With "softmax" channel 0 is the background, which stays as it is and takes what is left over.

    Returns:
        (B, C, *spatial) in {0, 1}, in the dtype and on the device of `labels`.
    """
    masks = labels.detach().cpu().numpy() > 0.5
    first = 1 if activation == "softmax" else 0
    for sample in masks:
        for channel in range(first, len(sample)):
            components, count = ndimage.label(sample[channel], np.ones([3] * sample[channel].ndim, bool))
            if count > 1:
                sample[channel] = components == np.bincount(components.ravel())[1:].argmax() + 1
        if first:
            sample[0] = ~sample[1:].any(0)
    return torch.from_numpy(masks).to(labels)
