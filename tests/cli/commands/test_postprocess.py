"""`segan_pl postprocess`, and `predict` with what it chose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.layouts import find_cases
from segan_pl.inference.chosen_steps import companion
from tests.cohort import CASES, QUIET
from tests.inference.test_predictor import train

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET


@pytest.fixture
def run(tmp_path: Path, cohort: Path, prepared: Path) -> Path:
    """A run's folder with a checkpoint, a split and predictions."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.move(train(tmp_path, cohort, prepared, "wt"), tmp_path / "run" / "checkpoints" / "best.ckpt")
    names = [case.name for case in find_cases(cohort)]
    (tmp_path / "run" / "split.json").write_text(json.dumps({"train": names[3:], "val": names[:3]}))
    (tmp_path / "run" / "config.yaml").write_text("model: {}")
    assert predict(tmp_path / "run", cohort, tmp_path / "raw") == 0
    return tmp_path / "run"


def predict(run: Path, cohort: Path, output: Path, *more: str) -> int:
    checkpoint = run / "checkpoints" / "best.ckpt"
    return main(["predict", "--ckpt_path", str(checkpoint), f"--root={cohort}", f"--output={output}", *more])


def chosen(run: Path, cohort: Path, *more: str) -> int:
    arguments = [f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", f"--pred={run.parent / 'raw'}", f"--root={cohort}"]
    return main(["postprocess", *arguments, "--workers=1", *more])


def test_it_is_chosen_on_validation_cases_kept_beside_the_checkpoint_and_used_by_predict(run, cohort, capsys):
    capsys.readouterr()
    assert chosen(run, cohort) == 0
    out = capsys.readouterr().out
    assert out.strip().splitlines()[-1] == "3 given, 3 used, 0 refused"
    kept = json.loads(companion(run / "checkpoints" / "best.ckpt").read_text())
    assert kept["cases"] == [case.name for case in find_cases(cohort)[:3]]
    assert kept["dice_after"] >= kept["dice_before"]
    kept["steps"] = ["small_components:1000"]  # whatever was chosen: this one shows
    companion(run / "checkpoints" / "best.ckpt").write_text(json.dumps(kept))
    assert predict(run, cohort, run.parent / "mended") == 0
    assert "post-processing chosen on validation cases: small_components:1000" in capsys.readouterr().out
    assert predict(run, cohort, run.parent / "asked", "--postprocess=[]") == 0
    for case in find_cases(cohort):
        assert not read_volume(run.parent / "mended" / f"{case.name}.nii.gz").array.any()
        raw, asked = (read_volume(run.parent / name / f"{case.name}.nii.gz").array for name in ("raw", "asked"))
        np.testing.assert_array_equal(raw, asked)
    assert len(list((run.parent / "mended").glob("*.nii.gz"))) == CASES


def test_a_validation_case_without_prediction_or_a_run_without_split_is_refused(run, cohort, capsys):
    (run.parent / "raw" / f"{find_cases(cohort)[0].name}.nii.gz").unlink()
    assert chosen(run, cohort) == 1
    assert "predict all validation cases first" in capsys.readouterr().err
    (run / "split.json").unlink()
    assert chosen(run, cohort) == 2
    assert "no split.json and config.yaml above its folder checkpoints" in capsys.readouterr().err


def test_predictions_of_others_or_already_post_processed_ones_choose_nothing(run, cohort, tmp_path, capsys):
    file = run.parent / "raw" / "predict.json"
    made = json.loads(file.read_text())
    twice = [*made["checkpoints"], {"path": "other.ckpt", "digest": "other"}]
    for change, said in (
        ({"checkpoints": [{"path": "other.ckpt", "digest": "other"}]}, "was made by other.ckpt, not by"),
        ({"checkpoints": twice}, "alone; predict again: segan_pl predict --ckpt_path"),
        ({"settings": {**made["settings"], "steps": ["fill_holes"]}}, "is post-processed already (fill_holes)"),
        ({"native_labels": "msd"}, "its labels are 'msd', those of --root 'brats2017'"),
    ):
        file.write_text(json.dumps({**made, **change}))
        assert chosen(run, cohort) == 2
        assert said in capsys.readouterr().err
    file.unlink()
    assert chosen(run, cohort) == 2
    assert "no predict.json in it; give a folder that `segan_pl predict` wrote" in capsys.readouterr().err
    assert not companion(run / "checkpoints" / "best.ckpt").exists()


def test_labels_that_the_scheme_does_not_know_are_refused(run, cohort, capsys):
    case = find_cases(cohort)[0]
    file = run.parent / "raw" / f"{case.name}.nii.gz"
    volume = read_volume(file)
    strange = np.array(volume.array)
    strange[0, 0, 0] = 7
    write_volume(file, strange, volume.affine)
    assert chosen(run, cohort) == 1
    assert f"{case.name}, prediction: the mask holds label [7]" in capsys.readouterr().err


def test_a_reference_that_lies_elsewhere_is_told_in_words_and_allowed_by_the_tolerance(run, cohort, tmp_path, capsys):
    file = run.parent / "raw" / f"{find_cases(cohort)[0].name}.nii.gz"
    volume = read_volume(file)
    affine = volume.affine.copy()
    affine[0, 3] += 0.4 * np.sign(affine[0, 0])
    write_volume(file, volume.array, affine)
    assert chosen(run, cohort) == 1
    said = "the prediction is shifted by 0.4 mm along x against the reference; nothing is resampled here: bring the "
    rest = "prediction onto the reference's grid, or allow it by --data.origin_tolerance_mm"
    assert said + rest in capsys.readouterr().err
    assert chosen(run, cohort, "--data.origin_tolerance_mm=0.5") == 0


@pytest.mark.slow
def test_several_processes_choose_the_same(run, cohort, capsys):
    assert chosen(run, cohort) == 0
    alone = companion(run / "checkpoints" / "best.ckpt").read_text()
    assert chosen(run, cohort, "--workers=2", "--candidates=[small_components:0.1]") == 0
    together = json.loads(companion(run / "checkpoints" / "best.ckpt").read_text())
    assert together["dice_before"] == json.loads(alone)["dice_before"]
    assert together["tried"][1] == json.loads(alone)["tried"][1]


def test_a_strangers_file_in_the_companions_place_stays(run, cohort, capsys):
    place = companion(run / "checkpoints" / "best.ckpt")
    place.write_text("mine")
    assert chosen(run, cohort) == 2
    assert f"{place}: is there and was not written by `segan_pl postprocess`" in capsys.readouterr().err
    assert place.read_text() == "mine"
