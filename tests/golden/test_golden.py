"""The golden runs are equal to the base's, and a number that is not would be seen."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.golden import base_runs, runs, sides
from tests.golden.__main__ import compare_runs, described
from tests.golden.comparison import Difference, Renamed, Result, compare
from tests.golden.sides import BaseMissingError, base_results, with_sources

SAME = Renamed(metrics={}, scores={}, weights={}, dropped=())


@pytest.mark.slow
def test_losses_scores_and_weights_are_those_of_the_base_commit() -> None:
    try:
        base = base_results()
    except BaseMissingError as reason:
        pytest.skip(str(reason))
    found = compare_runs(runs.RUNS, base)
    unlike = [described(name, differences, new) for name, (differences, new) in found.items() if differences]
    assert not unlike, "\n".join(unlike)


@pytest.fixture
def result() -> Result:
    """One epoch, one score and two tensors."""
    return Result(
        metrics={"epoch 0": {"epoch": "0", "seconds": "1.5", "train/dice": "0.25", "val/dice_wt": "nan"}},
        scores={"epoch 0 case_1 wt": {"case": "case_1", "region": "wt", "tp": "7"}},
        weights={
            "players.segmentor.conv.weight": np.array([[1.0, 0.0], [np.nan, 3.0]], np.float32),
            "players.critic.count": np.array(5),
        },
    )


def test_equal_results_have_no_difference_whatever_their_times(result: Result) -> None:
    later = replace(result, metrics={"epoch 0": {**result.metrics["epoch 0"], "seconds": "9.0"}})
    assert compare(result, later, SAME) == ([], [])


@pytest.mark.parametrize("column", ["train/dice", "val/dice_wt"])
def test_a_changed_loss_or_score_is_named_with_both_values(result: Result, column: str) -> None:
    row = result.metrics["epoch 0"]
    now = replace(result, metrics={"epoch 0": {**row, column: "0.2500001"}})
    assert compare(result, now, SAME)[0] == [Difference(f"metrics epoch 0 {column}", row[column], "0.2500001")]


def test_a_changed_score_of_a_case_is_named(result: Result) -> None:
    now = replace(result, scores={"epoch 0 case_1 wt": {"case": "case_1", "region": "wt", "tp": "8"}})
    assert compare(result, now, SAME)[0] == [Difference("scores epoch 0 case_1 wt tp", "7", "8")]


def test_a_metric_that_is_missing_now_is_a_difference_and_a_new_one_is_only_listed(result: Result) -> None:
    now = replace(result, metrics={"epoch 0": {"epoch": "0", "val/dice_wt": "nan", "val/hd95_wt": "3.0"}})
    differences, new = compare(result, now, SAME)
    assert differences == [Difference("metrics epoch 0 train/dice", "0.25", "absent")]
    assert new == ["metrics val/hd95_wt"]


def test_an_epoch_or_a_case_that_one_side_lacks_is_a_difference(result: Result) -> None:
    now = replace(result, metrics={**result.metrics, "epoch 1": {}}, scores={})
    assert compare(result, now, SAME)[0] == [
        Difference("metrics epoch 1", "absent", "present"),
        Difference("scores epoch 0 case_1 wt", "present", "absent"),
    ]


def test_one_bit_of_a_weight_is_a_difference(result: Result) -> None:
    name = "players.segmentor.conv.weight"
    weight = result.weights[name].copy()
    weight[0, 1] = -0.0
    now = replace(result, weights={**result.weights, name: weight})
    place = f"weights {name} [1] (the first of 1 in 4)"
    assert compare(result, now, SAME)[0] == [Difference(place, "0.0", "-0.0")]


@pytest.mark.parametrize(("now", "said"), [(np.array(5, np.int32), "int32 ()"), (np.array([5]), "int64 (1,)")])
def test_another_type_or_shape_of_a_tensor_is_a_difference(result: Result, now: np.ndarray, said: str) -> None:
    changed = replace(result, weights={**result.weights, "players.critic.count": now})
    assert compare(result, changed, SAME)[0] == [Difference("weights players.critic.count", "int64 ()", said)]


def test_a_tensor_that_is_missing_now_is_a_difference(result: Result) -> None:
    now = replace(result, weights={"players.critic.count": np.array(5)})
    name = "players.segmentor.conv.weight"
    assert compare(result, now, SAME)[0] == [Difference(f"weights {name}", "float32 (2, 2)", "absent")]


def test_renamed_metrics_and_weights_are_compared_under_their_new_names(result: Result) -> None:
    renamed = Renamed({"train/dice": "train/overlap"}, {"tp": "hits"}, {"players.": "networks."}, ())
    row = {"epoch": "0", "val/dice_wt": "nan", "train/overlap": "0.5"}
    now = Result(
        metrics={"epoch 0": row},
        scores={"epoch 0 case_1 wt": {"case": "case_1", "region": "wt", "hits": "7"}},
        weights={name.replace("players.", "networks."): weight for name, weight in result.weights.items()},
    )
    assert compare(result, now, renamed) == ([Difference("metrics epoch 0 train/overlap", "0.25", "0.5")], [])


def test_a_dropped_name_is_not_missed(result: Result) -> None:
    now = replace(result, metrics={"epoch 0": {"epoch": "0", "val/dice_wt": "nan"}})
    assert compare(result, now, replace(SAME, dropped={"train/dice"})) == ([], [])


def test_both_tables_have_the_same_runs_in_the_same_order() -> None:
    assert list(runs.RUNS) == list(base_runs.RUNS)


def test_a_run_that_begins_from_another_brings_it_along() -> None:
    assert with_sources(["transfer"]) == ["segan_cat", "transfer"]
    assert with_sources(["unet3d"]) == ["unet3d"]


def test_the_differences_that_are_shown_are_few(result: Result) -> None:
    text = described("unet3d", [Difference(str(number), "0", "1") for number in range(9)], ["metrics val/new"])
    assert text.splitlines()[0] == "unet3d: 9 differences; only now: metrics val/new"
    assert text.splitlines()[1:3] == ["  0: base 0, now 1", "  1: base 0, now 1"]
    assert text.splitlines()[-1] == "  and 3 more"


def test_a_checkout_without_the_base_commit_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(sides, "ROOT", tmp_path)
    monkeypatch.setenv("SEGAN_PL_GOLDEN", str(tmp_path / "golden"))
    with pytest.raises(BaseMissingError, match=r"commit 30146b3 is not in the history of .* \(a shallow clone\?\)"):
        base_results()


def test_a_machine_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SEGAN_PL_GOLDEN", str(tmp_path / "golden"))
    with pytest.raises(BaseMissingError, match="git is not installed"):
        base_results()
