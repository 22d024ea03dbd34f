"""Two ranks (gloo): what is frozen stays to the bit on both, and moves alike on both after unfreezing."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cohort import QUIET, build_data
from tests.training.finetuning.freezing_run import GAMES
from tests.training.test_ddp import launch

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(cohort: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By rank, by game: the state before, after the frozen epoch, and after the next."""
    build_data(cohort, prepared, val_fraction=0.5).prepare_data()
    return launch(
        cohort, prepared, tmp_path_factory.mktemp("freezing"), 2, module="tests.training.finetuning.freezing_run"
    )


@pytest.mark.parametrize("game", list(GAMES))
def test_frozen_parts_stay_to_the_bit_on_every_rank_and_unfrozen_ones_move(
    ranks: list[dict[str, Any]], game: str
) -> None:
    for rank in ranks:
        start, held, moved = rank[game]
        still = {name for name in start if torch.equal(start[name], held[name])}
        expected = {n for n in start if any(fnmatchcase(n, f"networks.{p}*") for p in GAMES[game]["frozen"])}
        assert still == expected
        assert not any(torch.equal(held[name], moved[name]) for name in expected)


@pytest.mark.parametrize("game", list(GAMES))
def test_ranks_agree_on_every_weight_before_and_after_unfreezing(ranks: list[dict[str, Any]], game: str) -> None:
    first, second = (rank[game] for rank in ranks)
    for one, two in zip(first, second, strict=True):
        differ = {name for name in one if not torch.equal(one[name], two[name])}
        assert not any(name.endswith(("weight", "bias")) for name in differ)  # statistics are each rank's own
