"""A run with all trackers that goes on once, as a user types it; each is read back from its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segan_pl.cli.trainer_flags import require_flags
from segan_pl.errors import UsageError
from segan_pl.evaluation.saved_files import csv_rows, metrics_rows
from segan_pl.training.trackers.naming import run_id
from tests.cohort import SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [pytest.mark.filterwarnings("ignore")]

NAMES = ["wandb", "mlflow", "tensorboard", "csv", "trackio"]
PLACES = {f"WANDB_{name}": f"wandb_{name}" for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR")}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, cohort: Path, prepared: Path) -> tuple[Path, str]:
    """The run's folder, and what its two calls said."""
    place = tmp_path_factory.mktemp("tracked")
    (place / "tiny.yaml").write_text(SYSTEM % (cohort, prepared, place / "runs"))
    folder = place / "runs" / "one"
    # W&B leaves WANDB_SERVICE in a process in which it ran, and a service keeps its runs for itself
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env = {**ours, **{name: str(place / one) for name, one in PLACES.items()}}
    env |= {"WANDB_MODE": "offline", "TRACKIO_DIR": str(place / "trackio"), "MLFLOW_TRACKING_URI": ""}
    # by default every ten seconds, which these epochs may not last
    env |= {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2", "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING": "1"}
    said = ""
    for epochs in (1, 2):
        line = [
            sys.executable,
            "-m",
            "segan_pl",
            "fit",
            "--config",
            str(place / "tiny.yaml"),
            f"--run.directory={folder}",
        ]
        line += [
            f"--run.loggers=[{','.join(NAMES)}]",
            "--run.log_best_checkpoint=true",
            f"--trainer.max_epochs={epochs}",
        ]
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    return folder, said


def written(folder: Path) -> tuple[set[str], list[dict[str, str]]]:
    """Names of all scalars in metrics.csv, and its rows."""
    rows = metrics_rows(folder / "metrics.csv")
    return {name for name in rows[0] if "/" in name}, rows


@pytest.mark.slow
def test_metrics_csv_holds_every_scalar_and_nothing_failed(tracked: tuple[Path, str]) -> None:
    folder, said = tracked
    names, rows = written(folder)
    assert len(rows) == 2
    expected = {"lr/segmentor", "lr/critic", "gradient_norm/segmentor", "gradient_norm/critic", "train/critic_gap"}
    assert expected | {"train/segmentor_dice", "val/loss", "val/dice_wt"} <= names
    assert all(float(row[name]) > 0 for row in rows for name in expected)
    assert "failed (" not in said
    assert "cannot be used" not in said


@pytest.mark.slow
def test_mlflow_has_one_run_with_both_epochs_pictures_scores_and_the_best_checkpoint(tracked: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    folder, _ = tracked
    names, rows = written(folder)
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert names <= run.data.metrics.keys()
    for name in names:
        points = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in points] == [int(row["batches_seen"]) for row in rows]
        assert [point.value for point in points] == pytest.approx([float(row[name]) for row in rows], rel=1e-5)
    assert run.data.params["model.optimizers.default.init_args.lr"] == "0.001"
    assert any(name.startswith("system/") for name in run.data.metrics)
    store = folder.parent / "mlflow_artifacts" / run.info.run_id / "artifacts"
    assert len(list((store / "images").glob("previews*.png"))) == 2
    best = {path.name for path in folder.glob("checkpoints/epoch*.ckpt")}
    assert best <= {path.name for path in (store / "checkpoints").iterdir()}
    assert (store / "scores" / "val_epoch_0000.csv").read_bytes() == (folder / "scores/val_epoch_0000.csv").read_bytes()
    assert (store / "config.yaml").read_bytes() == (folder / "config.yaml").read_bytes()


@pytest.mark.slow
def test_what_wandb_will_send_is_one_run_with_all_of_it(tracked: tuple[Path, str]) -> None:
    folder, _ = tracked
    names, rows = written(folder)
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == 2 * [f"run-{run_id(folder)}.wandb"]
    found = [record for file in files for record in records(file)]
    points = [values for kind, values in found if kind == "history"]
    for name in names:
        assert [point[name] for point in points if name in point] == pytest.approx(
            [float(row[name]) for row in rows], rel=1e-5
        )
    assert [point["previews.count"] for point in points if "previews.count" in point] == [1, 1]
    assert any(name.startswith("cases.") for point in points for name in point)
    config = {key: value for kind, values in found if kind == "config" for key, value in values.items()}
    assert config["model"]["optimizers"]["default"]["init_args"]["lr"] == 0.001
    assert "python" in config["environment"]
    assert [values["type"] for kind, values in found if kind == "artifact" if values["name"].endswith("-best")]


@pytest.mark.slow
def test_tensorboard_and_lightnings_csv_have_both_epochs(tracked: tuple[Path, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = tracked
    names, rows = written(folder)
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    assert names <= {*read.Tags()["scalars"]}
    assert [point.step for point in read.Scalars("val/loss")] == [int(row["batches_seen"]) for row in rows]
    assert len(read.Images("previews")) == 2
    lines = csv_rows(folder / "csv" / "metrics.csv")
    assert names <= lines[0].keys()
    assert [float(line["val/loss"]) for line in lines if line["val/loss"]] == pytest.approx(
        [float(row["val/loss"]) for row in rows], rel=1e-5
    )


@pytest.mark.slow
def test_trackio_has_one_run_with_both_epochs(tracked: tuple[Path, str]) -> None:
    folder, _ = tracked
    code = (
        "import json, sys; from trackio.sqlite_storage import SQLiteStorage as S; (name,) = S.get_runs('tiny'); "
        "print('\\n' + json.dumps([name, S.get_logs('tiny', name), S.get_run_config('tiny', name)]))"
    )
    env = {**os.environ, "TRACKIO_DIR": str(folder.parents[1] / "trackio")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    name, logs, config = json.loads(done.stdout.splitlines()[-1])
    assert name == run_id(folder)
    names, rows = written(folder)
    for key in names:
        assert [one[key] for one in logs if key in one] == pytest.approx([float(row[key]) for row in rows], rel=1e-5)
    assert [one["previews"]["_type"] for one in logs if "previews" in one] == 2 * ["trackio.image"]
    (first, *_) = [one["cases"]["_value"] for one in logs if "cases" in one]
    assert [row["case"] for row in first] == [row["case"] for row in csv_rows(folder / "scores/val_epoch_0000.csv")]
    assert config["model.optimizers.default.init_args.lr"] == 0.001
    assert "environment.python" in config
    artifacts = folder.parents[1] / "trackio" / "artifacts"
    best = next(folder.glob("checkpoints/epoch*.ckpt")).read_bytes()
    assert any(path.read_bytes() == best for path in artifacts.rglob("*") if path.is_file())


def records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a file of W&B holds: its kind, and its values by name."""
    from wandb.proto import wandb_internal_pb2

    content, place, whole = file.read_bytes(), 7, b""  # behind W&B's mark: LevelDB's log, in blocks of 32 KiB
    while place + 7 <= len(content):
        if (left := 2**15 - place % 2**15) < 7:  # no room for a head: padding
            place += left
            continue
        length, part = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if part not in (1, 4):  # the first or a middle part of a record
            continue
        record = wandb_internal_pb2.Record()
        record.ParseFromString(whole)
        whole = b""
        kind = record.WhichOneof("record_type")
        if kind == "history":
            yield kind, values(record.history.item)
        elif kind == "config":
            yield kind, values(record.config.update)
        elif kind == "artifact":
            yield kind, {"name": record.artifact.name, "type": record.artifact.type}


def values(items: Iterable[Any]) -> dict[str, Any]:
    """Of W&B's items, each a key and JSON."""
    return {one.key or ".".join(one.nested_key): json.loads(one.value_json) for one in items}


def test_the_best_checkpoint_is_promised_to_nobody_who_takes_no_files() -> None:
    with pytest.raises(UsageError, match="no tracker that takes files is asked for"):
        require_flags({}, {"loggers": ["tensorboard", "csv"], "log_best_checkpoint": True}, "fit")
    require_flags({}, {"loggers": ["csv", "mlflow"], "log_best_checkpoint": True}, "fit")
