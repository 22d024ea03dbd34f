"""Whole volumes from networks; here the choices that options name, which need no PyTorch."""

from __future__ import annotations

from typing import Literal

PredictIn = Literal["anywhere", "brain"]
Blend = Literal["gaussian", "constant"]
Average = Literal["logits", "probabilities"]
Combine = Literal["mean", "vote"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
