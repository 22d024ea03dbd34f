"""The comparison with nnU-Net, all that runs without nnU-Net."""

from __future__ import annotations

import csv
import fcntl
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.against_nnunet import parse, settled_steps
from benchmarks.nnunet.budget import cpu_seconds, steps_that_fit
from benchmarks.nnunet.dataset import small_configuration, write_raw
from benchmarks.nnunet.sides import NNUNet, Ours
from benchmarks.nnunet.study import Study, require_settings, run, with_test_parts
from benchmarks.nnunet.table import Trained, read_runs, table_rows, write_table
from segan_pl.data.case import Case
from segan_pl.data.layouts import find_cases, find_data_set
from segan_pl.data.split.drawing import stratified_folds
from segan_pl.data.split.record import Split, save_folds
from segan_pl.data.synthetic.cohort import make_cohort

PLANNED = {
    "patch_size": [256, 256],
    "architecture": {
        "network_class_name": "PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 7,
            "features_per_stage": [32, 64, 128, 256, 512, 512, 512],
            "kernel_sizes": [[3, 3]] * 7,
            "strides": [[1, 1]] + [[2, 2]] * 6,
            "n_conv_per_stage": [2] * 7,
            "n_conv_per_stage_decoder": [2] * 6,
        },
    },
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    make_cohort(root, cases=3, shape=(4, 16, 16))
    return root


def study_of(cohort: Path, output: Path) -> Study:
    """Its one fold trains two cases and tests the third."""
    names = sorted(case.name for case in find_cases(cohort))
    folds = [Split(tuple(names[:2]), (), (names[2],), name="fold 0")]
    (output / "folds.json").touch()  # drawn before
    save_folds(folds, output / "splits.json")
    return Study(cohort, output, "brats")


def test_every_case_is_tested_once_and_trains_nowhere_it_is_tested():
    cases = [Case(f"{site}_{i}", f"{site}_{i}", {}, institution=site) for site in "ABC" for i in range(7)]
    folds = with_test_parts(stratified_folds(cases, folds=5, seed=0))
    assert sorted(name for fold in folds for name in fold.test) == sorted(case.name for case in cases)
    for fold in folds:
        assert not fold.val
        assert not set(fold.train) & set(fold.test)
        assert len(fold.train) + len(fold.test) == len(cases)


def test_nnunets_data_set_holds_the_files_voxels_and_binary_masks_of_the_training_cases_alone(cohort, tmp_path):
    cases = sorted(find_cases(cohort), key=lambda case: case.name)
    write_raw(tmp_path / "Dataset001_fold0", cases[:2], cases[2:], ["t1", "flair"])
    found = find_data_set(tmp_path / "Dataset001_fold0", "nnunet")  # the package's own reader of nnU-Net's form
    assert [case.name for case in found.cases] == [case.name for case in cases[:2]]
    for case, read in zip(cases, found.cases, strict=False):
        assert list(read.images) == ["t1", "flair"]
        for modality, file in read.images.items():
            ours, theirs = nib.load(case.images[modality]), nib.load(file)
            np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())
            np.testing.assert_array_equal(ours.affine, theirs.affine)
        mask = nib.load(read.mask).get_fdata()
        np.testing.assert_array_equal(mask, nib.load(case.mask).get_fdata() > 0)
        assert mask.any()
    tested = sorted(path.name for path in (tmp_path / "Dataset001_fold0" / "imagesTs").iterdir())
    assert tested == [f"{cases[2].name}_0000.nii.gz", f"{cases[2].name}_0001.nii.gz"]
    assert not (tmp_path / "Dataset001_fold0" / "labelsTs").exists()


def test_a_case_without_a_modality_or_a_mask_is_refused(cohort, tmp_path):
    case = find_cases(cohort)[0]
    with pytest.raises(ValueError, match=r"_1 has no adc; leave the case out of the split"):
        write_raw(tmp_path / "a", [case], [], ["t1", "adc"])
    with pytest.raises(ValueError, match=r"maskless has no mask"):
        write_raw(tmp_path / "b", [Case("maskless", "p", case.images)], [], ["t1"])


def test_the_small_configuration_keeps_nnunets_rules_for_depth_and_width():
    small = small_configuration(PLANNED, width=8, patch=(160, 160), batch=12)
    network = small["architecture"]["arch_kwargs"]
    assert small["inherits_from"] == "2d"
    assert (small["patch_size"], small["batch_size"]) == ([160, 160], 12)
    assert network["features_per_stage"] == [8, 16, 32, 64, 128, 128]  # 160 / 2**5 is 5, the next would be below 4
    assert network["n_stages"] == len(network["strides"]) == len(network["kernel_sizes"]) == 6
    assert network["n_conv_per_stage_decoder"] == [2] * 5
    assert PLANNED["architecture"]["arch_kwargs"]["n_stages"] == 7  # untouched
    own = small_configuration(PLANNED, width=32, patch=(256, 256), batch=49)
    assert own["architecture"] == PLANNED["architecture"]
    with pytest.raises(ValueError, match=r"patch \[170, 170\]: expected multiples of \[32, 32\]"):
        small_configuration(PLANNED, width=8, patch=(170, 170), batch=12)


def test_steps_that_fit_lie_on_a_line_through_the_two_measured_runs():
    assert steps_that_fit(600, (5, 20.0), (35, 50.0)) == (585, 1.0, 15.0)
    assert steps_that_fit(600, (1, 1.0), (3, 9.0)) == (150, 4.0, 0.0)  # no start is shorter than nothing
    with pytest.raises(ValueError, match="measure again"):
        steps_that_fit(600, (5, 20.0), (35, 19.0))
    with pytest.raises(ValueError, match=r"a budget of 12 s: the start takes 15\.0 s and a step 1\.00 s; raise it"):
        steps_that_fit(12, (5, 20.0), (35, 50.0))


def test_cpu_seconds_count_work_not_waiting_with_one_thread(tmp_path):
    work = (
        "import os, time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.5); print(os.environ['OMP_NUM_THREADS'])"
    )
    took = cpu_seconds([sys.executable, "-S", "-c", work], tmp_path / "logs" / "log")
    assert 0.3 <= took < 0.75
    assert (tmp_path / "logs" / "log").read_text() == "1\n"
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3; the end of .*log:\nno space"):
        cpu_seconds([sys.executable, "-S", "-c", "print('no space'); raise SystemExit(3)"], tmp_path / "log")


class Copying:
    """A side whose predictions are the reference."""

    name = "copying"

    def __init__(self, study: Study, width: int = 8) -> None:
        self.study = study
        self.settings = {"width": width, "patch": [16, 16]}
        self.calls: list[str] = []

    def prepare(self, fold: int) -> float:
        return 1.0

    def train(self, fold: int, seed: int, steps: int, folder: Path) -> float:
        self.calls.append(f"train {steps}")
        return 2.0 + 0.5 * steps

    def iterations(self, steps: int, folder: Path) -> int:
        return 10 * steps

    def predict(self, fold: int, folder: Path, masks: Path, *, mirror: bool) -> float:
        self.calls.append("predict mirrored" if mirror else "predict")
        masks.mkdir(exist_ok=True)
        for file in self.study.reference(fold).parent.glob("*_seg.nii.gz"):
            nib.save(nib.load(file), masks / file.name.replace("_seg", ""))
        return 3.0


def test_a_run_is_scored_on_its_own_cases_and_not_made_twice(cohort, tmp_path):
    study = study_of(cohort, tmp_path)
    side = Copying(study)
    run(study, side, 0, 1, 4, mirror=False)
    run(study, side, 0, 1, 4, mirror=True)
    assert side.calls == ["train 4", "predict", "predict mirrored"]
    plain, mirrored = read_runs(tmp_path / "runs")
    assert (plain.system, mirrored.system) == ("copying", "copying, mirrored")
    assert plain.dice == {study.folds[0].test[0]: 1.0}
    assert (plain.train_cpu_s, plain.predict_cpu_s, plain.iterations) == (4.0, 3.0, 40)
    with pytest.raises(RuntimeError, match="was trained for 4 steps, not 5; give another --output or --name"):
        run(study, side, 0, 1, 5, mirror=False)


def test_a_run_that_another_process_works_on_is_left_alone(cohort, tmp_path):
    study = study_of(cohort, tmp_path)
    side = Copying(study)
    folder = tmp_path / "runs" / "copying" / "fold0_seed1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match="fold0_seed1: another process works on it; wait for its end, or stop"):
            run(study, side, 0, 1, 4, mirror=False)
    assert (folder / "config.yaml").exists()
    assert side.calls == []


def test_what_was_made_with_other_settings_is_not_used_again(cohort, tmp_path):
    study = study_of(cohort, tmp_path)
    for side in (Copying(study), Copying(study), Ours(study, "strong2d", "a", ["--data.batch_size", "4"])):
        require_settings(study, side)
    with pytest.raises(RuntimeError, match=r"has copying with width 8, not 16; give another --output or --name"):
        require_settings(study, Copying(study, width=16))
    with pytest.raises(RuntimeError, match=r"has a with options \['--data.batch_size', '4'\], not \[\]; give another"):
        require_settings(study, Ours(study, "strong2d", "a"))
    require_settings(study, NNUNet(study, Path("python")))
    with pytest.raises(RuntimeError, match=r"has nnunet with patch \[160, 160\], not \[96, 96\]; batch 12, not 6"):
        require_settings(study, NNUNet(study, Path("python"), patch=(96, 96), batch=6))
    assert sorted(json.loads((tmp_path / "settings.json").read_text())) == ["a", "copying", "nnunet"]


def test_the_budget_is_measured_once_and_kept(cohort, tmp_path):
    study = study_of(cohort, tmp_path)
    side = Copying(study)
    assert settled_steps(study, side, 7, 10) == 7
    assert not side.calls
    assert settled_steps(study, side, None, 1) == settled_steps(study, side, None, 1) == 116  # (60 - 2) / 0.5
    assert side.calls == ["train 1", "train 3"]
    assert json.loads((tmp_path / "budget.json").read_text()) == {
        "copying, 1 min": {"steps": 116, "step_cpu_s": 0.5, "start_cpu_s": 2.0}
    }


def test_the_table_averages_seeds_within_a_case_and_pools_folds(tmp_path):
    def trained(fold: int, dice: dict[str, float], seconds: float) -> Trained:
        return Trained("a", fold, dice, {case: case for case in dice}, seconds, 1.0, 100, tmp_path)

    runs = [trained(0, {"x": 0.2, "y": 0.9}, 10), trained(0, {"x": 0.6, "y": 0.9}, 20), trained(1, {"z": 0.7}, 30)]
    rows = table_rows(runs)
    assert [(row["fold"], row["n"], row["dice"], row["median"], row["below_0.5"]) for row in rows] == [
        ("0", 2, 0.65, 0.65, 1),
        ("1", 1, 0.7, 0.7, 0),
        ("all", 3, 0.6667, 0.7, 1),
    ]
    assert [row["train_cpu_s"] for row in rows] == [15.0, 30.0, 20.0]
    text = write_table(rows, tmp_path / "table.csv")
    assert text.splitlines()[-1].startswith("| a | all | 3 | 0.6667 |")
    with (tmp_path / "table.csv").open() as file:
        assert [row["dice"] for row in csv.DictReader(file)] == ["0.65", "0.7", "0.6667"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--nnunet_python: expected the Python of nnU-Net's environment, or --only ours"),
        (["--only", "ours", "--", "--data.batch_size", "4"], "give its runs a --name"),
        (["--only", "ours", "--systems", "a,b", "--name", "c"], "--name c is one name, --systems a,b are several"),
        (["--only", "ours", "--minutes", "0"], "--minutes 0.0: expected more than 0"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(["--root", "r", "--output", "o", *arguments])
    assert said in capsys.readouterr().err
