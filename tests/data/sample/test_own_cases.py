"""Whole cases shared over ranks: each once, by what they cost, and by count where the trainer has a limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segan_pl.data.sample.samplers import own_cases


def shares(costs: list[int], ranks: int, trainer: Any = None) -> list[list[int]]:
    return [own_cases(costs, trainer, rank=rank, world_size=ranks) for rank in range(ranks)]


def test_one_large_case_is_as_much_as_three_small_ones() -> None:
    assert shares([10, 30, 10, 10], 2) == [[1], [0, 2, 3]]


def test_equal_cases_are_dealt_in_turn() -> None:
    assert shares([7] * 5, 2) == [[0, 2, 4], [1, 3]]


def test_each_case_is_on_one_rank_and_no_rank_is_idle() -> None:
    rng = np.random.default_rng(0)
    for ranks in (1, 2, 3, 4):
        costs = [int(cost) for cost in rng.integers(1, 1000, size=11)]
        found = shares(costs, ranks)
        assert sorted(place for one in found for place in one) == list(range(11))
        assert all(found)
        # Graham 1969: the longest is at most 4/3 of the best there can be, which is at least the mean
        longest = max(sum(costs[place] for place in one) for one in found)
        assert longest <= max(max(costs), sum(costs) / ranks) * 4 / 3 + max(costs) / 3


@pytest.mark.parametrize("limit", [2, 0.5])
def test_a_limit_counts_the_cases_of_each_rank(limit: float) -> None:
    trainer = SimpleNamespace(limit_val_batches=limit, limit_test_batches=1.0, limit_predict_batches=1.0)
    assert shares([10, 30, 10, 10], 2, trainer) == [[0, 2], [1, 3]]
