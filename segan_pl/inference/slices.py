"""A whole volume through a 2-D network, slice batch by slice batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def pad_to_multiple(image: Tensor, divisor: int, background: float = 0.0) -> Tensor:
    """Pad (..., H, W) with background at the end of both axes to the next multiple of `divisor`."""
    height, width = image.shape[-2:]
    return functional.pad(image, (0, -width % divisor, 0, -height % divisor), value=background)


def predict_slices(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    divisor: int,
    batch: int = 32,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
    background: float = 0.0,
) -> Tensor:
    """Logits of a volume from a network of axial slices.

    Args:
        network: (B, M, H, W) to (B, C, H, W).
        image: (M, D, H, W) prepared volume.
        divisor: What H and W must be divisible by; the volume is padded for it and cropped back.
        batch: Slices a forward pass.
        channels_last: Memory format of the network's input.
        dtype: Of the network's input.
        background: What is padded with, the prepared value of padding.

    Returns:
        (C, D, H, W) logits in the network's dtype.
    """
    height, width = image.shape[-2:]
    slices = pad_to_multiple(image.movedim(1, 0), divisor, background)  # (D, M, H', W')
    memory = torch.channels_last if channels_last else torch.contiguous_format
    parts = [network(part.to(dtype, memory_format=memory)) for part in slices.split(batch)]
    return torch.cat(parts)[..., :height, :width].movedim(0, 1)
