"""Segmentors without a checkpoint: their logits are simple functions of the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from segan_pl.data.labels import label_scheme
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.inference.trained import TrainedSegmentor

Logits = Callable[[Tensor], Tensor]


class Simple(nn.Module):
    """Every channel has the first modality, less 0.5, for its logit, unless `logits` says otherwise."""

    divisor = 4

    def __init__(self, channels: int, logits: Logits | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.channels, self.logits = channels, logits

    def forward(self, image: Tensor) -> Tensor:
        """(B, M, *spatial) to (B, C, *spatial)."""
        if self.logits is not None:
            return self.logits(image)
        return self.weight * (image[:, :1] - 0.5).repeat(1, self.channels, *[1] * (image.ndim - 2))


def segmentor(
    *modalities: str,
    scheme: str = "whole_tumour",
    logits: Logits | None = None,
    preparation: Preparation | None = None,
    patch: tuple[int, ...] = (8, 8),
    digest: str = "one",
) -> TrainedSegmentor:
    """One that needs no training."""
    labels = label_scheme(scheme)
    return TrainedSegmentor(
        network=Simple(len(labels.channels), logits).eval(),
        modalities=modalities,
        scheme=labels,
        preparation=preparation or Preparation(crop=None),
        patch=patch,
        slices=4,
        channels_last=False,
        precision=torch.float32,
        source=Path(f"{digest}.ckpt"),
        digest=digest,
    )
