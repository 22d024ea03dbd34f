"""Which table is a run's, when evaluations lie inside its folder; the rest is in test_scored_runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.evaluation.statistics.run_tables import find_table, holds_scores, home_of
from segan_pl.evaluation.statistics.scored_runs import read_run
from segan_pl.evaluation.statistics.seeds import grouping_notes, read_entries
from segan_pl.evaluation.statistics.study import study
from tests.evaluation.score_tables import dice_table, run_folder, write_scores


def test_the_evaluation_inside_a_runs_folder_is_taken_before_its_test(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", [0.5])
    evaluated = dice_table(run / "evaluation" / "metrics_per_case.csv", [0.7])
    table = find_table(run)
    assert (table.path, table.kind, table.reason) == (evaluated, "evaluation", "segan_pl evaluate, in evaluation")


def test_a_folders_own_table_is_taken_before_one_inside_it(tmp_path: Path) -> None:
    dice_table(tmp_path / "old" / "metrics_per_case.csv", [0.99])
    own = dice_table(tmp_path / "metrics_per_case.csv", [0.11])
    assert find_table(tmp_path).path == own


def test_of_several_evaluations_in_a_run_none_is_taken_in_silence(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", [0.5])
    for name in ("evaluation", "evaluation_pp"):
        dice_table(run / name / "metrics_per_case.csv", [0.7])
    with pytest.raises(UsageError, match=r"holds 2 evaluations \(evaluation, evaluation_pp\); give one of them"):
        find_table(run)
    assert holds_scores(run)


def test_tables_of_subsets_are_no_tests(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [0.5])
    dice_table(run / "scores" / "test_epoch0003_dice0.8000_subsets.csv", [0.1])
    assert find_table(run).path.name == "test_epoch0003_dice0.8000.csv"


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"val": ["case00", "case01", "case02"], "test": []}, "validation cases, by `test`"),
        ({"val": ["other"], "test": ["case00", "case01"]}, "test cases"),
        ({"val": ["case00"], "test": ["case01"]}, "by `test`"),
        (None, "by `test`"),
    ],
)
def test_the_cases_of_a_test_are_called_by_their_part_of_the_split(tmp_path: Path, split: object, said: str) -> None:
    run = run_folder(tmp_path, [0.5, 0.6])
    if split:
        (run / "split.json").write_text(json.dumps(split), encoding="utf-8")
    assert find_table(run).reason == said
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "epoch0003_dice0.8000.ckpt").touch()
    dice_table(run / "scores" / "test_last.csv", [0.4])
    assert find_table(run).reason == f"{said}, best checkpoint"


def test_an_evaluation_inside_a_run_has_the_runs_configuration_and_patients(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / f"run{n}", [0.5], config={"seed_everything": n}) for n in range(2)]
    for number, run in enumerate(runs):
        dice_table(run / "evaluation" / "metrics_per_case.csv", [0.7 + number / 10])
    found = read_run(runs[0] / "evaluation")
    assert (found.config, found.patients) == ({"seed_everything": 0}, {"case00": "p00"})
    folders = [str(run / "evaluation") for run in runs]
    (note,) = grouping_notes(read_entries(folders))
    assert note.endswith(f"NAME={','.join(folders)}")


def test_an_evaluation_of_cases_that_the_run_was_trained_on_is_told(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / name, [0.5, 0.6, 0.7], config={"width": name}) for name in ("a", "b")]
    (runs[0] / "split.json").write_text(json.dumps({"train": ["case00", "x"], "val": ["case01"]}), encoding="utf-8")
    for run in runs:
        dice_table(run / "evaluation" / "metrics_per_case.csv", [0.7, 0.8, 0.9])
    said = [note.text for note in study(read_entries([str(run) for run in runs])).notes]
    (told,) = [text for text in said if "flatter" in text]
    assert told.startswith(
        "a: of these 3 cases 1 trained the network and 1 chose its checkpoint: the scores flatter it ("
    )


def test_an_evaluation_beside_another_folders_case_table_is_not_its(tmp_path: Path) -> None:
    table = dice_table(tmp_path / "evaluation" / "metrics_per_case.csv", [0.7])
    write_scores(tmp_path / "cases.csv", [{"case": "case00", "patient": "somebody"}])
    assert home_of(table) == table.parent
    assert read_run(table.parent).patients == {}


def test_a_runs_own_policy_is_not_that_of_an_evaluation_which_does_not_say_it(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [0.5], config={"model": {"empty_policy": "nnunet"}})
    assert read_run(run).policy == "nnunet"
    dice_table(run / "evaluation" / "metrics_per_case.csv", [0.7])
    assert read_run(run).policy is None
    dice_table(run / "evaluation" / "metrics_per_case.csv", [0.7], policy="brats2021")
    assert read_run(run).policy == "brats2021"
