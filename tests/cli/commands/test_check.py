from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume, write_volume
from tests.cohort import CASES
from tests.generators.trees import FORMS, write_cohort

pytest_plugins = ["tests.cohort_fixtures"]


def check(root: Path, *options: str) -> int:
    return main(["check", f"--root={root}", "--workers=1", *options])


@pytest.fixture
def damaged(cohort: Path, tmp_path: Path) -> Path:
    """The cohort with an empty file and a case without t2."""
    root = Path(shutil.copytree(cohort, tmp_path / "damaged"))
    first, second = sorted(root.rglob("*_t2.nii.gz"))[:2]
    first.write_bytes(b"")
    second.unlink()
    return root


def test_a_sound_cohort_passes_with_exit_code_0(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(cohort) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{CASES} given, {CASES} used, 0 refused"


def test_refusals_end_with_exit_code_1_and_a_line_each(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(damaged) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{CASES} given, {CASES - 2} used, 2 refused"
    refusals = [line for line in lines if line.startswith("refused: ")]
    assert len(refusals) == 2
    assert "_t2.nii.gz: empty file" in refusals[0]
    assert "incomplete (no t2), expected t1, t1ce, t2, flair" in refusals[1]


@pytest.mark.parametrize(
    ("missing", "line"), [("drop", "8 given, 6 used, 1 refused"), ("zero", "8 given, 7 used, 1 refused")]
)
def test_an_incomplete_case_is_allowed_on_request(
    damaged: Path, capsys: pytest.CaptureFixture[str], missing: str, line: str
) -> None:
    assert check(damaged, f"--data.missing={missing}") == 1
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == line
    assert "incomplete (no t2)" in output
    assert ("1 left out, as --data.missing=drop says" in output) == (missing == "drop")


def test_a_case_is_complete_with_the_modalities_asked_for(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(damaged, "--data.modalities=[t1,flair]")
    assert capsys.readouterr().out.splitlines()[-1].endswith("7 used, 1 refused"), "every file is read all the same"


def test_json_on_standard_output_leaves_the_rest_to_standard_error(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(damaged, "--json=-") == 1
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found["summary"]["refused"] == len(found["refused"]) == 2
    assert len(found["cases"]) == CASES
    assert output.err.splitlines()[-1] == f"{CASES} given, {CASES - 2} used, 2 refused"


def test_both_files_are_written_and_the_same_every_time(cohort: Path, tmp_path: Path) -> None:
    contents = []
    for run in "ab":
        assert check(cohort, f"--json={tmp_path / run}.json", f"--csv={tmp_path / run}.csv") == 0
        found = json.loads((tmp_path / f"{run}.json").read_text())
        assert found.pop("seconds") > 0
        contents.append((found, (tmp_path / f"{run}.csv").read_text()))
    assert contents[0] == contents[1]
    rows = list(csv.DictReader(contents[0][1].splitlines()))
    assert [row["case"] for row in rows] == [case["name"] for case in contents[0][0]["cases"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "b.csv", "b.json"]


@pytest.mark.parametrize("layout", FORMS)
def test_every_layout_is_read_and_its_labels_understood(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = write_cohort(tmp_path / "data", layout=layout, cases=3, shape=(8, 24, 32))
    assert check(tmp_path / "data", "--json=-") == 0
    found = json.loads(capsys.readouterr().out)
    assert [case["name"] for case in found["cases"]] == sorted(person.name for person in people)
    assert found["data_set"]["layout"] == layout
    assert found["data_set"]["native_labels"] == FORMS[layout].convention
    assert {len(case["contents"]) for case in found["cases"]} == {{"lgg": 4, "brats_men_rt": 2}.get(layout, 5)}
    assert all(case["tumour_ml"] > 0 and case["shape"] == [32, 24, 8] for case in found["cases"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json={tmp}/none/x.json"], "none is no folder that may be written to"),
        (["--csv={tmp}"], "is a folder, expected a file; give another"),
        (["--csv=-", "--json=-"], "write to standard output; give each its own file"),
        (["--workers=0"], "workers"),
        (["--jsn=x"], "did you mean --json?"),
    ],
)
def test_what_is_typed_wrongly_ends_with_2_before_any_reading(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    try:
        code = check(cohort, *(option.format(tmp=tmp_path) for option in options))
    except SystemExit as end:
        code = int(end.code or 0)
    output = capsys.readouterr()
    assert code == 2
    assert said in output.err
    assert output.err.count("\n") == 1
    assert not output.out


def test_other_labels_than_the_layout_says_are_refused(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(cohort, "--data.native_labels=brats2023") == 1
    output = capsys.readouterr().out
    assert "the mask holds label [4], 'brats2023' knows [0, 1, 2, 3]" in output
    assert "together hold labels [0, 1, 2, 4]: brats2015, brats2017, brats2024 would fit" in output


def test_regions_that_the_labels_cannot_make_are_refused(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(cohort, "--data.native_labels=binary", "--data.labels=regions") == 2
    assert "choose --data.labels whole_tumour" in capsys.readouterr().err


def test_neither_the_command_nor_its_workers_load_pytorch() -> None:
    code = (
        "import sys, segan_pl.cli.commands.check, segan_pl.data.check.case; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'monai')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_loads_no_terminal_library() -> None:
    code = "import sys, segan_pl.data.check.case; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real_data
def test_real_brats_is_sound_and_its_volumes_are_nibabels(
    real_data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(real_data_root / "brats2021", "--json=-") == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["duplicates"]
    assert not [case["notes"] for case in found["cases"] if case["notes"]]
    for case in found["cases"]:
        assert (case["shape"], case["spacing_mm"], case["orientation"]) == ([240, 240, 155], [1, 1, 1], "LPS")
        mask = np.asarray(nib.load(case["files"]["mask"]).dataobj)
        assert case["tumour_ml"] == pytest.approx((mask > 0).sum() / 1000, rel=1e-5)
    assert found["cases"][-1]["labels"] == {"0": 8928000 - 18462, "1": 16, "2": 18135, "4": 311}


@pytest.mark.real_data
@pytest.mark.slow
def test_four_patients_of_lgg_lack_sequences(real_data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = {}
    for missing in ("refuse", "drop", "zero"):
        check(real_data_root / "lgg", f"--data.missing={missing}")
        last[missing] = capsys.readouterr().out.splitlines()[-1]
    assert last == {
        "refuse": "54 given, 50 used, 4 refused",
        "drop": "54 given, 50 used, 0 refused",
        "zero": "54 given, 54 used, 0 refused",
    }


def test_tissues_of_a_healthy_brain_are_advised_and_then_checked_without_more_advice(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted(cohort.rglob("*_t1.nii.gz"))[:2]
    lines = ["case,t1,mask"]
    for number, image in enumerate(images):
        volume = read_volume(image)
        mask = np.resize(np.arange(1, 4, dtype=np.uint8), volume.shape) * (volume.array != 0)
        write_volume(tmp_path / f"{number}.nii.gz", mask.astype(np.uint8), volume.affine)
        lines.append(f"{number},{image},{number}.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    assert check(tmp_path) == 1
    assert "mrbrains13 would fit" in capsys.readouterr().out
    assert check(tmp_path, "--data.native_labels=mrbrains13") == 0
    output = capsys.readouterr().out
    assert "would fit" not in output
    assert "'mrbrains13' names no tumour: fit needs --data.labels labels, or only:NAME" in output
    assert check(tmp_path, "--data.native_labels=brats2024") == 0
    assert "cavity (label 4) occurs in none of 2 masks, though 'brats2024' has it\n" in capsys.readouterr().out
