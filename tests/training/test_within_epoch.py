"""Validations within an epoch, on the tiny cohort: each can be the checkpoint, and a run goes on from there exactly."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.options import Sampling
from segan_pl.evaluation.kept import Monitor, best_kept, kept
from segan_pl.evaluation.statistics.run_tables import find_table
from segan_pl.report.run_files import read_files, when
from segan_pl.training.callbacks.checkpoint import checkpoints
from segan_pl.training.callbacks.record import CaseScores, RunRecord
from segan_pl.training.callbacks.stopping import Stopping
from segan_pl.training.run.signals import Signals
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*")]

MakeData = Callable[..., MRIDataModule]


def fit(folder: Path, data: MRIDataModule, *, epochs: int = 2, checkpoint: Path | None = None) -> Path:
    """A run that validates twice an epoch; returns its last checkpoint."""
    saved = checkpoints(folder / "checkpoints", Monitor("val/dice_wt", "max"), keep_best=9)
    run = build_trainer(
        folder,
        Stopping(folder, Signals()),
        CaseScores(folder),
        RunRecord(folder, "{}"),
        *saved,
        epochs=epochs,
        enable_checkpointing=True,
        val_check_interval=0.5,
    )
    run.fit(build_system(), datamodule=data, ckpt_path=checkpoint)
    return folder / "checkpoints" / "last.ckpt"


def weights(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)["state_dict"]


def test_with_another_joined_batch_an_epoch_that_was_broken_off_begins_again_and_that_is_said(
    make_data: MakeData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fit(tmp_path / "whole", make_data(), epochs=1)
    assert "joined batch" not in caplog.text
    fit(tmp_path / "parts", make_data(batch_size=6), epochs=1, checkpoint=within(tmp_path / "whole", 0))
    assert (
        "the joined batch (ranks x --data.batch_size) was 1 x 12 = 12 until this checkpoint and is 1 x 6 = 6"
        in caplog.text
    )
    assert "epoch 0, broken off within, begins again with its first batch" in caplog.text
    assert "goes on after batch" not in caplog.text
    rows = read_files(str(tmp_path / "parts")).epochs
    assert [(row["epoch"], row["batch"], row["batches_seen"]) for row in rows] == [("0", "4", "6"), ("0", "", "10")]


def within(folder: Path, epoch: int) -> Path:
    """The checkpoint of the middle of an epoch."""
    (file,) = (folder / "checkpoints").glob(f"epoch{epoch:04d}_batch*.ckpt")
    return file


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_goes_on_within_an_epoch_ends_as_one_that_never_stopped(
    make_data: MakeData, tmp_path: Path, workers: int
) -> None:
    whole = fit(tmp_path / "whole", make_data(workers=workers))
    parts = fit(tmp_path / "parts", make_data(workers=workers), checkpoint=within(tmp_path / "whole", 0))
    first, second = weights(whole), weights(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("val_epoch_0000.csv", "val_epoch_0001_batch_0002.csv", "val_epoch_0001.csv"):
        texts = [(tmp_path / home / "scores" / name).read_text() for home in ("whole", "parts")]
        assert texts[0] == texts[1]


@pytest.mark.slow
def test_3d_patches_go_on_within_an_epoch_too(make_data: MakeData, tmp_path: Path) -> None:
    sampler = Sampling(per_case=2)
    data: Any = make_data(patch=(4, 16, 16), batch_size=3, sampling=sampler)
    data.find()
    data.prepare_data()
    data.setup("fit")
    made = data.train_dataloader().sampler
    made.set_epoch(3)
    plans = list(made)
    made.resume(3, 2)
    for before, after in zip(plans[2:], made, strict=True):
        assert all((a == b).all() for a, b in zip(before, after, strict=True))
    made.set_epoch(4)
    assert len(list(made)) == len(made)


def test_readers_find_the_validation_within_an_epoch(make_data: MakeData, tmp_path: Path) -> None:
    fit(tmp_path, make_data(), epochs=1)
    files = {path.name for path in (tmp_path / "scores").iterdir()}
    assert files == {"val_epoch_0000_batch_0002.csv", "val_epoch_0000.csv", "metrics.json"}
    for file in (tmp_path / "checkpoints").glob("epoch*"):  # make the one in the middle the best, whatever its score
        if (named := kept(file)) and named.batch is not None:
            file.rename(file.with_name("epoch0000_batch0002_dice_wt0.9999.ckpt"))
    best = best_kept(tmp_path / "checkpoints")
    assert best is not None
    assert best.batch == 2
    table = find_table(tmp_path)
    assert (table.path.name, table.reason) == (
        "val_epoch_0000_batch_0002.csv",
        "validation, best checkpoint, epoch 0, batch 2",
    )
    rows = read_files(str(tmp_path)).epochs
    assert [(row["batch"], when(row, rows)) for row in rows] == [("2", -0.5), ("", 0.0)]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        scores = [row["val/dice_wt"] for row in csv.DictReader(file)]
    assert all(scores)
