"""Spectral norm of whole networks: singular values, what is left alone, and what a checkpoint holds."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from segan_pl.nets import few_shot, reciprocal, segan
from segan_pl.nets.spectral_norm import add_spectral_norm


def kernels(network: nn.Module) -> list[torch.Tensor]:
    """Of each normed layer, the kernel as a matrix of output channels times all else."""
    return [
        layer.weight.movedim(int(isinstance(layer, nn.ConvTranspose3d)), 0).flatten(1)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d | nn.Linear)
    ]


class TwoLayers(nn.Module):
    """A transposed convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.last = nn.ConvTranspose3d(3, 5, 2, stride=2), nn.Linear(5 * 8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.up(x).flatten(1))


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (segan.Critic(3, width=4), (2, 3, 16, 16)),
        (reciprocal.Critic(2, width=4), (2, 2, 8, 8, 8)),
        (TwoLayers(), (2, 3, 1, 1, 1)),
    ],
)
def test_the_largest_singular_value_of_every_kernel_is_1(network: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    before = kernels(network)
    assert add_spectral_norm(network) == len(before)
    for _ in range(100):
        network(torch.randn(shape))
    for old, kernel in zip(before, kernels(network), strict=True):
        assert torch.linalg.matrix_norm(kernel, 2).item() == pytest.approx(1, abs=1e-3)
        assert torch.allclose(kernel * torch.linalg.matrix_norm(old, 2), old, atol=1e-2 * old.abs().max().item())


def test_layers_with_weight_norm_keep_it_and_a_second_time_does_nothing() -> None:
    encoder = few_shot.Encoder(2, patch=(16, 16, 16), width=2, noise=3)
    assert add_spectral_norm(encoder) == 3
    assert "output.parametrizations.weight.original0" in encoder.state_dict()
    assert add_spectral_norm(encoder) == 0


def test_its_vectors_move_in_training_alone_and_travel_with_a_copy_and_a_state() -> None:
    critic, other = segan.Critic(3, width=4), segan.Critic(3, width=4)
    add_spectral_norm(critic)
    add_spectral_norm(other)
    image = torch.randn(2, 3, 16, 16)
    vector = critic.get_buffer("input.conv.parametrizations.weight.0._u")
    before = vector.clone()
    critic.eval()(image)
    assert torch.equal(before, vector)
    critic.train()(image)
    assert not torch.equal(before, vector)
    other.load_state_dict(critic.state_dict())
    for twin in (deepcopy(critic), other):
        assert torch.equal(twin.eval()(image)[-1], critic.eval()(image)[-1])


def test_under_autocast_the_norm_is_that_of_float32() -> None:
    critic = segan.Critic(3, width=4)
    add_spectral_norm(critic)
    critic.eval()
    expected = critic.input.conv.weight
    with torch.autocast("cpu", torch.bfloat16):
        found = critic.input.conv.weight
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
