"""A layout outside the package: one file, which every command takes by its import path."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from tests.changes.tiny import SMALL, fit
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated", "example"),
]
NAMES = {"t1": "T1", "t1ce": "T1Gd", "t2": "T2", "flair": "FLAIR", "seg": "tumour"}


@pytest.fixture
def hospital(cohort: Path, tmp_path: Path) -> Path:
    """Eight scans of seven patients; the first patient was scanned twice."""
    root = tmp_path / "hospital"
    for number, case in enumerate(sorted(folder for folder in cohort.glob("*GG/*") if folder.is_dir())):
        scan = root / f"P{max(number, 1):03d}" / f"2019-05-{number + 1:02d}"
        scan.mkdir(parents=True)
        for part, name in NAMES.items():
            shutil.copy(case / f"{case.name}_{part}.nii.gz", scan / f"{name}.nii.gz")
    return root


def test_it_is_checked_split_by_patient_and_trained(
    hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = "--data.layout=my_layout"
    assert main(["check", f"--root={hospital}", layout, "--workers=1"]) == 0
    assert "layout my hospital" in capsys.readouterr().out
    split, run = tmp_path / "split.json", tmp_path / "run"
    parts = ["--data.val_fraction=0.25", "--data.test_fraction=0.25", "--data.stratify_by=[]"]
    assert main(["split", f"--root={hospital}", layout, *parts, f"--output={split}"]) == 0
    written = json.loads(split.read_text())
    sides = [{name.split("_")[0] for name in written[part]} for part in ("train", "val", "test")]
    assert sum(len(side) for side in sides) == len(set().union(*sides)) == 7  # patients, each on one side
    line = ["--config=segan_cat", *SMALL, layout, f"--data.split_file={split}"]
    assert fit(hospital, run, *line, epochs=1) == 0
    assert json.loads((run / "split.json").read_text())["train"] == written["train"]
