"""What a segmentor is told of missing modalities: zeros in their place, or also planes that say which are there (ours).

Zeros alone cannot be told from background where background is 0; planes of 0 and 1 can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

Presence = Literal["zeros", "channels"]
Network = Callable[[Tensor], Tensor]


def require_presence(presence: str) -> None:
    """Raise ValueError for a name that is none of `Presence`."""
    if presence not in get_args(Presence):
        raise ValueError(f"presence is {presence!r}, expected one of {get_args(Presence)}")


def segmentor_channels(modalities: int, presence: Presence) -> int:
    """Input channels of a segmentor of M modalities: M, or 2 M with a plane each."""
    return 2 * modalities if presence == "channels" else modalities


def with_planes(image: Tensor, present: Tensor) -> Tensor:
    """The modalities, and behind them a constant plane each: 1 where the modality is there, else 0.

    Args:
        image: (B, M, *spatial).
        present: (B, M) bool, or (M,) for all samples alike.

    Returns:
        (B, 2 M, *spatial), in the image's dtype and memory format.
    """
    known = present.to(image.device, image.dtype).expand(image.shape[:2])
    planes = known.reshape(*known.shape, *[1] * (image.ndim - 2)).expand_as(image)
    last = {4: torch.channels_last, 5: torch.channels_last_3d}[image.ndim]
    kept = last if image.is_contiguous(memory_format=last) and not image.is_contiguous() else torch.contiguous_format
    return torch.cat([image, planes], 1).contiguous(memory_format=kept)


def informed(network: Network, present: Tensor, presence: Presence) -> Network:
    """The network as a function of the image alone; itself, without any cost, where it takes no planes."""
    if presence == "zeros":
        return network
    return lambda image: network(with_planes(image, present))


def informed_on_volumes(network: Network, present: Tensor, presence: Presence) -> Network:
    """The same for parts of one whole volume, whatever they hold of modalities that (M,) `present` says are not there.

    Such a modality is zeros everywhere, as in training: also where a volume was padded with another background.
    """
    told = informed(network, present, presence)
    return told if bool(present.all()) else lambda image: told(only_present(image, present))


def only_present(image: Tensor, present: Tensor) -> Tensor:
    """A copy of (B, M, *spatial) with zeros for the modalities that (M,) bool says are not there."""
    absent = ~present.to(image.device)
    return image.masked_fill(absent.reshape(1, -1, *[1] * (image.ndim - 2)), 0)
