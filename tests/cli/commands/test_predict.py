"""`segan_pl predict` as a user types it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.data.layouts import find_cases
from segan_pl.inference.predictor import Predictor
from tests.cohort import CASES, QUIET
from tests.generators.trees import write_cohort
from tests.inference.test_predictor import train

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, cohort: Path, prepared: Path) -> Path:
    return train(tmp_path_factory.mktemp("checkpoint"), cohort, prepared, "wt")


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory, cohort: Path, prepared: Path) -> Path:
    return train(tmp_path_factory.mktemp("checkpoint"), cohort, prepared, "regions", labels="regions")


def run(checkpoint: Path, root: Path, output: Path, *more: str) -> int:
    return main(["predict", "--ckpt_path", str(checkpoint), f"--root={root}", f"--output={output}", *more])


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_every_case_becomes_a_file_on_its_own_grid(checkpoint, cohort, tmp_path, capsys):
    assert run(checkpoint, cohort, tmp_path / "out") == 0
    assert last_line(capsys.readouterr().out) == f"{CASES} given, {CASES} used, 0 refused"
    predictor = Predictor.load(checkpoint)
    for case in find_cases(cohort):
        found, image = read_volume(tmp_path / "out" / f"{case.name}.nii.gz"), read_volume(case.images["t1"])
        np.testing.assert_array_equal(found.array, predictor(case).label)
        np.testing.assert_array_equal(found.affine, image.affine)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [case.name for case in find_cases(cohort)]
    identity = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert identity["checkpoints"][0]["path"] == str(checkpoint)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("file", "is a file; give a folder"),
        ("file/out", "cannot be made (Not a directory); give another folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(checkpoint, cohort, tmp_path, capsys, output, why):
    (tmp_path / "file").write_text("kept")
    assert run(checkpoint, cohort, tmp_path / output) == 2
    assert last_line(capsys.readouterr().err) == f"segan_pl: error: --output {tmp_path / output}: {why}"
    assert (tmp_path / "file").read_text() == "kept"


def test_a_run_s_folder_in_place_of_its_checkpoint_is_refused_with_those_in_it(checkpoint, cohort, tmp_path, capsys):
    assert run(checkpoint.parent, cohort, tmp_path / "out") == 2
    assert f"{checkpoint.parent}: is a folder; give a checkpoint: {checkpoint}" in last_line(capsys.readouterr().err)


def test_a_second_call_continues_where_the_first_stopped(checkpoint, cohort, tmp_path, capsys):
    run(checkpoint, cohort, tmp_path / "out")
    files = sorted((tmp_path / "out").glob("*.nii.gz"))
    files[0].unlink()
    before = files[1].stat().st_mtime_ns
    capsys.readouterr()
    assert run(checkpoint, cohort, tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert f"{CASES - 1} were there already" in out
    assert files[0].exists()
    assert files[1].stat().st_mtime_ns == before
    assert run(checkpoint, cohort, tmp_path / "out", "--overwrite=true") == 0
    assert files[1].stat().st_mtime_ns != before


def test_a_folder_begun_with_other_settings_is_refused(checkpoint, cohort, tmp_path, capsys):
    run(checkpoint, cohort, tmp_path / "out", "--share=1/8")
    assert run(checkpoint, cohort, tmp_path / "out", "--mirror", "1", "2") == 2
    error = capsys.readouterr().err
    assert "holds predictions made with other settings" in error
    assert error.count("\n") == 1 + error.count("predicted")


def test_parts_together_are_the_whole(checkpoint, cohort, tmp_path, capsys):
    for part in ("1/3", "2/3", "3/3"):
        assert run(checkpoint, cohort, tmp_path / "out", f"--share={part}") == 0
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == CASES
    assert len(list((tmp_path / "out").glob("predictions_*of3.csv"))) == 3
    assert last_line(capsys.readouterr().out) == "2 given, 2 used, 0 refused"


def test_one_bad_case_does_not_stop_the_rest(checkpoint, cohort, tmp_path, capsys):
    root = Path(shutil.copytree(cohort, tmp_path / "copy"))
    bad = next(root.rglob("*_t2.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:-40])
    next(root.rglob("*_flair.nii.gz")).unlink()
    assert run(checkpoint, root, tmp_path / "out") == 1
    out = capsys.readouterr().out
    assert last_line(out) == f"{CASES} given, {CASES - len(lost(root, bad))} used, {len(lost(root, bad))} refused"
    assert f"refused: {bad.parent.name}: " in out
    assert not (tmp_path / "out" / f"{bad.parent.name}.nii.gz").exists()


def lost(root: Path, bad: Path) -> set[str]:
    return {bad.parent.name, *(c.name for c in find_cases(root) if "flair" not in c.images)}


def test_masks_are_neither_needed_nor_read(checkpoint, cohort, tmp_path):
    root = Path(shutil.copytree(cohort, tmp_path / "copy"))
    for number, mask in enumerate(sorted(root.rglob("*_seg.nii.gz"))):
        mask.unlink() if number % 2 else mask.write_bytes(b"no mask")
    assert run(checkpoint, root, tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("layout", "enhancing", "suffix"), [("brats2015", 4, ".mha"), ("brats2023", 3, ".nii.gz"), ("msd", 3, ".nii.gz")]
)
def test_a_data_set_gets_its_own_names_and_labels(regions, tmp_path, layout, enhancing, suffix):
    write_cohort(tmp_path / "data", layout=layout, cases=2, shape=(16, 32, 32))
    assert run(regions, tmp_path / "data", tmp_path / "out") == 0
    files = sorted(path for path in (tmp_path / "out").iterdir() if path.name.endswith(suffix))
    assert len(files) == 2
    if layout == "brats2015":
        assert all(path.name.startswith("VSD.") for path in files)
    cases = find_cases(tmp_path / "data")
    label = Predictor.load(regions, convention=layout)(cases[0]).label
    written = [read_volume(path).array for path in files]
    assert any(np.array_equal(label, other) for other in written)
    known = {0, 1, 2, enhancing} | ({3, 4} if layout == "brats2015" else set())
    assert all(set(np.unique(array).tolist()) <= known for array in written)


def test_probabilities_are_written_a_channel(regions, cohort, tmp_path):
    assert run(regions, cohort, tmp_path / "out", "--probabilities=true", "--share=1/8") == 0
    case = find_cases(cohort)[0]
    prediction = Predictor.load(regions)(case, probability=True)
    for channel, values in zip(("wt", "tc", "et"), prediction.probability, strict=True):  # type: ignore[arg-type]
        written = read_volume(tmp_path / "out" / f"{case.name}_{channel}.nii.gz").array
        assert np.abs(written / 255 - values).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--share=3/2"], "--share 3/2: expected i/n"),
        (["--mirror=[3]"], "--mirror [3]: expected some of 0 (z), 1 (y), 2 (x)"),
        (["--postprocess=[smal_components:1]"], "did you mean 'small_components'"),
        (["--device=cuda"], "no CUDA device here"),
        (["--overlap=many"], "overlap"),
        (["--ckpt_pat=x"], "did you mean --ckpt_path?"),
    ],
)
def test_what_is_typed_wrongly_is_one_line_and_exit_2(checkpoint, cohort, tmp_path, capsys, arguments, message):
    try:
        code = run(checkpoint, cohort, tmp_path / "out", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
