"""From probabilities to native labels on the grid of the case's files, and which convention they are written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.case import CaseError
from segan_pl.data.conventions import label_convention
from segan_pl.data.geometry import Geometry
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.errors import UsageError
from segan_pl.evaluation.volumes import threshold
from segan_pl.inference.trained import TrainedSegmentor
from segan_pl.losses.activation import activate


def in_convention(scheme: LabelScheme, convention: str) -> LabelScheme:
    """A checkpoint's scheme with its channels, written in another convention's labels, matched by name.

    Raises:
        UsageError: The convention does not know one of the channels.
        CaseError: No convention of that name, or it cannot have this target.
    """
    other = label_scheme(scheme.target, convention)
    if lacking := [channel for channel in scheme.channels if channel not in other.channels]:
        raise UsageError(
            f"--native_labels {convention}: has channels {', '.join(other.channels)}, the checkpoint predicts "
            f"{', '.join(lacking)} too; leave it out or choose another"
        )
    rows = [other.channels.index(channel) for channel in scheme.channels]
    return replace(
        scheme,
        convention=other.convention,
        members=tuple(other.members[row] for row in rows),
        export=tuple(other.export[row] for row in rows),
    )


def one_scheme(segmentors: Sequence[TrainedSegmentor], convention: str | None) -> LabelScheme:
    """The label scheme that all segmentors share, in the native labels asked for.

    Raises:
        UsageError: There is no segmentor, they predict different channels, or as `in_convention`.
    """
    if not segmentors:
        raise UsageError("no checkpoint given; expected --ckpt_path")
    first = segmentors[0]
    for other in segmentors[1:]:
        if (other.scheme.target, other.scheme.channels) != (first.scheme.target, first.scheme.channels):
            raise UsageError(
                f"{other.source}: predicts {', '.join(other.scheme.channels)}, {first.source} predicts "
                f"{', '.join(first.scheme.channels)}; give checkpoints of one label scheme"
            )
    if convention is None or convention == first.scheme.convention.name:
        return first.scheme
    return in_convention(first.scheme, convention)


def convention_for(scheme: LabelScheme, theirs: str) -> str:
    """The data set's convention where it knows all channels, else the checkpoint's own.

    Args:
        scheme: Of the checkpoint.
        theirs: The data set's convention.

    Raises:
        UsageError: A value that the checkpoint's convention would write means something else in the data set.
    """
    try:
        return in_convention(scheme, theirs).convention.name
    except (UsageError, CaseError):
        own, other = scheme.convention.meanings, label_convention(theirs).meanings
    for value in scheme.export:
        if value in other and other[value] != own.get(value):
            raise UsageError(
                f"the input's labels are '{theirs}', which does not know all of {', '.join(scheme.channels)}, and "
                f"{value} is {own[value]} in the checkpoint's '{scheme.convention.name}' but {other[value]} there; say "
                f"which to write: --native_labels {scheme.convention.name}"
            )
    return scheme.convention.name


# -- probabilities to labels -----------------------------------------------------------------------------------------


def decide(probability: Tensor, activation: str) -> Tensor:
    """(C, *spatial) probabilities to a bool mask: above 0.5, or the largest label (the first of equals)."""
    if activation == "softmax":
        return torch.nn.functional.one_hot(probability.argmax(0), len(probability)).movedim(-1, 0).bool()
    return probability > 0.5


def on_native_grid(probability: Tensor, geometry: Geometry, scheme: LabelScheme) -> NDArray[np.float32]:
    """(C, D, H, W) prepared probabilities on the grid of the case's files; background is certain beyond the crop."""
    return certain_background(geometry.restore(probability.float().cpu().numpy()), scheme)


def native_labels(logits: Tensor, geometry: Geometry, scheme: LabelScheme) -> NDArray[np.uint8]:
    """(C, D, H, W) logits of a prepared volume to (D, H, W) native labels on the grid of the case's files."""
    # probabilities are interpolated, then decided
    if geometry.resampled:
        probability = on_native_grid(activate(logits[None].float(), scheme.activation)[0], geometry, scheme)
        return scheme.decode(decide(torch.from_numpy(probability), scheme.activation).numpy())
    return geometry.restore(scheme.decode(threshold(logits, scheme.activation).cpu().numpy()))


def certain_background(native: NDArray[np.float32], scheme: LabelScheme) -> NDArray[np.float32]:
    """What lacks to 1 is background, where that is a channel; in place."""
    if "background" in scheme.channels:
        native[scheme.channels.index("background")] += 1 - native.sum(0)
    return native


def vote(proposals: Sequence[Tensor], weights: Sequence[float], activation: str) -> Tensor:
    """Weighted majority of several segmentors' decisions (the SegAN-CAT authors' code; specs: "majority voting").

    Each gives its decision as many votes as its weight says; most votes win. A tie goes to the larger weighted mean
    probability, and if that is equal too, to background or the first label: ours, since theirs draws lots. What says
    nothing of a voxel, with 0 in all channels, has no vote there.

    Args:
        proposals: One (C, *spatial) probability each.
        weights: One each, above 0; only their ratios matter.
        activation: Of the label scheme.

    Returns:
        (C, *spatial) bool.
    """
    shares = [weight / sum(weights) for weight in weights]
    votes = _weighted([decide(p, activation).float() * (p.amax(0) > 0) for p in proposals], shares)
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
