from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segan_pl.callbacks.scores import CaseScores
from segan_pl.data.splits import Split


class Data:
    """As much of the data module as the callback asks for."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def case_table(self) -> list[dict[str, str]]:
        return [{"case": name, "part": part} for part in ("train", "val") for name in getattr(self.split, part)]


def start(directory: Path, split: Split, *, rank: int = 0) -> None:
    """The beginning of a fit with that split."""
    trainer: Any = SimpleNamespace(is_global_zero=rank == 0, datamodule=Data(split))
    CaseScores(directory).on_fit_start(trainer, None)  # type: ignore[arg-type]


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
