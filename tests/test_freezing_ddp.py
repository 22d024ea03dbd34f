"""Two ranks (gloo): what rests stays to the bit on both, and moves alike on both after the thaw."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cohort import QUIET, build_data
from tests.freezing_play import GAMES
from tests.test_ddp import launch

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(cohort: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By rank, by game: the state before, after the epoch of rest, and after that of the thaw."""
    build_data(cohort, prepared, val_fraction=0.5).prepare_data()
    return launch(cohort, prepared, tmp_path_factory.mktemp("freezing"), 2, module="tests.freezing_play")


@pytest.mark.parametrize("game", list(GAMES))
def test_frozen_parts_stay_to_the_bit_on_every_rank_and_thawed_ones_move(
    ranks: list[dict[str, Any]], game: str
) -> None:
    for rank in ranks:
        start, rested, thawed = rank[game]
        still = {name for name in start if torch.equal(start[name], rested[name])}
        expected = {n for n in start if any(fnmatchcase(n, f"players.{p}*") for p in GAMES[game]["frozen"])}
        assert still == expected
        assert not any(torch.equal(rested[name], thawed[name]) for name in expected)


@pytest.mark.parametrize("game", list(GAMES))
def test_ranks_agree_on_every_weight_before_and_after_the_thaw(ranks: list[dict[str, Any]], game: str) -> None:
    first, second = (rank[game] for rank in ranks)
    for one, two in zip(first, second, strict=True):
        differ = {name for name in one if not torch.equal(one[name], two[name])}
        assert not any(name.endswith(("weight", "bias")) for name in differ)  # statistics are each rank's own
