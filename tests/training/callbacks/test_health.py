"""A collapse that was planted is named within two epochs, and a game that learns is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from segan_pl.data.module import MRIDataModule
from segan_pl.evaluation.saved_files import metrics_rows
from segan_pl.objectives.base import Objective
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.callbacks.health import Health, signs
from segan_pl.training.callbacks.measures import Measures
from segan_pl.training.callbacks.record import RunRecord
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]


class Certain(nn.Module):
    """A critic that knows a reference by its whole numbers, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, mask: Tensor) -> list[Tensor]:
        real = ((mask == 0) | (mask == 1)).flatten(1).all(1)
        return [(torch.where(real, 6.0, -9.0)[:, None] + self.weight)[..., None, None]]


class Blind(nn.Module):
    """A critic whose features are the same whatever it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, view: Tensor) -> list[Tensor]:
        return [0 * view[:, :1] + self.weight]


def untouched(system: AdversarialSegmentation) -> None:
    """Plants nothing."""


def certain_critic(system: AdversarialSegmentation) -> None:
    system.networks["critic"] = Certain()


def blind_critic(system: AdversarialSegmentation) -> None:
    system.networks["critic"] = Blind()


def sure_background(system: AdversarialSegmentation) -> None:
    """Saturated logits: no gradient, and the same probability everywhere."""
    last = [one for one in system.networks["segmentor"].modules() if isinstance(one, nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-200)  # type: ignore[union-attr]


def piled_up(system: AdversarialSegmentation) -> None:
    """Every kernel of the critic at its bound, and no step that leads away from there."""
    with torch.no_grad():
        for one in system.networks["critic"].modules():
            if isinstance(one, nn.Conv2d):
                one.weight.copy_(0.05 * one.weight.sign())
    for parameter in system.networks["critic"].parameters():
        parameter.register_hook(torch.zeros_like)


def run(
    folder: Path, data: MRIDataModule, objective: Objective, plant: Any, *, epochs: int = 3, **how: Any
) -> tuple[list[str], list[dict[str, str]], Any]:
    """What was said, metrics.csv, and the trainer."""
    system = build_system(objective, plain=plant is sure_background)
    plant(system)
    said: list[str] = []
    system.print = said.append  # type: ignore[method-assign]
    trainer = build_trainer(folder, Measures(), Health(**how), RunRecord(folder), epochs=epochs, limit_val_batches=0)
    trainer.fit(system, datamodule=data)
    return said, metrics_rows(folder / "metrics.csv"), trainer


@pytest.mark.parametrize(
    ("objective", "plant", "expected"),
    [
        (Reciprocal(vat_weight=0), certain_critic, {"critic_saturated"}),
        (SegAN(), piled_up, {"critic_saturated", "gradients_vanished"}),
        (SegAN(clip="none"), blind_critic, {"gap_frozen", "gradients_vanished"}),
        (SegAN(clip="none", update="simultaneous"), blind_critic, {"gap_frozen", "gradients_vanished"}),
        (Supervised(), sure_background, {"gradients_vanished", "segmentor_constant"}),
    ],
)
def test_a_planted_collapse_is_named_once_after_two_epochs(
    tmp_path: Path, make_data: MakeData, objective: Objective, plant: Any, expected: set[str]
) -> None:
    said, rows, _ = run(tmp_path, make_data(), objective, plant)
    named = {one.split(": ")[2].replace(" ", "_") for one in said}
    assert named == expected
    assert len(said) == len(expected)
    assert all(one.startswith("warning: epochs 0 and 1: ") and "docs/critics.md" in one for one in said)
    held = [{name.removeprefix("health/") for name in row if name.startswith("health/") and row[name]} for row in rows]
    assert held == [set(), expected, expected]


class Recovery(Callback):
    """Gives the segmentor its last layer back before the fourth epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 3:
            last = pl_module.networks["segmentor"].layers[-1]
            torch.nn.init.normal_(last.weight)
            torch.nn.init.zeros_(last.bias)


def test_a_sign_that_is_gone_is_logged_as_gone(tmp_path: Path, make_data: MakeData) -> None:
    system = build_system(Supervised(), plain=True)
    sure_background(system)
    callbacks = [Recovery(), Measures(), Health(), RunRecord(tmp_path)]
    build_trainer(tmp_path, *callbacks, epochs=5, limit_val_batches=0).fit(system, datamodule=make_data())
    rows = metrics_rows(tmp_path / "metrics.csv")
    assert [row["health/segmentor_constant"] for row in rows] == ["", "1", "1", "0", "0"]


@pytest.mark.parametrize("objective", [SegAN(), SegAN(update="simultaneous"), Reciprocal(), Supervised()])
def test_a_game_that_learns_is_left_alone(tmp_path: Path, make_data: MakeData, objective: Objective) -> None:
    said, rows, _ = run(tmp_path, make_data(), objective, untouched)
    assert said == []
    assert not any(name.startswith("health/") for name in rows[0])
    assert all(float(row["output_range/segmentor"]) > 0.01 for row in rows)
    assert all(float(row["gradient_norm/segmentor"]) > 1e-7 for row in rows)


def test_a_run_ends_where_it_is_asked_to_and_again_when_it_is_called_again(tmp_path: Path, make_data: MakeData) -> None:
    said, rows, trainer = run(tmp_path, make_data(), Supervised(), sure_background, epochs=9, stops=True)
    assert len(rows) == 2
    assert all(one.endswith("; the run ends (--run.health stop)") for one in said)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = build_trainer(tmp_path, Measures(), Health(stops=True), RunRecord(tmp_path), epochs=9, limit_val_batches=0)
    again.fit(build_system(Supervised(), plain=True), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt")
    assert len(metrics_rows(tmp_path / "metrics.csv")) == 2


GOOD = {"train/critic_real": 0.7, "train/critic_fake": 0.3, "gap_spread/critic_gap": 0.2, "gradient_norm/critic": 0.1}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, set()),
        ({"train/critic_real": 0.995, "train/critic_fake": 0.005}, {"critic_saturated"}),
        ({"train/critic_real": 0.5, "train/critic_fake": 0.5}, {"gap_frozen"}),
        ({"gap_spread/critic_gap": 1e-4}, {"gap_frozen"}),
        ({"gradient_norm/critic": 0.0}, {"gradients_vanished"}),
        ({"output_range/segmentor": 1e-3}, {"segmentor_constant"}),
        ({"at_bound/critic": 1.0}, {"critic_saturated"}),
    ],
)
def test_a_sign_needs_both_epochs(changed: dict[str, float], expected: set[str]) -> None:
    bad = {**GOOD, **changed}
    assert set(signs(bad, bad)) == expected
    assert set(signs(GOOD, bad)) == set()
    assert set(signs(bad, GOOD)) == set()


def test_verdicts_that_meet_and_still_move_are_no_collapse() -> None:
    met = {"train/critic_real": 0.500, "train/critic_fake": 0.500}
    assert not signs(met, {"train/critic_real": 0.502, "train/critic_fake": 0.502})


@pytest.mark.parametrize("clip", ["kernels", "all", "none"])
def test_the_share_at_the_bound_is_counted_over_what_is_clamped(clip: Any) -> None:
    objective = SegAN(clip=clip)
    critic = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Linear(2, 1))
    with torch.no_grad():
        for parameter, value in zip(critic.parameters(), (0.05, 0.01, -0.05, 0.01), strict=True):
            parameter.fill_(value)
    found = objective.at_bound({"critic": critic})
    expected = {"kernels": 2 / 2, "all": (2 + 2) / 7}
    assert {name: float(share) for name, share in found.items()} == pytest.approx(
        {} if clip == "none" else {"critic": expected[clip]}
    )
