"""The precision in which losses are reduced."""

from __future__ import annotations

from torch import Tensor, float64


def at_least_float32(value: Tensor) -> Tensor:
    """The value in float32, whatever the autocast; float64 stays, so that gradients can be checked exactly."""
    return value if value.dtype == float64 else value.float()
