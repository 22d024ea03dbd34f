"""Each tracker by itself, on its real store in a temporary folder: what it is told is read back from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers.logger import DummyLogger
from matplotlib.image import imsave

from segan_pl.evaluation.saved_files import csv_rows
from segan_pl.training.run.folder import RunOptions
from segan_pl.training.trackers.choice import trackers
from segan_pl.training.trackers.tracker import FAILURES, Tracker, never_fatal, typed_rows

# of the trackers' own imports and databases
pytestmark = [pytest.mark.filterwarnings("ignore")]

SETTINGS = {"model": {"optimizers": {"default": {"lr": 0.001}}, "crop": [1, 2]}, "trainer": {"max_epochs": 2}}
TEXT = "model: {optimizers: {default: {lr: 0.001}}}\n"
FACTS = {"git": {"revision": "0123abc", "dirty": False}, "torch": "2"}
TABLE = "case,grade,region,dice,hd95_mm\na,HGG,wt,0.5,\nb|c,,wt,0.25,3\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder, and no tracker's settings from elsewhere."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    return run


def make(name: Any, folder: Path) -> Any:
    (tracker,) = trackers(RunOptions(experiment="study", loggers=[name]), folder)
    return tracker


def tell(tracker: Tracker, folder: Path, step: int, settings: Mapping[str, Any] = SETTINGS) -> None:
    """All that a run tells."""
    picture, table, checkpoint = folder / "epoch_0000.png", folder / "val_epoch_0000.csv", folder / "best.ckpt"
    imsave(picture, np.linspace(0, 1, 64).reshape(8, 8))
    table.write_text(TABLE)
    checkpoint.write_bytes(b"weights")
    tracker.log_settings(settings, TEXT, FACTS)
    tracker.log_metrics({"val/dice_wt": step / 100, "lr/critic": 0.5}, step=step)
    tracker.log_picture("previews", picture, step)
    tracker.log_cases(table, step)
    tracker.log_checkpoint(checkpoint)
    tracker.finalize("success")


@pytest.mark.slow
def test_mlflow_holds_all_of_a_run_in_one_run_however_often_it_goes_on(folder: Path) -> None:
    from mlflow import MlflowClient

    tell(make("mlflow", folder), folder, 10)
    tell(make("mlflow", folder), folder, 20, {**SETTINGS, "trainer": {"max_epochs": 9}})  # a parameter never changes
    tell(make("mlflow", folder.with_name("second")), folder, 10)
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["first", "second"]
    (run,) = [run for run in runs if run.info.run_name == "first"]
    assert run.info.status == "FINISHED"
    assert run.data.params["model.optimizers.default.lr"] == "0.001"
    assert run.data.params["trainer.max_epochs"] == "2"
    assert run.data.tags["mlflow.source.git.commit"] == run.data.tags["git.revision"] == "0123abc"
    points = client.get_metric_history(run.info.run_id, "val/dice_wt")
    assert [(point.step, point.value) for point in points] == [(10, 0.1), (20, 0.2)]
    store = folder.parent / "mlflow_artifacts" / run.info.run_id / "artifacts"
    assert (store / "config.yaml").read_text() == TEXT
    assert json.loads((store / "environment.json").read_text()) == FACTS
    assert (store / "scores" / "val_epoch_0000.csv").read_text() == TABLE
    assert (store / "checkpoints" / "best.ckpt").read_bytes() == b"weights"
    assert len(list((store / "images").glob("previews*.png"))) == 2


def test_a_server_of_mlflow_that_does_not_answer_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert trackers(RunOptions(loggers=["mlflow"]), folder) == []
    (said,) = [one.getMessage() for one in caplog.records if one.name.startswith("segan_pl")]
    assert said.startswith("mlflow cannot be used (")
    assert said.endswith("; going on without it")


def test_tensorboards_files_hold_scalars_texts_and_pictures_of_every_start(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step in (10, 20):
        tell(make("tensorboard", folder), folder, step)
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    assert [(point.step, round(point.value, 6)) for point in read.Scalars("val/dice_wt")] == [(10, 0.1), (20, 0.2)]
    assert [one.step for one in read.Images("previews")] == [10, 20]
    assert read.Tags()["scalars"] == ["val/dice_wt", "lr/critic"]  # no hp_metric of Lightning's

    def text(name: str) -> str:
        return str(read.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode())

    assert TEXT in text("config")
    assert "0123abc" in text("environment")
    assert r"| b\|c |  | wt | 0.25 | 3 |" in text("cases")


def test_lightnings_csv_keeps_the_rows_of_an_earlier_start(folder: Path) -> None:
    for step in (10, 20):
        tell(make("csv", folder), folder, step)
    assert [(row["step"], row["val/dice_wt"]) for row in csv_rows(folder / "csv" / "metrics.csv")] == [
        ("10", "0.1"),
        ("20", "0.2"),
    ]
    assert "0123abc" in (folder / "csv" / "hparams.yaml").read_text()


def test_a_package_that_is_not_there_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segan_pl.training.trackers.choice.find_spec", lambda name: None)
    assert trackers(RunOptions(loggers=["trackio", "mlflow", "trackio"]), folder) == []
    assert [one.getMessage() for one in caplog.records] == [
        f"{name} is asked for but not installed (`pip install {name}`); going on without it"
        for name in ("trackio", "mlflow")
    ]


@never_fatal
class Flaky(DummyLogger, Tracker):
    """Fails while it is told to, and counts its calls."""

    title = "Flaky"
    down = True
    calls = 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.calls += 1
        if self.down:
            raise ConnectionError("no route\nto host")

    def log_settings(self, settings: Mapping[str, Any], text: str, facts: Mapping[str, Any]) -> None:
        self.log_metrics({})


def test_a_tracker_that_fails_warns_once_and_is_left_alone_after_three_times(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Flaky()
    for _ in range(FAILURES - 1):
        tracker.log_metrics({})
        tracker.save()  # does nothing, so it is no success
    tracker.down = False
    tracker.log_metrics({})
    tracker.down = True
    tracker.log_settings({}, "", {})  # fails once, by a call of its own
    for _ in range(5):
        tracker.log_metrics({})
    assert tracker.calls == 2 * FAILURES
    assert [one.getMessage() for one in caplog.records] == [
        "Flaky: log_metrics failed (no route); training goes on, and the run's folder holds everything",
        "Flaky failed 3 times in a row; it is told nothing more by this call",
    ]


def test_metrics_are_numbers_and_cases_called_by_digits_stay_text(tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    file.write_text("case,grade,tp,dice,note\n001,2,7,0.5,1\n002,,8,,x\n")
    assert typed_rows(file) == (
        ["case", "grade", "tp", "dice", "note"],
        [["001", "2", 7.0, 0.5, "1"], ["002", None, 8.0, None, "x"]],
    )
    file.write_text("")
    assert typed_rows(file) == ([], [])


def test_wandb_that_cannot_begin_even_offline_ends_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**settings: Any) -> None:
        raise RuntimeError("run ID first is in use")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("wandb.init", refuse)
    tracker = make("wandb", folder)
    assert tracker.experiment is tracker.experiment  # as Lightning asks when a fit begins
    tell(tracker, folder, 1)
    assert caplog.text.count("W&B cannot begin offline (run ID first is in use); going on without it") == 1
    assert " failed (" not in caplog.text
