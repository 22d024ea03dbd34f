"""`segan_pl atlas` as a user types it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.cohort import find_cohort
from segan_pl.data.io import read_volume
from segan_pl.data.layouts import find_cases
from segan_pl.data.split.choice import SplitChoice, UnlabelledCases
from segan_pl.data.synthetic.healthy import make_healthy_cohort
from segan_pl.inference.atlases import registration

SHAPE = (16, 30, 28)
QUICK = ("--registration.affine_iterations=15", "--registration.iterations=[10,5,2]", "--workers=1")
LABELLED, TEST = ["1", "4", "5"], ["070", "14"]


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six healthy brains in MRBrainS18's form, and a split of them next to the folder."""
    root = tmp_path_factory.mktemp("brains") / "data"
    make_healthy_cohort(root, form="mrbrains18", subjects=6, shape=SHAPE)
    parts = {"train": LABELLED, "val": [], "unlabelled": ["7"], "test": TEST}
    (root.parent / "split.json").write_text(json.dumps(parts))
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests keep their registrations."""
    return tmp_path_factory.mktemp("kept")


def run(root: Path, output: Path, *more: str, kept: Path | None = None) -> int:
    split = root.parent / "split.json"
    keep = [f"--keep={kept}"] if kept else []
    return main(["atlas", f"--root={root}", f"--split_file={split}", f"--output={output}", *QUICK, *keep, *more])


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", ["vote", "mixture"])
def test_a_part_is_segmented_in_native_labels_and_evaluate_scores_it(brains, kept, tmp_path, capsys, method):
    out = tmp_path / "out"
    assert run(brains, out, f"--method={method}", kept=kept) == 0
    said = capsys.readouterr().out
    assert last_line(said) == "2 given, 2 used, 0 refused"
    assert f"{method} of 3 labelled cases by t1: 1, 4, 5" in said
    assert "labels in the files: 1 is gm; 3 is wm; 5 is csf" in said
    assert sorted(file.name for file in out.glob("*.nii.gz")) == ["070.nii.gz", "14.nii.gz"]
    for name in TEST:
        image = nib.load(brains / "training" / name / "pre" / "reg_T1.nii.gz")
        found = nib.load(out / f"{name}.nii.gz")
        assert set(np.unique(found.dataobj)) <= {0, 1, 3, 5}
        for key in ("dim", "pixdim", "srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "xyzt_units"):
            np.testing.assert_array_equal(found.header[key], image.header[key])
    assert [row["case"] for row in rows_of(out)] == TEST
    assert all(float(row["seconds"]) > 0 for row in rows_of(out))
    assert main(["evaluate", f"--pred={out}", f"--root={brains}", "--workers=1"]) == 0
    assert last_line(capsys.readouterr().out) == "2 given, 2 used, 0 refused"
    with (out / "metrics_per_case.csv").open() as file:
        dice = {(row["case"], row["region"]): float(row["dice"]) for row in csv.DictReader(file)}
    assert min(value for (_, region), value in dice.items() if region != "csf") > 0.5


def test_no_mask_but_those_of_the_labelled_cases_is_opened(brains, kept, tmp_path, capsys):
    root = Path(shutil.copytree(brains.parent, tmp_path / "copy")) / "data"
    masks = {mask.parent.name: mask for mask in root.rglob("segm.nii.gz")}
    assert run(brains, tmp_path / "whole", "--n_labelled=2", "--split_seed=1", kept=kept) == 0
    chosen = chosen_cases(brains, 2, 1)
    for name in set(masks) - set(chosen):
        masks[name].write_bytes(b"no mask")
    assert run(root, tmp_path / "out", "--n_labelled=2", "--split_seed=1") == 0
    for name in TEST:
        found, whole = (read_volume(tmp_path / folder / f"{name}.nii.gz").array for folder in ("out", "whole"))
        np.testing.assert_array_equal(found, whole)
    masks[chosen[0]].write_bytes(b"no mask")
    capsys.readouterr()
    assert run(root, tmp_path / "other", "--n_labelled=2", "--split_seed=1") == 1
    assert "segm.nii.gz" in last_line(capsys.readouterr().err)


def chosen_cases(root: Path, number: int, seed: int) -> list[str]:
    """The labelled cases of a training with these options."""
    choice = SplitChoice(0.0, 0.0, (), str(root.parent / "split.json"), None, "refuse", "refuse", 0)
    unlabelled = UnlabelledCases(n_labelled=number, split_seed=seed)
    return list(choice.choose(find_cohort(root, labels="labels"), unlabelled, None, "").train)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_labelled_cases_are_those_of_a_training(brains, kept, tmp_path, seed):
    assert run(brains, tmp_path / "out", "--n_labelled=1", f"--split_seed={seed}", kept=kept) == 0
    made = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert [one["case"] for one in made["labelled cases"]] == chosen_cases(brains, 1, seed)
    assert made["predicted"]["parts"] == {"train": chosen_cases(brains, 1, seed), "val": []}
    assert made["predicted"]["cases"] == TEST


def test_options_of_a_training_are_taken_as_they_are(brains, kept, tmp_path, capsys):
    own = ["--data.n_labelled=1", "--data.labels=labels", "--data.batch_size=4", "--data.modalities=[flair, t1]"]
    assert run(brains, tmp_path / "out", *own, kept=kept) == 0
    said = capsys.readouterr()
    assert "vote" not in said.out.splitlines()[-1]
    assert "of 1 labelled cases by flair" in said.out
    assert "--data.batch_size" in said.err


def test_a_second_call_continues_and_replaces_nothing_in_silence(brains, kept, tmp_path, capsys):
    out = tmp_path / "out"
    run(brains, out, kept=kept)
    before = (out / "14.nii.gz").stat().st_mtime_ns
    (out / "070.nii.gz").unlink()
    capsys.readouterr()
    assert run(brains, out, kept=kept) == 0
    assert "1 were there already and are kept" in capsys.readouterr().out
    assert (out / "070.nii.gz").exists()
    assert (out / "14.nii.gz").stat().st_mtime_ns == before
    assert run(brains, out, "--method=vote", kept=kept) == 2
    assert "holds predictions made with other method, settings" in last_line(capsys.readouterr().err)
    assert run(brains, out, "--n_labelled=1", kept=kept) == 2
    assert "holds predictions made with other labelled cases" in last_line(capsys.readouterr().err)
    assert run(brains, out, "--method=vote", "--overwrite=true", kept=kept) == 0
    assert (out / "14.nii.gz").stat().st_mtime_ns != before


def test_each_labelled_case_is_segmented_by_the_others(brains, kept, tmp_path, capsys):
    assert run(brains, tmp_path / "out", "--part=train", kept=kept) == 0
    assert last_line(capsys.readouterr().out) == "3 given, 3 used, 0 refused"
    assert all("labelled by 2 of 3 cases" in row["notes"] for row in rows_of(tmp_path / "out"))
    made = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert made["predicted"]["parts"]["train"] == []


@pytest.mark.slow
def test_processes_give_the_same_files(brains, kept, tmp_path):
    assert run(brains, tmp_path / "one", kept=kept) == 0
    assert run(brains, tmp_path / "two", "--workers=2") == 0
    for name in TEST:
        one, two = ((tmp_path / folder / f"{name}.nii.gz").read_bytes() for folder in ("one", "two"))
        assert one == two


def test_a_case_that_cannot_be_used_does_not_stop_the_rest(brains, kept, tmp_path, capsys):
    root = Path(shutil.copytree(brains.parent, tmp_path / "copy")) / "data"
    (root / "training" / "14" / "pre" / "reg_T1.nii.gz").write_bytes(b"no image")
    assert run(root, tmp_path / "out", kept=kept) == 1
    said = capsys.readouterr().out
    assert "refused: 14: " in said
    assert last_line(said) == "2 given, 1 used, 1 refused"


def manifest_without(root: Path, folder: Path, name: str, part: str) -> Path:
    """A manifest of the same files in which a case lacks one."""
    rows = []
    for case in find_cases(root):
        files = {**case.images, "mask": case.mask}
        row = {"case": case.name, "native_labels": "mrbrains18", **{key: str(file) for key, file in files.items()}}
        rows.append({**row, **({part: ""} if case.name == name else {})})
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("case", "column", "code", "why"),
    [
        ("4", "t1", 1, "4: no t1, it has flair, t1_ir; choose another --modalities, or complete the case"),
        ("4", "mask", 1, 'the split has cases without a mask under "train": 4'),
        ("14", "t1", 1, "refused: 14: no t1, it has flair, t1_ir"),
        ("14", "mask", 0, "2 given, 2 used, 0 refused"),
    ],
)
def test_what_a_case_lacks_is_said_in_one_line(brains, kept, tmp_path, capsys, case, column, code, why):
    root = manifest_without(brains, tmp_path, case, column)
    split = f"--split_file={brains.parent / 'split.json'}"
    arguments = [f"--root={root}", split, f"--output={tmp_path / 'out'}", f"--keep={kept}", *QUICK]
    assert main(["atlas", *arguments]) == code
    said = capsys.readouterr()
    assert why in said.out + said.err
    assert (tmp_path / "out" / "predict.json").exists() == (case == "14")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--n_labelled=0"], "n_labelled 0: expected at least 1"),
        (["--n_labelled=4"], "--data.n_labelled 4: the split has 3 labelled training cases"),
        (["--part=val"], "--part val: the split"),
        (["--modalities=[t2w]"], "--data.modalities t2w: no case of"),
        (["--modalities=[t2]"], "no t2, it has"),
        (["--method=votes"], "--method"),
        (["--split_file="], "--split_file is missing"),
        (["--split_file=nothing.json"], "nothing.json"),
        (["--registration.iterations=[1,2]"], "registration.iterations is [1, 2], expected one number for each level"),
        (["--registration.bins=4"], "registration.bins is 4, expected 5 or more"),
        (["--mixture.iterations=0"], "mixture.iterations is 0, expected 1 or more"),
        (["--method=vote", "--mixture.smoothing_mm=3"], "--mixture: is of --method mixture"),
    ],
)
def test_what_was_typed_wrongly_is_said_in_one_line_before_any_work(brains, tmp_path, capsys, options, why):
    assert run(brains, tmp_path / "out", *options) in (1, 2)
    error = capsys.readouterr().err
    assert why in last_line(error)
    assert error.count("segan_pl: error:") == 1
    assert not (tmp_path / "out").exists()


def test_without_simpleitk_nothing_is_begun(brains, tmp_path, capsys, monkeypatch):
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(registration.importlib, "import_module", absent)
    # The command's own module is imported by the same function of the standard library.
    from segan_pl.cli.commands import atlas

    split = brains.parent / "split.json"
    with pytest.raises(ValueError, match=r"pip install 'segan_pl\[atlas\]'"):
        atlas.main(["atlas", f"--root={brains}", f"--split_file={split}", f"--output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
