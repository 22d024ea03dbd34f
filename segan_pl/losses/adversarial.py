"""Losses of a critic that says real or not, and of the segmentor that deceives it (Reciprocal, eq. 1 and 5)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from segan_pl.errors import require_choice
from segan_pl.losses.activation import at_least_float32

AdversarialForm = Literal["paper", "code", "ours"]


def check_adversarial_options(form: str, smoothing: float) -> None:
    """Raise ValueError for options that these losses do not know."""
    require_choice("adversarial", form, AdversarialForm)
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing is {smoothing}, expected a number from 0 to below 0.5")


def judged(logits: Tensor, truth: float) -> Tensor:
    """Mean binary cross-entropy of a critic's map against one truth for all of it, in nats.

    Args:
        logits: (B, K, *spatial), the critic's map before the sigmoid.
        truth: 1 for real, 0 for a prediction; between them for smoothed labels.

    Returns:
        Scalar, float32 under any precision (float64 for float64); 0 for an empty batch.
    """
    if not logits.numel():
        return at_least_float32(logits).sum()
    with torch.autocast(logits.device.type, enabled=False):
        z = at_least_float32(logits)
        # This is -truth log s(z) - (1 - truth) log(1 - s(z)).
        return (softplus(z) - truth * z).mean()


def critic_loss(fake: Tensor, real: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """What the critic minimises: cross-entropy on predictions and on references, half each (Reciprocal, eq. 5).

    ln 2 = 0.693 at chance. A mean over voxels, as the authors coded it; eq. 5 sums them.

    Args:
        fake: The critic's map of the prediction, (B, K, *spatial) logits.
        real: Its map of the reference, of any size.
        smoothing: Truth of the reference is 1 minus this (one-sided), so that a critic is never quite sure; 0 for the
            paper's.
    """
    return (judged(fake, 0.0) + judged(real, 1 - smoothing)) / 2


def deceiving_loss(fake: Tensor, real: Tensor | None = None, *, form: AdversarialForm = "ours") -> Tensor:
    """What the segmentor minimises against the critic.

    ours: cross-entropy of its prediction against "real" (non-saturating); at least 0.
    paper: minus the critic's own term, log(1 - s(fake)): the game of eq. 1 in which the segmentor "tries to deceive the
    critic"; at most 0. Its gradient vanishes where the critic is sure. Eq. 1 and 5 as printed are the same game with
    the names of real and fake exchanged, in which the critic's maximum is infinite.
    code: the critic's own loss, with the critic's own sign: the segmentor is pushed to look fake.

    Args:
        fake: The critic's map of the prediction, with its graph.
        real: Its map of the reference; needed by "code", whose value holds it, and by nothing else.
        form: Above.

    Raises:
        ValueError: The form is unknown, or "code" is not given `real`.
    """
    check_adversarial_options(form, 0.0)
    if form == "ours":
        return judged(fake, 1.0)
    if form == "paper":
        return -judged(fake, 0.0)
    if real is None:
        raise ValueError("adversarial 'code' needs the critic's map of the reference too")
    return critic_loss(fake, real)
