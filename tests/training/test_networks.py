from __future__ import annotations

import pickle
import re

import pytest
import torch
from torch import nn

from segan_pl.data.prepare.preparation import Preparation
from segan_pl.nets import few_shot, gt_gan
from segan_pl.objectives.base import StepContext
from segan_pl.training.networks import RunningMean, averaged_copy, negate_gradients, one_scale, unreached_note
from tests.contracts import tiny_batch


@pytest.mark.parametrize(
    ("preparation", "found"),
    [
        (Preparation(scaling="zscore"), "the prepared ones are not bounded; give --model.networks.generator.init_args"),
        (Preparation(interval=(-1.0, 2.0)), r"the prepared ones lie in \[-1.0, 2.0\]; .* or -c gt_gan_preparation"),
        (Preparation(interval=(-1.0, 1.0)), None),
        (Preparation(), None),
    ],
)
def test_intensities_that_a_generator_cannot_make_are_noted(preparation: Preparation, found: str | None) -> None:
    networks = {"segmentor": nn.Identity(), "generator": few_shot.Generator(1, patch=(16, 16), width=1)}
    note = unreached_note(networks, preparation.as_dict())
    assert (note is None) if found is None else re.search(found, note or "")
    free = gt_gan.Generator(4, 1, patch=(16, 16), width=2, bounded=False)
    assert unreached_note({**networks, "generator": free}, preparation.as_dict()) is None


def test_the_scale_stays_while_several_networks_step_and_is_updated_once_after() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    networks = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    optimizers = [torch.optim.SGD(network.parameters(), lr=1.0) for network in networks]
    before = [network.weight.item() for network in networks]
    scaler.scale(sum(network.weight.sum() for network in networks)).backward()
    with one_scale(scaler):
        for optimizer in optimizers:
            scaler.step(optimizer)
            scaler.update()
            assert scaler.get_scale() == 8.0
    assert scaler.get_scale() == 16.0
    assert [b - network.weight.item() for b, network in zip(before, networks, strict=True)] == [1.0, 1.0]


def test_a_batch_without_a_step_leaves_the_scale_alone() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    with one_scale(scaler):
        pass
    assert scaler.get_scale() == 8.0


def test_networks_of_other_phases_get_no_gradient_and_frozen_parameters_stay_frozen() -> None:
    networks = {"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}
    networks["b"].bias.requires_grad_(False)
    batch = tiny_batch()
    context = StepContext({"segmentor": nn.Identity(), **networks}, batch, "sigmoid")
    with context.only(["a"]):
        networks["b"](networks["a"](torch.ones(1, 2))).sum().backward()
    assert all(p.grad is not None for p in networks["a"].parameters())
    assert all(p.grad is None for p in networks["b"].parameters())
    assert [p.requires_grad for p in networks["b"].parameters()] == [True, False]


def test_negated_gradients_are_the_same_numbers_uphill() -> None:
    network = nn.Linear(2, 1)
    network(torch.tensor([[1.0, 2.0]])).sum().backward()
    negate_gradients(network)
    assert network.weight.grad is not None
    assert network.weight.grad.tolist() == [[-1.0, -2.0]]


def test_the_average_starts_at_the_network_follows_its_first_steps_and_can_be_pickled() -> None:
    network = nn.Linear(1, 1, bias=False)
    copy = averaged_copy(network, 0.9)
    copy.update_parameters(network)  # the first is a copy
    start = network.weight.item()
    with torch.no_grad():
        network.weight.add_(1.0)
    copy.update_parameters(network)  # keeps (1 + 1) / (10 + 1)
    torch.testing.assert_close(copy.module.weight, torch.tensor([[start + 9 / 11]]))
    assert not copy.module.weight.requires_grad
    assert isinstance(pickle.loads(pickle.dumps(RunningMean(0.5))), RunningMean)
