"""A run of a version that had no modality dropout goes on, as long as what it did is what is asked for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.lightning_cli import LATER
from segan_pl.run import RunDirectoryError, continue_from, has_trained, is_training

BEFORE = {"model": {"averaging": 0.99}, "data": {"augmentation": {"flip_x": 0.5}}}


@pytest.fixture(scope="module")
def other_process() -> Iterator[int]:
    """One that lives, and is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(BEFORE))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    return tmp_path


def settings(dropout: float = 0.0, **model: Any) -> dict[str, Any]:
    return {
        "model": {"averaging": 0.99, "presence": "zeros", "subsets": "given", **model},
        "data": {"augmentation": {"flip_x": 0.5, "modality_dropout": dropout}},
    }


@pytest.mark.parametrize("subsets", ["given", "all"])
def test_an_earlier_run_goes_on_and_may_score_subsets_from_now_on(run: Path, subsets: str) -> None:
    assert continue_from(run, settings(subsets=subsets), defaults=LATER) == run / "checkpoints" / "last.ckpt"


def test_an_earlier_run_without_augmentation_goes_on_too(run: Path) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({**BEFORE, "data": {"augmentation": None}}))
    now = {**settings(), "data": {"augmentation": None}}
    assert continue_from(run, now, defaults=LATER) == run / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (settings(presence="channels"), "model.presence: zeros -> channels"),
        (settings(dropout=0.25), r"data.augmentation.modality_dropout: 0.0 -> 0.25"),
    ],
)
def test_an_earlier_run_does_not_go_on_with_what_it_never_did(run: Path, now: dict[str, Any], message: str) -> None:
    with pytest.raises(RunDirectoryError, match=message):
        continue_from(run, now, defaults=LATER)


def test_a_run_in_its_first_epoch_is_not_taken_for_one_that_failed(run: Path, other_process: int) -> None:
    (run / "checkpoints" / "last.ckpt").unlink()
    assert continue_from(run, settings(presence="channels"), defaults=LATER) is None  # nothing there to lose
    note_process(run, other_process)
    with pytest.raises(RunDirectoryError, match=r"model\.presence: zeros -> channels"):
        continue_from(run, settings(presence="channels"), defaults=LATER)


def test_only_another_process_of_this_machine_that_lives_is_training(tmp_path: Path, other_process: int) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_training(tmp_path)
    for process, host, expected in (
        (other_process, socket.gethostname(), True),
        (other_process, "elsewhere", False),
        (os.getpid(), socket.gethostname(), False),
        (ended.pid, socket.gethostname(), False),
    ):
        note_process(tmp_path, process, host)
        assert is_training(tmp_path) is expected
    (tmp_path / "environment.json").write_text(json.dumps({"hostname": socket.gethostname()}))  # an earlier version's
    assert not is_training(tmp_path)


def note_process(folder: Path, process: int, host: str = "") -> None:
    state = {"hostname": host or socket.gethostname(), "process": process}
    (folder / "environment.json").write_text(json.dumps(state))


def test_a_half_written_first_checkpoint_is_nothing_that_was_trained(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.tmp-7").touch()
    (tmp_path / "previews").mkdir()
    assert not has_trained(tmp_path)
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert has_trained(tmp_path)
