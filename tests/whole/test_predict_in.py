"""Predictions kept inside the brain: the same in validation, `test` and `predict`, from one line of a configuration."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.data.layouts import find_cases
from segan_pl.inference.trained import load_segmentor
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.usefixtures("isolated")]


def rows_of(table: Path) -> dict[tuple[str, str], dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return {(row["case"], row["region"]): row for row in csv.DictReader(file)}


@pytest.mark.parametrize("windows", [[], pytest.param(["--model.windows.skip_empty=true"], marks=pytest.mark.slow)])
def test_no_label_lies_where_every_image_is_0_and_the_scores_are_of_the_files(
    windows: list[str], cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    line = [
        *("--config=unet3d", f"--root={cohort}", f"--data.cache_dir={prepared}", f"--run.directory={run}"),
        *("--model.networks.segmentor.init_args.width=8", "--model.networks.segmentor.init_args.levels=3"),
        *("--data.labels=labels", "--data.patch=[8,16,16]", "--data.val_fraction=0.25", "--data.stratify_by=[]"),
        *("--data.preparation.crop=null", "--data.prepare_workers=1", "--data.workers=0", "--run.preview_every=0"),
        *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.devices=1"),
        *("--trainer.enable_progress_bar=false", "--model.predict_in=brain", *windows),
    ]
    assert main(["fit", *line]) == 0
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert load_segmentor(checkpoint).predict_in == "brain"
    assert "predictions in the brain alone leave out" not in capsys.readouterr().err
    predicted = {}
    for where, asked in (("brain", []), ("anywhere", ["--predict_in=anywhere", "--skip_empty=false"])):
        folder = tmp_path / where
        arguments = [f"--ckpt_path={checkpoint}", f"--root={cohort}", f"--output={folder}", "--part=val", *asked]
        assert main(["predict", *arguments]) == 0
        predicted[where] = {path.name.split(".")[0]: read_volume(path).array for path in folder.glob("*.nii.gz")}
    evaluated = [f"--pred={tmp_path / 'brain'}", f"--root={cohort}", "--data.labels=labels", "--workers=1"]
    assert main(["evaluate", *evaluated, f"--output={tmp_path / 'out'}"]) == 0
    assert main(["test", *line, f"--ckpt_path={checkpoint}"]) == 0
    expected = rows_of(tmp_path / "out" / "metrics_per_case.csv")
    (tested,) = (run / "scores").glob("test_*.csv")
    assert rows_of(tested) == expected
    for key, row in rows_of(run / "scores" / "val_epoch_0000.csv").items():
        assert {name: expected[key][name] for name in row} == row
    spilled = 0
    for case in (one for one in find_cases(cohort) if one.name in predicted["brain"]):
        air = np.all([read_volume(path).array == 0 for path in case.images.values()], axis=0)
        assert not predicted["brain"][case.name][air].any()
        spilled += int((predicted["anywhere"][case.name][air] > 0).sum())
        if not windows:  # inside, nothing is changed
            inside = predicted["anywhere"][case.name] * ~air
            np.testing.assert_array_equal(predicted["brain"][case.name], inside)
    assert spilled, "the network spilled nothing, so nothing was shown"


def test_what_the_preparation_clips_of_the_brain_is_said_once_at_the_start_and_by_predict(
    cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    line = [
        *("--config=segan_cat_small", f"--root={cohort}", f"--data.cache_dir={prepared}", "--data.patch=[32,32]"),
        *("--data.val_fraction=0.25", "--data.stratify_by=[]", "--data.batch_size=12", "--data.prepare_workers=1"),
        *(
            f"--run.directory={tmp_path / 'run'}",
            "--run.preview_every=0",
            "--data.workers=0",
            "--model.predict_in=brain",
        ),
        *("--config=reciprocal_preparation", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"),
        *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true"),
    ]
    assert main(["fit", *line]) == 0
    said = "note: predictions in the brain alone leave out its darkest 1 %"
    assert (capsys.readouterr().err + caplog.text).count(said) == 1
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert main(["predict", f"--ckpt_path={checkpoint}", f"--root={cohort}", f"--output={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().out.count(said) == 1


def test_a_place_that_does_not_exist_is_refused_before_any_work(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--config=unet3d", f"--root={cohort}", f"--run.directory={tmp_path}", "--model.predict_in=skull"]
    assert main(["fit", *line]) == 2
    assert "predict_in" in (said := capsys.readouterr().err)
    assert "brain" in said
