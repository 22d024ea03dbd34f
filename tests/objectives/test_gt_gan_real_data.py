"""Label validity on IBSR18: an image that is made of one subject's MRI and another one's labels shows the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from segan_pl.batch import Batch
from segan_pl.losses.boundary import label_boundary
from segan_pl.nets.few_shot import Segmentor
from segan_pl.nets.gt_gan import Generator
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.gt_gan import GTGAN
from tests.contracts import take_phase
from tests.phantom import dice_by_tissue

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
SIDE, STEPS, PAIRS = 32, 80, 24
TRAINED, IMAGES, LABELS = (1, 3, 4), 5, 6
"""Subjects: those that the generator learns to reconstruct, and the two of which a pair is made."""


class Subject(NamedTuple):
    """A volume in [-1, 1], percentile 99.5 of its brain at 1, so that no vessel sets the scale; its labels, 0 to 3."""

    image: np.ndarray
    label: np.ndarray


def subject(root: Path, number: int) -> Subject:
    name = f"IBSR_{number:02}"
    image, label = (
        np.squeeze(np.asarray(nib.load(root / name / f"{name}{part}.nii.gz").dataobj)) for part in ("", "_seg")
    )
    image = image.astype(np.float32)
    high = np.percentile(image[image > 0], 99.5)
    return Subject(np.clip(2 * image / high - 1, -1, 1).astype(np.float32), label.astype(np.int64))


def patches(one: Subject, count: int, seed: int) -> Batch:
    """Random ones, 18 % of them brain and more, as the systems draw them."""
    random, images, labels = np.random.default_rng(seed), [], []
    while len(images) < count:
        corner = [random.integers(side - SIDE + 1) for side in one.label.shape]
        box = tuple(slice(first, first + SIDE) for first in corner)
        if np.mean(one.label[box] > 0) > 0.18:
            images.append(torch.from_numpy(one.image[box]))
            labels.append(torch.from_numpy(one.label[box]))
    present, rows = torch.ones(count, 1, dtype=torch.bool), torch.arange(count)
    target = one_hot(torch.stack(labels), 4).movedim(-1, 1).float()
    where = torch.zeros(count, 3, dtype=torch.int64)
    return Batch(torch.stack(images)[:, None], target, present[:, 0], present, rows, where, rows + 1000 * seed)


def read(image: Tensor, like: Subject) -> Tensor:
    """(B, *spatial) labels of images (B, 1, *spatial) by the nearest of a subject's mean intensities of labels."""
    means = torch.tensor([float(like.image[like.label == label].mean()) for label in range(4)])
    return (image - means.reshape(1, 4, 1, 1, 1)).abs().argmin(1)


def test_an_image_of_one_subject_and_the_labels_of_another_shows_these_labels(real_data_root: Path) -> None:
    """Dice of CSF, GM and WM, printed with `-s`, next to what the real image reads as: there CSF cannot be read either,
    since it is a hundredth of the brain, and the border of grey matter and air has its intensity."""
    root = real_data_root / "ibsr18"
    trained = [subject(root, number) for number in TRAINED]
    torch.manual_seed(0)
    generator: Any = Generator(4, 1, patch=(SIDE,) * 3, width=8, noise=8)
    networks: dict[str, nn.Module] = {"segmentor": Segmentor(1, 4, width=1), "generator": generator}
    objective = GTGAN(warm_up=STEPS)
    optimiser = {"generator": torch.optim.Adam(generator.parameters(), 3e-3, (0.5, 0.999))}
    for number in range(STEPS):
        batch = patches(trained[number % len(trained)], 3, seed=number)
        take_phase(objective.phases()[1], StepContext(networks, batch, "softmax", step=number), optimiser)
    other = subject(root, IMAGES)
    a, b = patches(other, PAIRS, seed=10_000), patches(subject(root, LABELS), PAIRS, seed=20_000)
    with torch.no_grad():
        made = generator(a.image, b.target, torch.zeros(PAIRS, 8), label_boundary(b.target))
    given, own = (dice_by_tissue(read(made, other), batch.target) for batch in (b, a))
    real = dice_by_tissue(read(a.image, other), a.target)
    print("given", given, "own", own, "real image, own", real)
    assert all(one > another + 0.2 for one, another in zip(given[1:], own[1:], strict=True))
