"""Two and three ranks on the CPU (gloo) against one process: the same scores, and gradients where they can be."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cohort import QUIET, build_data
from tests.training.ddp_run import GAMES, trained

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.slow]

Found = dict[str, Any]


def launch(root: Path, cache: Path, out: Path, world: int, *, module: str = "tests.training.ddp_run") -> list[Found]:
    """What each rank found, each a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    checkout = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, root, cache, out, str(world), str(rank)],
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "LOCAL_RANK": str(rank),
                "NODE_RANK": "0",
                "WORLD_SIZE": str(world),
                "OMP_NUM_THREADS": "1",
            },
        )
        for rank in range(world)
    ]
    try:
        said = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(said)
    return [torch.load(out / f"{world}_{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def found(cohort: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Found]]:
    """By number of ranks."""
    out = tmp_path_factory.mktemp("ddp")
    data = build_data(cohort, prepared, val_fraction=0.5)
    data.prepare_data()
    alone = trained(cohort, prepared, 1, out, list(GAMES))
    return {1: [alone], **{world: launch(cohort, prepared, out, world) for world in (2, 3)}}


@pytest.mark.parametrize("world", [2, 3])
def test_each_case_is_scored_on_one_rank_and_all_ranks_know_all_scores(
    found: dict[int, list[Found]], world: int
) -> None:
    (alone,) = found[1]
    ranks = [one["scores"] for one in found[world]]
    own = [row for one in ranks for row in one["own"]]
    assert sorted(own) == alone["scores"]["own"]
    assert len(set(own)) == len(own) == 4
    for one in ranks:
        assert one["rows"] == alone["scores"]["rows"]
        assert one["dice"] == alone["scores"]["dice"]


def farthest(found: dict[int, list[Found]], game: str, world: int = 2) -> float:
    """Largest difference of a weight between 1 and more ranks, after three joined batches."""
    one, two = (found[ranks][0]["weights"][game] for ranks in (1, world))
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("game", list(GAMES))
def test_ranks_end_with_the_same_weights(found: dict[int, list[Found]], game: str) -> None:
    first, second = (one["weights"][game] for one in found[2])
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "game",
    [
        *("alternating", "simultaneous", "stabilised", "unlabelled", "mean teacher", "cross pseudo supervision"),
        *("FixMatch", "GAN", "self-training", "supervised", "dice over ranks", "accumulated"),
    ],
)
def test_two_ranks_move_like_one_with_the_joined_batch(found: dict[int, list[Found]], game: str) -> None:
    assert farthest(found, game) < 1e-12


@pytest.mark.parametrize("game", ["alternating", "stabilised", "unlabelled", "mean teacher", "GAN", "supervised"])
def test_losses_are_those_of_the_joined_batches_on_each_rank(found: dict[int, list[Found]], game: str) -> None:
    (alone,), ranks = (([one["losses"][game] for one in found[world]]) for world in (1, 2))
    assert alone
    assert ranks[0] == ranks[1] == pytest.approx(alone, rel=1e-9, abs=1e-12)


def test_three_ranks_move_like_one_with_the_joined_batch(found: dict[int, list[Found]]) -> None:
    assert farthest(found, "whole batches", 3) < 1e-12


@pytest.mark.parametrize(
    "game",
    [
        *("batch statistics", "dice per batch", "reciprocal", "virtual adversarial", "uncertainty-aware"),
        *("copy-paste", "GT-GAN"),
    ],
)
def test_sums_over_a_rank_instead_of_the_joined_batch_make_a_difference(
    found: dict[int, list[Found]], game: str
) -> None:
    """Batch norm and Dice per batch see a rank's own slices; noise, dropout and mixing are drawn within its batch."""
    assert 1e-9 < farthest(found, game) < 0.1
