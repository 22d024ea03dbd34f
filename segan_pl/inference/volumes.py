"""Probabilities of whole prepared volumes: slices or windows, mirrored at test time, from one segmentor or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from segan_pl.errors import UsageError
from segan_pl.inference.slices import predict_slices
from segan_pl.inference.trained import TrainedSegmentor
from segan_pl.losses.activation import activate
from segan_pl.presence import Network, informed

Blend = Literal["gaussian", "constant"]
Average = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Windows:
    """How a 3-D network walks over a volume.

    Attributes:
        overlap: Share of a window that the next one covers too, from 0 and below 1.
        blend: Weights inside a window: "gaussian" trusts its middle more, "constant" does not.
        batch: Windows a forward pass.
        step: Voxels from a window to the next along (D, H, W), instead of the overlap; AlbuNet's are (24, 32, 32), and
            (1, 32, 32) in 2-D.
        average: What is averaged where windows overlap: "probabilities" (AlbuNet's paper), or "logits" (AlbuNet's code,
            which sums them and takes the largest).
    """

    overlap: float = 0.5
    blend: Blend = "gaussian"
    batch: int = 1
    step: tuple[int, ...] | None = None
    average: Average = "logits"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise UsageError(f"--overlap {self.overlap}: expected a share from 0 and below 1")
        if self.batch < 1:
            raise UsageError(f"--window_batch {self.batch}: expected at least 1 window a forward pass")

    def overlaps(self, patch: Sequence[int]) -> tuple[float, ...]:
        """What MONAI calls overlap, one an axis of the patch.

        Raises:
            UsageError: A step is below 1, or beyond the patch, or not one an axis.
        """
        if self.step is None:
            return (self.overlap,) * len(patch)
        if len(self.step) != len(patch) or not all(1 <= s <= p for s, p in zip(self.step, patch, strict=True)):
            raise UsageError(f"the windows' step is {self.step}, expected 1 up to the patch {tuple(patch)} an axis")
        steps = zip(self.step, patch, strict=True)
        return tuple(max(0.0, 1 - (s + 0.5) / p) for s, p in steps)  # MONAI rounds p * (1 - overlap) down


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
        image: float16 or float32; zeros for the modalities that are not there.
        present: Which of the M are; default all.
        mirror: Axes of (D, H, W), 0 to 2, along which the image is mirrored too; the mean over all combinations.
        windows: Of a 3-D segmentor.

    Raises:
        UsageError: The windows' step does not fit the segmentor's patch.
    """
    image = image.to(segmentor.device)
    there = torch.tensor(present, dtype=torch.bool) if present is not None else torch.ones(len(image), dtype=torch.bool)
    network = informed(segmentor.network, there, segmentor.presence)
    total = None
    axes = [subset for size in range(len(mirror) + 1) for subset in combinations(mirror, size)]
    for subset in axes:
        flips = [axis + 1 for axis in subset]
        part = _probability(segmentor, network, image.flip(flips) if flips else image, windows or Windows())
        part = part.flip(flips) if flips else part
        total = part if total is None else total + part  # not in place: a window's is an inference tensor
    assert total is not None  # the empty subset is always there
    return total / len(axes) if len(axes) > 1 else total


def _probability(segmentor: TrainedSegmentor, network: Network, image: Tensor, windows: Windows) -> Tensor:
    """(C, D, H, W) float32, of the image as it lies; the network runs in its own precision."""
    low = segmentor.precision != torch.float32
    with torch.inference_mode(), torch.autocast(segmentor.device.type, segmentor.precision, enabled=low):
        if len(segmentor.patch) == 3:
            return _windows(segmentor, network, image.float(), windows)
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


def _windows(segmentor: TrainedSegmentor, network: Network, image: Tensor, windows: Windows) -> Tensor:
    """MONAI's sliding windows; the last one of each axis is flush with the border, a small volume is padded."""
    from monai.inferers.utils import sliding_window_inference  # heavy: only where a network is 3-D

    patch, activation, early = segmentor.patch, segmentor.scheme.activation, windows.average == "probabilities"

    def one(part: Tensor) -> Tensor:
        return activate(network(part), activation) if early else network(part)

    overlap, background = windows.overlaps(patch), segmentor.preparation.background
    walked = sliding_window_inference(
        image[None], patch, windows.batch, one, overlap=overlap, mode=windows.blend, cval=background
    )
    found = torch.as_tensor(walked)  # always a tensor, as the network's output is one
    return found[0] if early else activate(found.float(), activation)[0]


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
