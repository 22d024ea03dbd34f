"""Spectral norm of a whole network (Miyato, Kataoka, Koyama, Yoshida 2018, arXiv 1802.05957)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from segan_pl.nets.blocks import CONVOLUTIONS

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Float32SpectralNorm(_SpectralNorm):
    """PyTorch's, in float32 under any precision: a GPU's autocast takes its products (torch.mv) in half precision."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over its largest singular value, of the same shape."""
        # Tensors without values, as of a dry run, know no autocast.
        with nullcontext() if weight.is_meta else torch.autocast(weight.device.type, enabled=False):
            normed: Tensor = super().forward(weight)
        return normed


def add_spectral_norm(network: nn.Module) -> int:
    """Divide every kernel of a convolution and of a linear layer by its largest singular value, in place.

    A kernel is taken as a matrix of output channels times all else (as in the paper, which calls it an approximation).
    The singular vectors are buffers, moved by one power iteration in each forward pass in training mode, after 15 at
    first. Layers with another parametrisation of their weight, such as weight norm, are left alone.

    Returns:
        How many layers have it now.
    """
    layers: list[Any] = [
        module
        for module in network.modules()
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)) and not is_parametrized(module)
    ]
    for layer in layers:
        # The kernel of a transposed convolution has its output channels second.
        norm = Float32SpectralNorm(layer.weight, dim=int(isinstance(layer, TRANSPOSED)))
        register_parametrization(layer, "weight", norm)
    return len(layers)
