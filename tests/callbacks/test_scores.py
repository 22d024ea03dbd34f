from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segan_pl.callbacks.scores import CaseScores
from segan_pl.data.splits import Split


def start(directory: Path, split: Split, *, rank: int = 0) -> None:
    """The beginning of a fit with that split."""
    trainer: Any = SimpleNamespace(is_global_zero=rank == 0, datamodule=SimpleNamespace(split=split))
    CaseScores(directory).on_fit_start(trainer, None)  # type: ignore[arg-type]


def test_the_split_is_kept_at_the_first_start_and_never_replaced(tmp_path: Path) -> None:
    first = Split(train=("a", "b"), val=("c",), seed=3)
    start(tmp_path / "run", first)
    assert Split.load(tmp_path / "run" / "split.json") == first
    start(tmp_path / "run", Split(train=("a", "c"), val=("b",)))
    assert Split.load(tmp_path / "run" / "split.json") == first


@pytest.mark.parametrize("rank", [1, 2])
def test_only_the_first_rank_writes_the_split(tmp_path: Path, rank: int) -> None:
    start(tmp_path / "run", Split(train=("a",), val=("b",)), rank=rank)
    assert not (tmp_path / "run").exists()
