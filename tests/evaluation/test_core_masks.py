"""Table II of AlbuNet's paper: the core of a prediction in BraTS's labels against masks of the core in 0 and 1."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.io import write_volume
from segan_pl.experiments.plan.plan import read_plan


def test_masks_of_the_core_alone_score_the_core(tmp_path: Path) -> None:
    plan = read_plan("ucl_tig").values
    core, prediction = np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8), np.uint8)
    core[1:3, 2:6, 2:6] = 1  # 32 voxels
    prediction[1:3, 1:7, 1:7] = 2  # oedema around it counts for nothing
    prediction[1:3, 2:6, 2:4], prediction[1:3, 2:6, 4] = 1, 4  # 24 voxels, all in the core
    for name, label in (("masks", core), ("predictions", prediction)):
        (tmp_path / name).mkdir()
        write_volume(tmp_path / name / "p1.nii.gz", label, np.eye(4))
    line = ["evaluate", f"--pred={tmp_path / 'predictions'}", f"--root={tmp_path / 'masks'}", "--policy=brats2018"]
    assert main([*line, f"--data.native_labels={plan['clinical_labels']}", "--regions=tc", "--workers=1"]) == 0
    with (tmp_path / "predictions" / "metrics_per_case.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["region"] == "tc"
    assert float(row["dice"]) == pytest.approx(2 * 24 / (24 + 32), abs=1e-6)
