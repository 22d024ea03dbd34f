"""Cases picked and told by the split that the run of a checkpoint keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.data.case import Case
from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError
from segan_pl.inference.split_part import cases_of_part, parts_of

CASES = [Case(name, name, {}) for name in "abcd"]


def run(folder: Path, split: Split) -> Path:
    """The checkpoint of a run with this split."""
    split.save(folder / "split.json")
    (folder / "config.yaml").write_text("model: {}")
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return run(tmp_path / "run", Split(("a", "b"), ("c",), ("d",)))


def fold(tmp_path: Path, train: str, val: str) -> Path:
    return run(tmp_path / val, Split(tuple(train), tuple(val)))


@pytest.mark.parametrize(("part", "names"), [("train", ["a", "b"]), ("val", ["c"]), ("test", ["d"])])
def test_the_cases_of_a_part_are_those_of_the_runs_split(checkpoint, part, names) -> None:
    assert [case.name for case in cases_of_part([checkpoint], part, CASES)] == names


def test_a_case_that_trained_one_network_of_an_ensemble_did_not_only_choose_another(tmp_path) -> None:
    folds = [fold(tmp_path, "ab", "c"), fold(tmp_path, "bc", "a")]
    assert parts_of(folds, "abcd") == {"train": ["a", "b", "c"], "val": []}
    assert parts_of(folds[:1], "cd") == {"train": [], "val": ["c"]}
    assert parts_of([*folds, tmp_path / "elsewhere.ckpt"], "abcd") is None


def test_another_split_above_a_checkpoint_is_not_that_of_its_run(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "split.json").write_text("no split at all")
    assert parts_of([tmp_path / "models" / "best.ckpt"], "abcd") is None
    (tmp_path / "config.yaml").write_text("model: {}")
    assert parts_of([tmp_path / "models" / "best.ckpt"], "abcd") is None  # not the folder of a run's checkpoints
    assert parts_of([checkpoint], "abcd") is not None
    (checkpoint.parent.parent / "config.yaml").unlink()
    assert parts_of([checkpoint], "abcd") is None


def test_what_cannot_be_picked_is_refused_by_its_reason(tmp_path, checkpoint) -> None:
    with pytest.raises(UsageError, match=r"--part val: .*elsewhere.ckpt lies in no run's checkpoints folder"):
        cases_of_part([tmp_path / "elsewhere.ckpt"], "val", CASES)
    with pytest.raises(UsageError, match=r"1 of 1 such cases are not in --root: d; give the data"):
        cases_of_part([checkpoint], "test", CASES[:3])
    no_test = fold(tmp_path, "ab", "c")
    with pytest.raises(UsageError, match="has 2 train, 1 val, 0 test, 0 unlabelled cases; choose another part"):
        cases_of_part([no_test], "test", CASES)
    with pytest.raises(UsageError, match="the checkpoints' runs have other val cases each"):
        cases_of_part([no_test, fold(tmp_path, "bc", "a")], "val", CASES)
