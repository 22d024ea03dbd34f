"""The penalty of a critic's slope: closed forms, and an estimate whose mean over all signs is exact."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from segan_pl.losses.gradient_penalty import mean_squared_slope


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_of_a_linear_critic_with_one_number_it_is_the_squared_length_of_its_weights(sign: float) -> None:
    weights = torch.randn(2 * 4 * 4, dtype=torch.float64, requires_grad=True)
    shown = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    score = (shown.flatten(1) @ weights)[:, None]
    found = mean_squared_slope([score], shown, [torch.full_like(score, sign)])
    assert found.item() == pytest.approx(weights.square().sum().item())
    (gradient,) = torch.autograd.grad(found, weights)
    assert torch.allclose(gradient, 2 * weights)


def test_its_mean_over_all_signs_is_the_mean_over_the_numbers_of_their_squared_gradients() -> None:
    matrices = [torch.randn(2, 5, dtype=torch.float64), torch.randn(1, 5, dtype=torch.float64)]
    found = []
    for signs in product((-1.0, 1.0), repeat=3):
        shown = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
        given: list[Tensor] = [torch.tensor([signs[:2]]).double(), torch.tensor([signs[2:]]).double()]
        found.append(mean_squared_slope([shown @ matrix.T for matrix in matrices], shown, given))
    expected = sum(matrix.square().sum() for matrix in matrices) / 3
    assert torch.stack(found).mean().item() == pytest.approx(float(expected))
