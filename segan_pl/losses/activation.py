"""From logits to probabilities, and the precision in which losses are reduced."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, float64

Activation = Literal["sigmoid", "softmax"]


def at_least_float32(value: Tensor) -> Tensor:
    """The value in float32, whatever the autocast; float64 stays, so that gradients can be checked exactly."""
    return value if value.dtype == float64 else value.float()


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Logits (B, C, *spatial) to probabilities, in float32 (float64 stays): softmax over C, or a sigmoid each."""
    logits = at_least_float32(logits)
    return logits.softmax(1) if activation == "softmax" else logits.sigmoid()
