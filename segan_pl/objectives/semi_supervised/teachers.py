"""A teacher: a copy of the segmentor that no optimiser moves, which follows its weights and makes its targets.

Its batch norm, where it has any, works as the segmentor's own does: by the statistics of the batch it is shown, which
leaves no trace, or by running statistics where those of the segmentor are frozen; these are the segmentor's, copied
with each step and not averaged. The public baselines keep running statistics of the teacher's own, and never read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from segan_pl.data.sample.random_numbers import normal
from segan_pl.losses.activation import activate
from segan_pl.losses.vat import frozen_statistics
from segan_pl.nets.modality_mask import Network
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.semi_supervised.views import TEACHERS_NOISE, spread

TEACHER = "teacher"


def require_decay(decay: float) -> None:
    """Refuse a decay that is none.

    Raises:
        ValueError: It is below 0, or 1 and more.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}, expected a number from 0 (the teacher is the segmentor) to below 1")


def early(decay: float, step: int) -> float:
    """min(1 - 1 / (t + 1), decay): a true mean of the weights at first (Tarvainen and Valpola 2017, their code)."""
    return min(1 - 1 / (step + 1), decay)


@torch.no_grad()
def follow(context: StepContext, keep: float) -> None:
    """Move the teacher's weights towards the segmentor's: keep * own + (1 - keep) * new; buffers are the segmentor's.

    Args:
        context: Of the step that the segmentor has taken.
        keep: From 0, which makes the teacher a copy, to below 1.
    """
    teacher, segmentor = context.networks[TEACHER], context.networks["segmentor"]
    torch._foreach_lerp_(list(teacher.parameters()), list(segmentor.parameters()), 1 - keep)
    for own, new in zip(teacher.buffers(), segmentor.buffers(), strict=True):
        own.copy_(new)


@contextmanager
def teaching(context: StepContext) -> Iterator[Network]:
    """Inside, the teacher of these samples: images (B, M, *spatial) to probabilities (B, C, *spatial), without a graph.

    Dropout and batch norm are in training mode where the segmentor's are.
    """
    teacher, logits = context.networks[TEACHER], context.as_segmentor(TEACHER)
    for own, of_segmentor in zip(teacher.modules(), context.networks["segmentor"].modules(), strict=True):
        own.training = of_segmentor.training
    with torch.no_grad(), frozen_statistics(teacher):
        yield lambda image: activate(logits(image), context.activation)


def noisy(context: StepContext, deviation: float, number: int = 0) -> Tensor:
    """The image with Gaussian noise, cut off at two standard deviations (SSL4MIS); missing modalities stay 0.

    Args:
        context: Its samples' seeds say the noise.
        deviation: Standard deviation, in the image's units.
        number: Which of several draws.

    Returns:
        (B, M, *spatial).
    """
    image = context.batch.image
    drawn = normal(context.batch.seed, TEACHERS_NOISE + number, image[0].numel()).view(image.shape)
    noise = drawn.mul_(deviation).clamp_(-2 * deviation, 2 * deviation).to(image)
    return torch.where(spread(context.batch.modality_mask, image), image + noise, image)
