from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from segan_pl.data.split.record import Split
from segan_pl.evaluation.saved_files import metrics_rows
from segan_pl.training.callbacks.record import CaseScores, RunRecord, environment, git_state, write_row
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = QUIET


def fit(folder: Path, epochs: int, checkpoint: Path | None = None, **settings: int) -> None:
    kept = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    record = RunRecord(folder, "model: {}\n")
    run = trainer(folder, record, kept, epochs=epochs, enable_checkpointing=True, **settings)
    run.fit(Toy(), loader(), loader(1), ckpt_path=checkpoint)


def test_a_run_leaves_its_configuration_command_environment_and_one_row_an_epoch(tmp_path: Path) -> None:
    fit(tmp_path, 3)
    assert (tmp_path / "config.yaml").read_text() == "model: {}\n"
    assert (tmp_path / "command.txt").read_text() == shlex.join(sys.argv) + "\n"
    assert json.loads((tmp_path / "environment.json").read_text())["torch"] == torch.__version__
    rows = metrics_rows(tmp_path / "metrics.csv")
    assert list(rows[0])[:3] == ["epoch", "batches_seen", "seconds"]
    assert [(row["epoch"], row["batches_seen"], row["val/dice_wt"]) for row in rows] == [
        ("0", "4", "0.1"),
        ("1", "8", "0.2"),
        ("2", "12", "0.3"),
    ]
    losses = [float(row["train/loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < 1.0


def test_a_resumed_run_replaces_its_own_epochs_and_keeps_those_before(tmp_path: Path) -> None:
    fit(tmp_path, 3)
    before = metrics_rows(tmp_path / "metrics.csv")
    fit(tmp_path, 4, tmp_path / "epoch=0.ckpt")
    after = metrics_rows(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in after] == ["0", "1", "2", "3"]
    assert after[0] == before[0]
    assert [row["batches_seen"] for row in after] == ["4", "8", "12", "16"]
    assert len((tmp_path / "command.txt").read_text().splitlines()) == 2
    assert len(json.loads((tmp_path / "environment.json").read_text())["earlier"]) == 1


def test_rows_stay_until_the_resumed_run_has_something_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for epoch in range(3):
        write_row(path, {"epoch": epoch, "batches_seen": epoch, "seconds": 1.0})
    write_row(path, {"epoch": 1, "batches_seen": 9, "seconds": 1.0})
    assert [(row["epoch"], row["batches_seen"]) for row in metrics_rows(path)] == [("0", "0"), ("1", "9")]


def test_a_new_column_is_empty_in_earlier_rows_and_an_absent_one_in_later(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_row(path, {"epoch": 0, "batches_seen": 4, "seconds": 1.0, "a": 0.5})
    write_row(path, {"epoch": 1, "batches_seen": 8, "seconds": 1.0, "b": float("nan")})
    assert path.read_text() == "epoch,batches_seen,seconds,a,b\n0,4,1,0.5,\n1,8,1,,nan\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


def test_an_epoch_without_validation_repeats_no_earlier_score(tmp_path: Path) -> None:
    fit(tmp_path, 4, check_val_every_n_epoch=2)
    assert [row["val/dice_wt"] for row in metrics_rows(tmp_path / "metrics.csv")] == ["", "0.2", "", "0.4"]


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L.Trainer, "is_global_zero", False)
    trainer(tmp_path, RunRecord(tmp_path / "run"), epochs=1).fit(Toy(), loader(), loader(1))
    assert not (tmp_path / "run").exists()


def test_the_environment_is_plain_json_and_names_every_package() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert all(found[name] for name in ("torch", "lightning", "monai", "numpy", "nibabel", "segan_pl", "python"))


def test_the_revision_is_that_of_the_checkout_and_not_of_a_repository_around_it(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    assert git_state(tmp_path.resolve()) == {"revision": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/new.txt").write_text("x")
    assert git_state(tmp_path.resolve())["dirty"] is True  # type: ignore[index]
    assert git_state((tmp_path / "inside").resolve()) is None


def test_every_validation_leaves_a_row_and_the_epochs_own_is_the_last(tmp_path: Path) -> None:
    fit(tmp_path, 2, val_check_interval=0.5)
    rows = metrics_rows(tmp_path / "metrics.csv")
    assert [(row["epoch"], row["batch"], row["batches_seen"], row["val/dice_wt"]) for row in rows] == [
        ("0", "2", "2", "0.1"),
        ("0", "", "4", "0.1"),
        ("1", "2", "6", "0.2"),
        ("1", "", "8", "0.2"),
    ]
    assert [bool(row["train/loss"]) for row in rows] == [False, True, False, True]


def test_an_epoch_that_went_on_after_its_validation_has_no_score_of_its_own(tmp_path: Path) -> None:
    fit(tmp_path, 1, val_check_interval=3)
    rows = metrics_rows(tmp_path / "metrics.csv")
    assert [(row["batch"], row["val/dice_wt"]) for row in rows] == [("3", "0.1"), ("", "")]


def test_a_row_within_an_epoch_is_replaced_by_its_moment_and_takes_later_ones_along(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for epoch, batch in ((0, 2), (0, 0), (1, 2), (1, 0)):
        within = {"batch": batch} if batch else {}
        write_row(path, {"epoch": epoch, "batches_seen": 9, "seconds": 1.0, **within})
    write_row(path, {"epoch": 0, "batches_seen": 5, "seconds": 1.0, "batch": 3})
    assert [(row["epoch"], row["batch"]) for row in metrics_rows(path)] == [("0", "2"), ("0", "3")]


# -- scores and split --------------------------------------------------------------------------------------------------


class Data:
    """As much of the data module as the callback asks for."""

    split_file = None

    def __init__(self, split: Split) -> None:
        self.split = split

    def case_table(self) -> list[dict[str, str]]:
        return [{"case": name, "part": part} for part in ("train", "val") for name in getattr(self.split, part)]


def start(directory: Path, split: Split, *, rank: int = 0) -> None:
    """The beginning of a fit with that split."""
    trainer: Any = SimpleNamespace(is_global_zero=rank == 0)
    CaseScores(directory, data=Data(split)).on_fit_start(trainer, None)  # type: ignore[arg-type]


def test_the_case_table_is_written_at_every_start(tmp_path: Path) -> None:
    for _ in range(2):
        start(tmp_path / "run", Split(train=("a",), val=("b",)))
    assert (tmp_path / "run" / "cases.csv").read_text() == "case,part\na,train\nb,val\n"


def test_the_split_is_replaced_until_something_was_trained_on_it_and_never_again(tmp_path: Path) -> None:
    first, second = Split(train=("a", "b"), val=("c",), seed=3), Split(train=("a", "c"), val=("b",))
    for split in (second, first):
        start(tmp_path / "run", split)
        assert Split.load(tmp_path / "run" / "split.json") == split
    (tmp_path / "run" / "metrics.csv").touch()
    start(tmp_path / "run", second)
    assert Split.load(tmp_path / "run" / "split.json") == first


@pytest.mark.parametrize("rank", [1, 2])
def test_only_the_first_rank_writes_the_split(tmp_path: Path, rank: int) -> None:
    start(tmp_path / "run", Split(train=("a",), val=("b",)), rank=rank)
    assert not (tmp_path / "run").exists()
