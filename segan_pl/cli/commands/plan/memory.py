"""How much memory a training step takes, counted on a network without values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from segan_pl.nets.monai_nets import MonaiSegmentor

FLOAT = 4
COPIES = 3
"""Of the weights: themselves, gradients, the optimiser's momentum."""
ROOM = 100_000_000
"""Bytes that convolutions take to work in; on the CPU, `tests/cli/commands/test_plan.py` measures it all."""


def step_bytes(arguments: Mapping[str, Any], channels: tuple[int, int], patch: Sequence[int], batch: int) -> int:
    """Bytes of a step in float32: weights, what the forward pass keeps for the backward pass, and the loss.

    Args:
        arguments: Of `MonaiSegmentor`.
        channels: Modalities in, labels out.
        patch: (H, W) or (D, H, W).
        batch: Patches.
    """
    # a storage that is held stays one object of Python's, so its id tells it from others
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    with torch.device("meta"):
        network: nn.Module = MonaiSegmentor(*channels, **arguments)
        image = torch.empty(batch, channels[0], *patch)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(image, deep=True) if arguments.get("deep_supervision") else network(image)
    weights = [parameter.untyped_storage() for parameter in network.parameters()]
    activations = [one.nbytes() for name, one in kept.items() if name not in {*map(id, weights)}]
    # of the logits: themselves, probabilities, target, products, and their gradients
    of_loss = 6 * channels[1] * batch * prod(patch) * FLOAT
    gradients = 2 * max(activations, default=0)  # of the layer that the backward pass is at
    numbers = sum(parameter.numel() for parameter in network.parameters())
    return COPIES * FLOAT * numbers + sum(activations) + gradients + of_loss + ROOM
