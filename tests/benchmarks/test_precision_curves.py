"""The curves of two precisions: which systems are run, what is read of a run, and how far curves are apart."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.precision_curves import EPOCHS, RUNS, compared, curves, gap, quarters, smaller, systems
from segan_pl.experiments.shipped import shipped_folder


def test_every_system_and_every_objective_that_ships_is_run() -> None:
    files = {path.stem for kind in ("systems", "objectives") for path in (shipped_folder("configs") / kind).glob("*")}
    assert {name.rpartition("+")[2] for name in systems()} == files


@pytest.mark.parametrize("system", systems())
def test_a_system_made_small_keeps_its_dimensions(system: str) -> None:
    options = smaller(system)
    assert len(options["data.patch"]) in (2, 3)
    assert math.prod(options["data.patch"]) <= 2 * 32**3
    assert 2 <= options["data.batch_size"] <= 8
    assert not [key for key in options if "optimizers" in key or "objective" in key]


def test_a_runs_whole_losses_and_its_last_dice_are_read(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text(
        "epoch,train/critic_loss,train/segmentor_dice_loss,train/segmentor_loss,val/dice_mean\n"
        "0,-0.1,9,1.5,\n1,-0.2,9,1.25,0.5\n"
    )
    assert curves(table) == ({"critic": [-0.1, -0.2], "segmentor": [1.5, 1.25]}, 0.5)


def test_a_gap_is_a_share_of_the_first_curves_largest_value() -> None:
    assert gap([2.0, -4.0, 1.0], [2.0, -3.0, 1.5]) == 0.25
    assert gap([0.0, 0.0], [0.0, 0.5]) == 0.5
    assert math.isnan(gap([1.0, 2.0], [1.0]))
    assert math.isnan(gap([1.0, 2.0], [1.0, math.inf]))


def test_quarters_are_means_of_the_ends() -> None:
    assert quarters([1, 3, 0, 0, 0, 0, 5, 7]) == (2, 6)
    assert quarters([1, 2]) == (1, 2)


def test_a_system_has_a_line_for_each_network_and_one_that_is_refused_says_why() -> None:
    plain, low, other = RUNS
    line = {
        run: [f"{value:g}" for value in [2.0] * (EPOCHS - 1) + [last]]
        for run, last in zip(RUNS, (1, 1.5, 2), strict=True)
    }
    rows = [["a", run, "segmentor", *line[run], "0.25"] for run in (plain, low, other)]
    rows += [["b", plain, "refused: no", *[""] * (EPOCHS + 1)]]
    refused, there = sorted(compared(rows), reverse=True)
    assert there == ["a", "segmentor", "2.000, 2.000", "1.500, 1.750", "0.2500", "0.5000", "0.25, 0.25", "yes"]
    assert refused[:2] == ["b", f"{plain} refused: no"]
