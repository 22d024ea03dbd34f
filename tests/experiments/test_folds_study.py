"""A cross-validation pooled by hand-worked numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from segan_pl.evaluation.statistics import bootstrap_interval
from segan_pl.experiments.folds import (
    FoldStudy,
    fold_trials,
    pooled,
    predict_line,
    report_lines,
    table_text,
    write,
)
from segan_pl.experiments.trials import Trial, write_state
from tests.experiments.study_play import finish

HELD = [{"a": 0.1, "b": 0.2, "c": 0.3}, {"d": 0.5, "e": 0.6}, {"f": 0.7, "g": 0.8}]


def study_in(folder: Path) -> FoldStudy:
    return FoldStudy(folder, "segan_cat_small", 3, ("--data.root", "/data"), ("lgg",), ("--run.patience", "5"), seed=4)


def test_every_fold_is_a_fit_on_the_same_file_and_seed() -> None:
    trials = fold_trials(study_in(Path("/study")))
    assert [trial.name for trial in trials] == ["fold0", "fold1", "fold2"]
    assert trials[1].arguments == (
        *("fit", "--config", "segan_cat_small", "--config", "lgg", "--data.root", "/data"),
        *("--data.split_file", "/study/folds.json", "--data.fold", "1", "--data.split_leftovers", "ignore"),
        *("--seed_everything", "4", "--data.seed", "4", "--run.patience", "5"),
    )


def test_the_pooled_mean_is_over_patients_not_over_folds(tmp_path: Path) -> None:
    for fold, dice in enumerate(HELD):
        finish(tmp_path, f"fold{fold}", dice)
    found = pooled(study_in(tmp_path))
    mean = found.means([0, 1, 2], "wt")["dice"]
    values = [value for dice in HELD for value in dice.values()]
    assert mean.value == pytest.approx(3.2 / 7)  # the mean of the folds' means would be 0.5
    assert mean.interval == bootstrap_interval(np.array(values))
    assert (mean.cases, mean.patients) == (7, 7)
    _, body = table_text(study_in(tmp_path), found, "wt")
    assert [line[0] for line in body] == ["all folds", "fold 0", "fold 1", "fold 2"]
    assert [line[1] for line in body[1:]] == ["0.200", "0.550", "0.750"]


def test_the_ensemble_is_the_best_checkpoint_of_every_fold(tmp_path: Path) -> None:
    for fold, dice in enumerate(HELD):
        finish(tmp_path, f"fold{fold}", dice)
    study = study_in(tmp_path)
    found = pooled(study)
    checkpoints = [str(tmp_path / "runs" / f"fold{n}" / "checkpoints" / "epoch0003_dice0.5000.ckpt") for n in range(3)]
    paths = write(study, found, ["a note"])
    assert json.loads((tmp_path / "ensemble.json").read_text())["checkpoints"] == checkpoints
    line = (tmp_path / "ensemble.txt").read_text().strip()
    assert line == f"segan_pl predict --ckpt_path {' '.join(checkpoints)} --input CASES --output MASKS"
    with (tmp_path / "pooled.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["fold"], row["case"], float(row["dice"])) for row in rows][:4] == [
        ("0", "a", 0.1),
        ("0", "b", 0.2),
        ("0", "c", 0.3),
        ("1", "d", 0.5),
    ]
    assert all(path.is_file() for path in paths)


def test_a_fold_that_failed_is_shown_and_there_is_no_ensemble_yet(tmp_path: Path) -> None:
    for fold in (0, 2):
        finish(tmp_path, f"fold{fold}", HELD[fold])
    write_state(tmp_path, Trial("fold1", ("fit",)), "failed", exit_code=1, error="a loss is not finite")
    study = study_in(tmp_path)
    found = pooled(study)
    assert predict_line(study, found) is None
    text = "\n".join(report_lines(study, found, []))
    assert "| 2 of 3 folds | 0.420 | 0.500 | 0.250 | 5 | 5 | finished |" in text
    assert "- fold1: failed (a loss is not finite)" in text
    assert not (tmp_path / "ensemble.txt").exists()


def test_nothing_run_is_a_table_all_the_same(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    paths = write(study, pooled(study), [])
    assert {path.name for path in paths} == {"report.md", "pooled.csv"}
    assert (tmp_path / "report.md").read_text().count("| not run | not run | not run |  |  | not run |") == 3
