"""A run of a version that had no modality dropout goes on, as long as what it did is what is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.lightning_cli import LATER
from segan_pl.run import RunDirectoryError, continue_from

BEFORE = {"model": {"averaging": 0.99}, "data": {"augmentation": {"flip_x": 0.5}}}


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
