"""2.5-D: a 2-D network over every slice of a 3-D patch, which sees the neighbouring slices as further channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NeighbouringSlices(nn.Module):
    """A 2-D network on 3-D patches: each slice is segmented from itself and its neighbours (ours).

    The slices of all patches go through the network in one batch, so batch norm counts over B * D slices. Beyond a
    patch's first and last slice that slice is repeated. A patch is deeper than 2 * context, so that at least one of its
    slices has all of its true neighbours.

    Args:
        network: (N, (2 * context + 1) * M, H, W) to (N, C, H, W); channels as `with_neighbours` orders them.
        context: Neighbours on either side; 0 for each slice on its own.

    Raises:
        ValueError: The context is negative.
    """

    def __init__(self, network: nn.Module, context: int) -> None:
        super().__init__()
        if context < 0:
            raise ValueError(f"context is {context} neighbours, expected 0 or more on either side")
        self.network, self.context = network, context

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, D, H, W) to logits (B, C, D, H, W).

        Raises:
            ValueError: The image has other axes, or D is not above 2 * context.
        """
        return of_patches(self.network(with_neighbours(image, self.context)), image.shape[2])


def of_patches(logits: Tensor, depth: int) -> Tensor:
    """What a network gave for every slice, (B * D, C, H, W), to (B, C, D, H, W), without a copy."""
    return logits.view(-1, depth, *logits.shape[1:]).movedim(1, 2)


def with_neighbours(image: Tensor, context: int) -> Tensor:
    """Every slice with its neighbours as channels; one copy, contiguous.

    Args:
        image: (B, M, D, H, W).
        context: Neighbours on either side.

    Returns:
        (B * D, (2 * context + 1) * M, H, W): item b * D + z holds at channel (context + offset) * M + m modality m of
        slice z + offset of patch b, for offsets from -context to context; beyond the patch its first or last slice.

    Raises:
        ValueError: The image has other axes, or D is not above 2 * context.
    """
    if image.ndim != 5:
        raise ValueError(f"neighbouring slices: image of {image.ndim - 2} axes, expected 3: depth, height, width")
    depth = image.shape[2]
    if depth <= 2 * context:
        raise ValueError(
            f"neighbouring slices: the image is {depth} slices deep, fewer than the {2 * context + 1} that a slice is "
            f"seen with; give a --data.patch of depth {2 * context + 1} or more, or fewer neighbours"
        )
    offsets = torch.arange(-context, context + 1, device=image.device)
    seen = (torch.arange(depth, device=image.device)[:, None] + offsets).clamp(0, depth - 1)  # (D, offset)
    # not len(image), which torch.export would take for a constant
    gathered = image.movedim(2, 1).index_select(1, seen.flatten())  # (B, D * offset, M, H, W)
    return gathered.view(image.shape[0], depth, -1, *image.shape[3:]).flatten(0, 1)
