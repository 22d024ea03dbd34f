"""A brain of three tissues with known intensities, for tests of what is learnt from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from segan_pl.batch import Batch

INTENSITIES = (-1.0, -0.5, 0.1, 0.7)
"""Of background, CSF, GM and WM, in an image prepared to [-1, 1]."""


def phantoms(count: int, size: Sequence[int], *, modalities: int = 1, noise: float = 0.05, seed: int = 0) -> Batch:
    """Nested ellipsoids of random place, size and shape: WM inside GM inside CSF, all samples labelled.

    A second modality has the intensities in reverse, background excepted.
    """
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, side) for side in size], indexing="ij"))
    shape = (count, len(size), *[1] * len(size))
    centre = 0.3 * (torch.rand(shape, generator=generator) - 0.5)
    radius = 0.65 + 0.3 * torch.rand(shape, generator=generator)
    distance = ((grid - centre) / radius).square().sum(1).sqrt()
    edges = torch.tensor([0.5, 0.75, 1.0])
    labels = (distance[..., None] < edges).sum(-1)  # 3 in the middle, 0 outside
    target = one_hot(labels, 4).movedim(-1, 1).float()
    tables = [torch.tensor(INTENSITIES), torch.tensor((INTENSITIES[0], *INTENSITIES[:0:-1]))]
    image = torch.stack([tables[number % 2][labels] for number in range(modalities)], 1)
    image = (image + noise * torch.randn(image.shape, generator=generator)).clamp(-1, 1)
    rows = torch.arange(count)
    present = torch.ones(count, modalities, dtype=torch.bool)
    origin = torch.zeros(count, 3, dtype=torch.int64)
    return Batch(image, target, torch.ones(count, dtype=torch.bool), present, rows, origin, rows + 1000 * seed)


def dice_by_tissue(found: Tensor, target: Tensor) -> list[float]:
    """Of CSF, GM and WM, for labels (B, *spatial) against (B, 4, *spatial), over all samples."""
    scores = []
    for tissue in (1, 2, 3):
        own, true = found == tissue, target[:, tissue] > 0
        scores.append(float(2 * (own & true).sum() / (own.sum() + true.sum())))
    return scores
