"""Random numbers by seed, stream and position: uniform, normal, and strangers to one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from segan_pl.data.sample import random_numbers
from segan_pl.data.sample.random_numbers import normal, uniform

SEEDS = torch.from_numpy(np.random.default_rng(0).integers(2**63, size=4))


def test_numbers_are_recorded_so_that_a_change_of_what_a_seed_means_is_seen() -> None:
    found = uniform(torch.tensor([0, 2**40 + 7]), 3, 3)
    assert (found * 2**24).int().tolist() == [[15783512, 14574586, 12125666], [3034746, 6931401, 4909110]]


def test_a_number_depends_on_its_own_seed_stream_and_position_alone() -> None:
    whole = uniform(SEEDS, 2, 50)
    assert torch.equal(uniform(SEEDS[2:3], 2, 20), whole[2:3, :20])
    assert not torch.equal(uniform(SEEDS, 3, 50), whole)
    assert torch.equal(normal(SEEDS, 2, 7), normal(SEEDS, 2, 7))


@pytest.mark.parametrize(
    "numbers", [uniform(SEEDS, 0, 50_000), uniform(torch.arange(50_000), 0, 4).T], ids=["long", "many"]
)
def test_numbers_are_uniform_and_uncorrelated(numbers: torch.Tensor) -> None:
    for row in numbers:
        assert stats.kstest(row.numpy(), "uniform").pvalue > 1e-3
        for lag in (1, 2, 128):
            assert abs(float(torch.corrcoef(torch.stack([row[lag:], row[:-lag]]))[0, 1])) < 0.02
    assert float(torch.corrcoef(numbers).sub(torch.eye(len(numbers))).abs().max()) < 0.02


@pytest.mark.parametrize("count", [7, 200, 201])
def test_normal_numbers_do_not_depend_on_how_many_are_made_at_a_time(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = normal(SEEDS, 1, count)
    monkeypatch.setattr(random_numbers, "CACHED", 16)
    assert torch.equal(normal(SEEDS, 1, count), whole)
    torch.set_default_dtype(torch.float64)  # as within a step of --trainer.precision 64-true
    try:
        assert normal(SEEDS, 1, count).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_streams_of_a_seed_are_strangers() -> None:
    streams = torch.cat([uniform(SEEDS[:1], stream, 50_000) for stream in (0, 1, 2, 100, 101)])
    assert float(torch.corrcoef(streams).sub(torch.eye(5)).abs().max()) < 0.02


def test_normal_numbers_are_normal() -> None:
    for row in normal(SEEDS, 100, 50_001):
        assert row.shape == (50_001,)
        assert stats.kstest(row.numpy(), "norm").pvalue > 1e-3
