"""Whether the images of GT-GAN's generator show the labels, and the image, that they are made of: on phantoms."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from segan_pl.losses.boundary import label_boundary
from segan_pl.nets.few_shot import Segmentor
from segan_pl.nets.gt_gan import Generator
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.gt_gan import GTGAN
from tests.contracts import take_phase
from tests.phantom import INTENSITIES, dice_by_tissue, phantoms


def reconstructing(mode: Any, patch: tuple[int, ...], *, dimmest: float = 1.0, found: bool = False) -> Any:
    """A generator that has learnt in 150 steps to reconstruct phantoms, each times a factor from `dimmest` to 1.

    In tissue mode with boundaries, as shipped; a vector alone unless they are `found`, as they say where labels are.
    """
    steps = 150
    boundary: Any = "found" if found else "given" if mode == "tissue" else None
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {
        "segmentor": Segmentor(1, 4, width=1, spatial_dims=len(patch)),  # type: ignore[arg-type]
        "generator": Generator(4, 1, patch=patch, width=8, noise=8, mode=mode, boundary=boundary),
    }
    objective = GTGAN(warm_up=steps, found_boundary=found)
    factors = torch.Generator().manual_seed(0)
    optimiser = {"generator": torch.optim.Adam(networks["generator"].parameters(), 2e-3, (0.5, 0.999))}
    for number in range(steps):
        batch = phantoms(8, patch, seed=number + 1)
        factor = dimmest + (1 - dimmest) * torch.rand(8, 1, *[1] * len(patch), generator=factors)
        context = StepContext(networks, batch._replace(image=batch.image * factor), "softmax", step=number)
        take_phase(objective.phases()[1], context, optimiser)
    return networks["generator"]


def depicted(generator: Any, patch: tuple[int, ...], *, exact: bool = True) -> dict[str, list[float]]:
    """Dice of images made of one subject's image and another's labels, read by the nearest tissue intensity.

    Returns:
        "given": against the labels that they were made of; "own": against those of the image.
    """
    a, b = phantoms(32, patch, seed=10_000), phantoms(32, patch, seed=20_000)
    with torch.no_grad():
        made = generator(a.image, b.target, torch.zeros(32, 8), label_boundary(b.target) if exact else None)
    tissue = (made - torch.tensor(INTENSITIES).reshape(1, 4, *[1] * len(patch))).abs().argmin(1)
    return {"given": dice_by_tissue(tissue, b.target), "own": dice_by_tissue(tissue, a.target)}


def test_an_image_of_one_subject_and_the_labels_of_another_shows_these_labels_in_tissue_mode() -> None:
    """So that the two are a valid labelled sample. As literal AdaIN has it, the image keeps its own tissues.

    That is without boundaries or with its own. By the exact one of the labels, which the game gives, it is neither's.
    """
    tissue = depicted(reconstructing("tissue", (16, 16)), (16, 16))
    assert min(tissue["given"]) > 0.9, tissue
    assert all(given > own + 0.2 for given, own in zip(tissue["given"], tissue["own"], strict=True)), tissue
    vector = depicted(reconstructing("vector", (16, 16)), (16, 16))
    assert all(own > given + 0.1 for given, own in zip(vector["given"], vector["own"], strict=True)), vector
    generator = reconstructing("vector", (16, 16), found=True)
    of_image = depicted(generator, (16, 16), exact=False)
    assert all(own > given for given, own in zip(of_image["given"], of_image["own"], strict=True)), of_image
    as_played = depicted(generator, (16, 16))
    assert max(min(dice) for dice in as_played.values()) < 0.6, as_played
    print("tissue", tissue, "vector", vector, "found", of_image, "exact", as_played)


def test_an_image_is_as_bright_as_the_one_that_it_is_made_of() -> None:
    generator = reconstructing("tissue", (16, 16), dimmest=0.3)
    a, b = phantoms(32, (16, 16), seed=10_000), phantoms(32, (16, 16), seed=20_000)
    bright = []
    with torch.no_grad():
        for factor in (0.3, 0.65, 1.0):
            made = generator(a.image * factor, b.target, torch.zeros(32, 8), label_boundary(b.target))
            bright.append(float(made[b.target[:, 3:] > 0].mean()))
    assert bright[0] + 0.15 < bright[2], bright
    assert bright == sorted(bright)


def test_the_image_is_used_too() -> None:
    torch.manual_seed(0)
    generator = Generator(4, 1, patch=(16, 16), width=4)
    a, b = phantoms(2, (16, 16), seed=1), phantoms(2, (16, 16), seed=2)
    boundary = label_boundary(b.target)
    made = [generator(one.image, b.target, torch.zeros(2, 200), boundary) for one in (a, b)]
    assert (made[0] - made[1]).abs().mean() > 1e-4
