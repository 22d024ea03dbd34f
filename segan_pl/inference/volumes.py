"""Probabilities of whole prepared volumes: slices or windows, mirrored at test time, from one segmentor or several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from segan_pl.inference.slices import predict_slices
from segan_pl.inference.trained import TrainedSegmentor
from segan_pl.inference.windows import Windows, takes_any_depth, window_probabilities
from segan_pl.losses.activation import activate
from segan_pl.presence import Network, informed_on_volumes


def probabilities(
    segmentor: TrainedSegmentor,
    image: Tensor,
    *,
    present: Sequence[bool] | None = None,
    mirror: Sequence[int] = (),
    windows: Windows | None = None,
) -> Tensor:
    """(M, D, H, W) prepared volume to (C, D, H, W) float32 probabilities on the segmentor's device.

    Args:
        segmentor: Slices go through a 2-D one, sliding windows through a 3-D one (told by its patch).
        image: float16 or float32; what it holds of modalities that are not there does not matter.
        present: Which of the M are there; default all.
        mirror: Axes of (D, H, W), 0 to 2, along which the image is mirrored too; the mean over all combinations.
        windows: Of a 3-D segmentor; default those that it was validated with.

    Raises:
        UsageError: The windows' step does not fit the segmentor's patch.
    """
    image = image.to(segmentor.device)
    there = torch.tensor(present, dtype=torch.bool) if present is not None else torch.ones(len(image), dtype=torch.bool)
    network = informed_on_volumes(segmentor.network, there, segmentor.presence)
    total = None
    axes = [subset for size in range(len(mirror) + 1) for subset in combinations(mirror, size)]
    for subset in axes:
        flips = [axis + 1 for axis in subset]
        part = _probability(segmentor, network, image.flip(flips) if flips else image, windows or segmentor.windows)
        part = part.flip(flips) if flips else part
        total = part if total is None else total + part  # not in place: a window's is an inference tensor
    assert total is not None  # the empty subset is always there
    return total / len(axes) if len(axes) > 1 else total


def _probability(segmentor: TrainedSegmentor, network: Network, image: Tensor, windows: Windows) -> Tensor:
    """(C, D, H, W) float32, of the image as it lies; the network runs in its own precision."""
    low = segmentor.precision != torch.float32
    with torch.inference_mode(), torch.autocast(segmentor.device.type, segmentor.precision, enabled=low):
        if len(segmentor.patch) == 3:
            return window_probabilities(
                network,
                image.float(),
                patch=segmentor.patch,
                windows=windows,
                activation=segmentor.scheme.activation,
                background=segmentor.preparation.background,
                any_depth=takes_any_depth(segmentor.network),
            )
        logits = predict_slices(
            network,
            image,
            divisor=segmentor.divisor,
            batch=segmentor.slices,
            channels_last=segmentor.channels_last,
            dtype=torch.float32 if not low else segmentor.precision,
            background=segmentor.preparation.background,
        )
    return activate(logits[None].float(), segmentor.scheme.activation)[0]


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
        tied = votes >= votes.amax(0) - TIE
        return decide(mean.masked_fill(~tied, -1), activation)
    return (votes > 0.5 + TIE) | (((votes - 0.5).abs() <= TIE) & (mean > 0.5))


TIE = 1e-4
"""Votes closer than this are equal: sums of shares in float32 differ by less, and real votes by more."""


def _weighted(parts: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = torch.zeros_like(parts[0], dtype=torch.float32)
    for part, share in zip(parts, shares, strict=True):
        total.add_(part, alpha=share)
    return total
