"""From logits to probabilities."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from segan_pl.losses.precision import at_least_float32

Activation = Literal["sigmoid", "softmax"]


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Logits (B, C, *spatial) to probabilities, in float32 (float64 stays): softmax over C, or a sigmoid each."""
    logits = at_least_float32(logits)
    return logits.softmax(1) if activation == "softmax" else logits.sigmoid()
