"""Schedules end with the run unless they say otherwise, and what does not is said."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, PolynomialLR

from segan_pl.__main__ import main
from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.experiments.shipped import shipped_configs
from segan_pl.training.callbacks.checkpoint import AtomicCheckpointIO
from segan_pl.training.schedules import follow_run, length_of, moved, other_length
from tests.cohort import QUIET, SYSTEM, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
]

MakeData = Callable[..., MRIDataModule]
NULL = "{class_path: torch.optim.lr_scheduler.PolynomialLR, init_args: {total_iters: null, power: 1.0}}"


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [(partial(PolynomialLR, total_iters=0, power=1.0), 0.75), (partial(CosineAnnealingLR, T_max=0), 0.8535534)],
)
def test_a_schedule_of_length_0_goes_over_the_run(schedule: Any, rate: float) -> None:
    own = optimizer()
    scheduler = schedule(own)
    follow_run([scheduler], 4)
    assert length_of(scheduler) == 4
    own.step()
    scheduler.step()
    assert own.param_groups[0]["lr"] == pytest.approx(rate)


@pytest.mark.parametrize("epochs", [None, -1])
def test_a_schedule_over_a_run_without_an_end_is_refused(epochs: int | None) -> None:
    with pytest.raises(
        UsageError, match=r"PolynomialLR ends with the run, which has no end; give --trainer\.max_epochs"
    ):
        follow_run([PolynomialLR(optimizer(), total_iters=0)], epochs)


def test_a_length_of_its_own_stays_and_is_said_where_the_run_has_another() -> None:
    scheduler = PolynomialLR(optimizer(), total_iters=30)
    follow_run([scheduler], 2)
    assert length_of(scheduler) == 30
    assert other_length(scheduler, 30) is None
    note = "note: the schedule PolynomialLR ends after 30 epochs, the run {}; "
    assert str(other_length(scheduler, 2)).startswith(note.format("ends after 2 (--trainer.max_epochs)"))
    assert str(other_length(scheduler, -1)).startswith(note.format("has no end"))
    assert other_length(ExponentialLR(optimizer(), 0.9), 2) is None  # never ends


def test_a_continued_run_says_that_its_schedule_is_another() -> None:
    before = PolynomialLR(optimizer(), total_iters=2).state_dict()
    now = {**before, "total_iters": 4}
    assert moved(before, before) is None
    assert "goes over 4 epochs from now on, 2 before" in str(moved(before, now))


@pytest.fixture
def command(tmp_path: Path, cohort: Path, prepared: Path, isolated: None) -> Callable[..., int]:
    """`segan_pl fit --config tiny.yaml ...` in one run folder."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))
    line = ["fit", "--config", str(path), f"--run.directory={tmp_path / 'run'}", "--run.preview_every=0"]
    return lambda *arguments: main([*line, *arguments])


def rate(folder: Path) -> float:
    state = AtomicCheckpointIO().load_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")
    return float(state["optimizer_states"][0]["param_groups"][0]["lr"])


def test_null_follows_the_run_also_when_it_goes_on_longer(
    command: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert command(f"--model.schedule={NULL}", "--trainer.max_epochs=1") == 0
        assert not [text for text in caplog.messages if "schedule" in text]
        assert rate(tmp_path) == 0
        assert command(f"--model.schedule={NULL}", "--trainer.max_epochs=2") == 0
    assert [text for text in caplog.messages if "schedule" in text] == [
        "note: the schedule goes over 2 epochs from now on, 1 before; the rate after 1 becomes what it would be had it "
        "always been 2"
    ]
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["schedule"]
    assert saved["init_args"]["total_iters"] == 0


def test_a_schedule_longer_than_the_run_is_said_at_the_start(
    command: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    arguments = (f"--model.schedule={NULL}", "--model.schedule.init_args.total_iters=30", "--trainer.max_epochs=1")
    with caplog.at_level("INFO"):
        assert command(*arguments) == 0
    assert any("ends after 30 epochs, the run ends after 1 (--trainer.max_epochs)" in text for text in caplog.messages)


def test_a_run_without_an_end_is_refused_before_its_first_batch(tmp_path: Path, make_data: MakeData) -> None:
    system = build_system(schedule=partial(PolynomialLR, total_iters=0))
    trainer: L.Trainer = build_trainer(tmp_path, epochs=-1)
    with pytest.raises(UsageError, match="which has no end"):
        trainer.fit(system, datamodule=make_data())
    assert trainer.global_step == 0


def test_every_shipped_schedule_follows_the_run() -> None:
    for path in shipped_configs().values():
        schedule = ((yaml.safe_load(path.read_text()) or {}).get("model") or {}).get("schedule")
        assert schedule is None or (schedule.get("init_args") or {}).get("total_iters") is None, path
