from __future__ import annotations

import pickle

import torch
from torch import nn

from segan_pl.players import RunningMean, averaged_copy, has_gradient, negate_gradients, one_scale, only


def test_the_scale_stays_while_several_players_step_and_is_updated_once_after() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    players = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    optimizers = [torch.optim.SGD(player.parameters(), lr=1.0) for player in players]
    before = [player.weight.item() for player in players]
    scaler.scale(sum(player.weight.sum() for player in players)).backward()
    with one_scale(scaler):
        for optimizer in optimizers:
            scaler.step(optimizer)
            scaler.update()
            assert scaler.get_scale() == 8.0
    assert scaler.get_scale() == 16.0
    assert [b - player.weight.item() for b, player in zip(before, players, strict=True)] == [1.0, 1.0]


def test_a_batch_without_a_step_leaves_the_scale_alone() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    with one_scale(scaler):
        pass
    assert scaler.get_scale() == 8.0


def test_resting_players_get_no_gradient_and_frozen_parameters_stay_frozen() -> None:
    players = {"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}
    players["b"].bias.requires_grad_(False)
    with only(["a"], players):
        players["b"](players["a"](torch.ones(1, 2))).sum().backward()
    assert has_gradient(players["a"])
    assert not has_gradient(players["b"])
    assert [p.requires_grad for p in players["b"].parameters()] == [True, False]


def test_negated_gradients_are_the_same_numbers_uphill() -> None:
    player = nn.Linear(2, 1)
    player(torch.tensor([[1.0, 2.0]])).sum().backward()
    negate_gradients(player)
    assert player.weight.grad is not None
    assert player.weight.grad.tolist() == [[-1.0, -2.0]]


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
