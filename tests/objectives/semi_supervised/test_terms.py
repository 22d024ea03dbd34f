"""The loss of each semi-supervised objective against the paper's own sums, written down once more in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, one_hot
from torch.nn.functional import cross_entropy as categorical

from segan_pl.data.sample.random_numbers import normal
from segan_pl.losses.activation import Activation
from segan_pl.losses.vat import VATLoss
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.semi_supervised.bcp import BidirectionalCopyPaste
from segan_pl.objectives.semi_supervised.cps import CrossPseudoSupervision
from segan_pl.objectives.semi_supervised.fixmatch import FixMatch
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.self_training import SelfTraining
from segan_pl.objectives.semi_supervised.ua_mt import UncertaintyAwareMeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from segan_pl.objectives.semi_supervised.views import PASTED, TEACHERS_NOISE, StrongView, boxes
from tests.objectives.semi_supervised.contract import partly_labelled

CASES = [((12, 14), "softmax", 4), ((12, 14), "sigmoid", 3), ((6, 8, 10), "softmax", 3), ((6, 8, 10), "sigmoid", 1)]
each_case = pytest.mark.parametrize(("size", "activation", "channels"), CASES)


def network(size: tuple[int, ...], channels: int, seed: int) -> nn.Module:
    """Two convolutions in float64 that are far from sure and far from even."""
    torch.manual_seed(seed)
    convolution = nn.Conv2d if len(size) == 2 else nn.Conv3d
    made = nn.Sequential(convolution(2, 4, 3, padding=1), nn.Tanh(), convolution(4, channels, 3, padding=1)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made


def step(
    objective: Objective, size: tuple[int, ...], activation: Activation, channels: int, *, now: int = 30, **batch: Any
) -> StepContext:
    """Step 30 of 100 with three labelled and three unlabelled samples; every network has weights of its own."""
    networks = {name: network(size, channels, number) for number, name in enumerate(objective.networks)}
    counts = {"labelled": 3, "unlabelled": 3, **batch}
    made = partly_labelled(2, channels, size=size, activation=activation, dtype=torch.float64, **counts)
    # Of noise a network is sure here and not there.
    made = made._replace(image=2 * torch.randn(made.image.shape, dtype=torch.float64))
    return StepContext(networks, made, activation, step=now, steps=100)


def activated(logits: Tensor, activation: Activation) -> Tensor:
    return logits.softmax(1) if activation == "softmax" else logits.sigmoid()


def entropy_loss(logits: Tensor, target: Tensor, activation: Activation) -> Tensor:
    """(B, ...) terms of the cross-entropy: a voxel each, or a region in a voxel each."""
    if activation == "softmax":
        return categorical(logits, target.argmax(1), reduction="none")[:, None]
    return binary_cross_entropy_with_logits(logits, target, reduction="none")


def dice_loss(probability: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """SSL4MIS' DiceLoss: over the batch, squared sums, smooth 1e-5, a mean over the channels, background included."""
    where = torch.ones_like(probability[:, :1]) if where is None else where.double()
    found = []
    for p, y in zip(probability.unbind(1), target.unbind(1), strict=True):
        p, y = p * where[:, 0], y * where[:, 0]
        found.append(1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + (y * y).sum() + 1e-5))
    return torch.stack(found).mean()


def supervised(logits: Tensor, target: Tensor, activation: Activation, where: Tensor | None = None) -> Tensor:
    terms = entropy_loss(logits, target, activation)
    kept = torch.ones_like(terms, dtype=torch.bool) if where is None else where.expand_as(terms)
    return (dice_loss(activated(logits, activation), target, where) + terms[kept].mean()) / 2


def decided(probability: Tensor, activation: Activation) -> Tensor:
    if activation == "sigmoid":
        return (probability > 0.5).double()
    return one_hot(probability.argmax(1), probability.shape[1]).movedim(-1, 1).double()


def with_noise(context: StepContext, number: int = 0) -> Tensor:
    """Of the unlabelled images: clamp(randn * 0.1, -0.2, 0.2)."""
    image, seed = context.batch.image[3:], context.batch.seed[3:]
    drawn = normal(seed, TEACHERS_NOISE + number, image[0].numel()).reshape(image.shape)
    return image + torch.clamp(drawn * 0.1, -0.2, 0.2)


def grown(now: int = 30) -> float:
    return exp(-5 * (1 - now / 100) ** 2)


@each_case
def test_mean_teacher_is_the_squared_gap_of_probabilities(
    size: tuple[int, ...], activation: Activation, channels: int
) -> None:
    objective = MeanTeacher()
    context = step(objective, size, activation, channels)
    total, parts = objective.loss(context)
    logits = context.networks["segmentor"](context.batch.image)
    taught = activated(context.networks["teacher"](with_noise(context)), activation)
    gap = torch.mean((activated(logits[3:], activation) - taught) ** 2)
    expected = supervised(logits[:3], context.batch.target[:3], activation) + 0.1 * grown() * gap
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(parts["consistency"], gap.detach(), rtol=1e-6, atol=0)
    assert parts["weight"].item() == pytest.approx(0.1 * grown())


@each_case
def test_uncertainty_aware_mean_teacher_counts_the_sure_voxels(
    size: tuple[int, ...], activation: Activation, channels: int
) -> None:
    objective = UncertaintyAwareMeanTeacher()
    context = step(objective, size, activation, channels)
    total, parts = objective.loss(context)
    logits = context.networks["segmentor"](context.batch.image)
    taught = [activated(context.networks["teacher"](with_noise(context, number)), activation) for number in range(9)]
    mean = torch.stack(taught[1:]).mean(0)
    gap = (activated(logits[3:], activation) - taught[0]) ** 2
    if activation == "softmax":
        unsure = -torch.sum(mean * torch.log(mean), dim=1, keepdim=True)
        sure = (unsure < (0.75 + 0.25 * grown()) * log(channels)).double()
        expected = (sure * gap).sum() / (channels * sure.sum())
    else:
        unsure = -mean * torch.log(mean) - (1 - mean) * torch.log(1 - mean)
        sure = (unsure < (0.75 + 0.25 * grown()) * log(2)).double()
        expected = (sure * gap).sum() / sure.sum()
    assert 0.02 < sure.mean() < 0.98
    assert parts["sure"].item() == pytest.approx(sure.mean().item())
    torch.testing.assert_close(parts["consistency"], expected.detach(), rtol=1e-6, atol=0)
    whole = supervised(logits[:3], context.batch.target[:3], activation) + 0.1 * grown() * expected
    torch.testing.assert_close(total, whole, rtol=1e-6, atol=0)


@each_case
@pytest.mark.parametrize("samples", ["unlabelled", "all"])
def test_cross_pseudo_supervision_takes_the_others_decisions(
    size: tuple[int, ...], activation: Activation, channels: int, samples: Any
) -> None:
    objective = CrossPseudoSupervision(samples=samples)
    context = step(objective, size, activation, channels)
    first, second = (context.networks[name](context.batch.image) for name in ("segmentor", "second"))
    rows = slice(3 if samples == "unlabelled" else 0, None)
    for phase, own, other in zip(objective.phases(), (first, second), (second, first), strict=True):
        pseudo = entropy_loss(own[rows], decided(activated(other[rows], activation), activation), activation).mean()
        expected = supervised(own[:3], context.batch.target[:3], activation) + 0.1 * grown() * pseudo
        torch.testing.assert_close(phase.loss(context).total, expected, rtol=1e-6, atol=0)


@each_case
def test_fixmatch_asks_the_strong_view_for_the_sure_labels_of_the_weak_one(
    size: tuple[int, ...], activation: Activation, channels: int
) -> None:
    objective = FixMatch(threshold=0.8)
    context = step(objective, size, activation, channels)
    total, parts = objective.loss(context)
    unlabelled = context.unlabelled
    assert unlabelled is not None
    segmentor = context.networks["segmentor"]
    strong = segmentor(StrongView()(unlabelled.batch))
    weak = activated(segmentor(context.batch.image[3:]), activation)
    sure = weak.amax(1, keepdim=True) if activation == "softmax" else torch.maximum(weak, 1 - weak)
    terms = entropy_loss(strong, decided(weak, activation), activation)
    expected = torch.mean(terms * (sure >= 0.8))
    assert 0.02 < (sure >= 0.8).double().mean() < 0.98
    torch.testing.assert_close(parts["strong"], expected.detach(), rtol=1e-6, atol=0)
    labelled = supervised(segmentor(context.batch.image[:3]), context.batch.target[:3], activation)
    torch.testing.assert_close(total, labelled + expected, rtol=1e-6, atol=0)


@each_case
def test_self_training_takes_the_snapshots_sure_labels_for_labels(
    size: tuple[int, ...], activation: Activation, channels: int
) -> None:
    objective = SelfTraining(threshold=0.7, warm_up=30)
    context = step(objective, size, activation, channels)
    total, parts = objective.loss(context)
    logits = context.networks["segmentor"](context.batch.image)
    taught = activated(context.networks["teacher"](context.batch.image[3:]), activation)
    sure = taught.amax(1, keepdim=True) if activation == "softmax" else torch.maximum(taught, 1 - taught)
    where = (sure >= 0.7).all(1, keepdim=True)
    assert 0.02 < where.double().mean() < 0.98
    pseudo = supervised(logits[3:], decided(taught, activation), activation, where)
    torch.testing.assert_close(parts["pseudo"], pseudo.detach(), rtol=1e-6, atol=0)
    expected = supervised(logits[:3], context.batch.target[:3], activation) + pseudo
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)


@each_case
@pytest.mark.parametrize("samples", ["unlabelled", "all"])
def test_virtual_adversarial_training_prices_the_change_against_the_clean_prediction(
    size: tuple[int, ...], activation: Activation, channels: int, samples: Any
) -> None:
    objective = VirtualAdversarial(vat=VATLoss(power_iterations=0), weight=0.5, samples=samples)
    context = step(objective, size, activation, channels)
    seen: list[Tensor] = []
    context.networks["segmentor"].register_forward_hook(lambda *given: seen.append(given[-1]))
    total, parts = objective.loss(context)
    clean, moved = seen
    rows = slice(3 if samples == "unlabelled" else 0, None)
    q = activated(clean[rows], activation).detach()
    if activation == "softmax":
        price = kl_div(moved.log_softmax(1), q, reduction="none").sum(1).mean()
    else:
        p = moved.sigmoid()
        price = (q * torch.log(q / p) + (1 - q) * torch.log((1 - q) / (1 - p))).mean()
    torch.testing.assert_close(parts["vat"], price.detach(), rtol=1e-6, atol=0)
    expected = supervised(clean[:3], context.batch.target[:3], activation) + 0.5 * price
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)


@each_case
@pytest.mark.parametrize("labelled", [4, 3, 2, 1])
def test_copy_paste_mixes_inward_and_outward(
    size: tuple[int, ...], activation: Activation, channels: int, labelled: int
) -> None:
    objective = BidirectionalCopyPaste(largest_component=False)
    context = step(objective, size, activation, channels, labelled=labelled, unlabelled=4)
    total, _ = objective.loss(context)
    image, target = context.batch.image, context.batch.target
    half = (labelled + 1) // 2
    inner, outer = range(half), range(labelled - half, labelled)
    pseudo = decided(activated(context.networks["teacher"](image[labelled:]), activation), activation)
    expected = torch.zeros((), dtype=torch.float64)
    for rows, inward in ((inner, True), (outer, False)):
        around = [row if inward else labelled + row for row in rows]
        box = boxes(context.batch.seed[around], PASTED, size, 2 / 3).double()
        pairs = [(image[row], image[labelled + row], target[row], pseudo[row]) for row in rows]
        x, u, y, v = (torch.stack(values) for values in zip(*pairs, strict=True))
        if inward:
            mixed, real = x * (1 - box) + u * box, 1 - box
        else:
            mixed, real = u * (1 - box) + x * box, box
        logits = context.networks["segmentor"](mixed)
        expected = expected + supervised(logits, y, activation, real > 0)
        expected = expected + 0.5 * supervised(logits, v, activation, real == 0)
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)


@each_case
def test_copy_paste_begins_with_labelled_pairs(size: tuple[int, ...], activation: Activation, channels: int) -> None:
    objective = BidirectionalCopyPaste()
    context = step(objective, size, activation, channels, now=24, labelled=4)
    context.networks["teacher"].register_forward_hook(lambda *_: pytest.fail("the teacher was asked"))
    image, target = context.batch.image, context.batch.target
    box = boxes(context.batch.seed[:2], PASTED, size, 2 / 3).double()
    mixed, labels = (one[:2] * (1 - box) + one[2:4] * box for one in (image, target))
    expected = supervised(context.networks["segmentor"](mixed), labels, activation)
    torch.testing.assert_close(objective.loss(context).total, expected, rtol=1e-6, atol=0)


LATE: dict[str, Callable[..., Objective]] = {"self-training": SelfTraining, "copy-paste": BidirectionalCopyPaste}


def test_self_training_is_supervised_alone_until_its_warm_up_ends() -> None:
    objective = SelfTraining()
    context = step(objective, (12, 14), "softmax", 3, now=49)
    context.networks["teacher"].register_forward_hook(lambda *_: pytest.fail("the teacher was asked"))
    shown: list[int] = []
    context.networks["segmentor"].register_forward_hook(lambda *given: shown.append(len(given[-1])))
    assert set(objective.loss(context).parts) == {"dice", "cross_entropy"}
    assert shown == [3]
    assert "pseudo" in objective.loss(step(objective, (12, 14), "softmax", 3, now=50)).parts
