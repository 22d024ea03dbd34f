"""Probabilities of whole prepared volumes: slices or windows, mirrored at test time, from one segmentor or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from segan_pl.inference.slices import predict_slices
from segan_pl.inference.trained import TrainedSegmentor
from segan_pl.losses.activation import activate

Blend = Literal["gaussian", "constant"]


@dataclass(frozen=True)
class Windows:
    """How a 3-D network walks over a volume.

    Attributes:
        overlap: Share of a window that the next one covers too, from 0 and below 1.
        blend: Weights inside a window: "gaussian" trusts its middle more, "constant" does not.
        batch: Windows a forward pass.
    """

    overlap: float = 0.5
    blend: Blend = "gaussian"
    batch: int = 1


def probabilities(
    segmentor: TrainedSegmentor, image: Tensor, *, mirror: Sequence[int] = (), windows: Windows | None = None
) -> Tensor:
    """(M, D, H, W) prepared volume to (C, D, H, W) float32 probabilities on the segmentor's device.

    Args:
        segmentor: Slices go through a 2-D one, sliding windows through a 3-D one (told by its patch).
        image: float16 or float32.
        mirror: Axes of (D, H, W), 0 to 2, along which the image is mirrored too; the mean over all combinations.
        windows: Of a 3-D segmentor.
    """
    image = image.to(segmentor.device)
    scheme, total = segmentor.scheme, None
    axes = [subset for size in range(len(mirror) + 1) for subset in combinations(mirror, size)]
    for subset in axes:
        flips = [axis + 1 for axis in subset]
        logits = _logits(segmentor, image.flip(flips) if flips else image, windows or Windows())
        part = activate(logits[None].float(), scheme.activation)[0]
        part = part.flip(flips) if flips else part
        total = part if total is None else total.add_(part)
    assert total is not None  # the empty subset is always there
    return total.div_(len(axes)) if len(axes) > 1 else total


def _logits(segmentor: TrainedSegmentor, image: Tensor, windows: Windows) -> Tensor:
    """(C, D, H, W) in the network's precision."""
    low = segmentor.precision != torch.float32
    with torch.inference_mode(), torch.autocast(segmentor.device.type, segmentor.precision, enabled=low):
        if len(segmentor.patch) == 3:
            return _windows(segmentor.network, image.float(), segmentor.patch, windows)
        return predict_slices(
            segmentor.network,
            image,
            divisor=segmentor.divisor,
            batch=segmentor.slices,
            channels_last=segmentor.channels_last,
            dtype=torch.float32 if not low else segmentor.precision,
        )


def _windows(network: Callable[[Tensor], Tensor], image: Tensor, patch: Sequence[int], windows: Windows) -> Tensor:
    """MONAI's sliding windows; the last one of each axis is flush with the border, a small volume is padded."""
    from monai.inferers.utils import sliding_window_inference  # heavy: only where a network is 3-D

    return sliding_window_inference(
        image[None], tuple(patch), windows.batch, network, overlap=windows.overlap, mode=windows.blend
    )[0]


def decide(probability: Tensor, activation: str) -> Tensor:
    """(C, *spatial) probabilities to a bool mask: above 0.5, or the largest label (the first of equals)."""
    if activation == "softmax":
        return torch.nn.functional.one_hot(probability.argmax(0), len(probability)).movedim(-1, 0).bool()
    return probability > 0.5


def vote(proposals: Sequence[Tensor], weights: Sequence[float], activation: str) -> Tensor:
    """Weighted majority of several segmentors' decisions (the SegAN-CAT authors' code; specs: "majority voting").

    Each gives its decision as many votes as its weight says; most votes win. A tie goes to the larger weighted mean
    probability, and if that is equal too, to background or the first label: ours, since theirs draws lots.

    Args:
        proposals: One (C, *spatial) probability each.
        weights: One each, above 0; only their ratios matter.
        activation: Of the label scheme.

    Returns:
        (C, *spatial) bool.
    """
    shares = [weight / sum(weights) for weight in weights]
    votes = _weighted([decide(p, activation).float() for p in proposals], shares)
    mean = _weighted(proposals, shares)
    if activation == "softmax":
        return decide(votes + mean.clamp(max=1) * TIE, activation)
    return (votes > 0.5 + TIE) | (((votes - 0.5).abs() <= TIE) & (mean > 0.5))


TIE = 1e-4
"""Votes closer than this are equal: a mean probability times it cannot outweigh a real difference of votes."""


def _weighted(parts: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = torch.zeros_like(parts[0], dtype=torch.float32)
    for part, share in zip(parts, shares, strict=True):
        total.add_(part, alpha=share)
    return total
