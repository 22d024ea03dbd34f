"""How a segmentor learns which modalities are missing: zeros in their place, or also mask channels (ours).

Zeros alone cannot be told from background where background is 0; channels of 0 and 1 can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor

from segan_pl.errors import require_choice
from segan_pl.nets.blocks import MEMORY_FORMATS

ModalityMask = Literal["zeros", "channels"]
Network = Callable[[Tensor], Tensor]
Result = TypeVar("Result")  # of a network: logits, or those of every resolution


def require_modality_mask(how: str) -> None:
    """Raise ValueError for a name that is none of `ModalityMask`."""
    require_choice("modality_mask", how, ModalityMask)


def segmentor_channels(modalities: int, how: ModalityMask) -> int:
    """Input channels of a segmentor of M modalities: M, or 2 M with a mask channel for each."""
    return 2 * modalities if how == "channels" else modalities


def with_mask_channels(image: Tensor, modality_mask: Tensor) -> Tensor:
    """The modalities, and behind them a constant channel for each: 1 where the modality is there, else 0.

    Args:
        image: (B, M, *spatial).
        modality_mask: (B, M) bool, or (M,) for all samples alike.

    Returns:
        (B, 2 M, *spatial), in the image's dtype and memory format.
    """
    known = modality_mask.to(image.device, image.dtype).expand(image.shape[:2])
    channels = known.reshape(*known.shape, *[1] * (image.ndim - 2)).expand_as(image)
    last = MEMORY_FORMATS[image.ndim]
    kept = last if image.is_contiguous(memory_format=last) and not image.is_contiguous() else torch.contiguous_format
    return torch.cat([image, channels], 1).contiguous(memory_format=kept)


def with_modality_mask(
    network: Callable[[Tensor], Result], modality_mask: Tensor, how: ModalityMask
) -> Callable[[Tensor], Result]:
    """The network as a function of the image alone; itself, without any cost, where it takes no mask channels."""
    if how == "zeros":
        return network
    return lambda image: network(with_mask_channels(image, modality_mask))


def with_modality_mask_on_volumes(network: Network, modality_mask: Tensor, how: ModalityMask) -> Network:
    """The same for parts of one whole volume, whatever they hold of modalities that the (M,) mask says are missing.

    Such a modality is zeros everywhere, as in training: also where a volume was padded with another background.
    """
    masked = with_modality_mask(network, modality_mask, how)
    return masked if bool(modality_mask.all()) else lambda image: masked(hide_missing(image, modality_mask))


def hide_missing(image: Tensor, modality_mask: Tensor) -> Tensor:
    """A copy of (B, M, *spatial) with zeros for the modalities that the (M,) mask says are missing."""
    absent = ~modality_mask.to(image.device)
    return image.masked_fill(absent.reshape(1, -1, *[1] * (image.ndim - 2)), 0)
