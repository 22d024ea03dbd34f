"""A modality that no data set of the package has: a column of a manifest, with ignored labels besides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.data.synthetic.healthy import make_healthy_cohort
from tests.changes.tiny import checkpoint, fit, rows
from tests.cohort import QUIET

pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated", "example"),
]
pytest_plugins = ["tests.cohort_fixtures"]


def test_it_is_checked_trained_and_predicted(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    make_healthy_cohort(root, form="mrbrains13", subjects=4, shape=(8, 48, 48))
    shutil.copy(example / "manifest.csv", root)
    root /= "manifest.csv"  # the folder is of a layout by itself
    assert main(["check", f"--root={root}", "--workers=1"]) == 0
    assert "t1_ir" in capsys.readouterr().out
    small = ["--model.networks.segmentor.init_args.width=8", "--model.networks.segmentor.init_args.levels=3"]
    line = ["--config=unet2d", f"--config={example / 'my_brains.yaml'}", *small, "--data.patch=[32,32]"]
    assert fit(root, run, *line, "--data.batch_size=12", "--data.preparation.crop=null", epochs=1) == 0
    first = torch.load(checkpoint(run), weights_only=True)
    kernels = next(value for name, value in first["state_dict"].items() if value.ndim == 4)
    assert kernels.shape[1] == 3
    (row,) = rows(run / "metrics.csv")
    assert all(0 <= float(row[f"val/dice_{tissue}"]) <= 1 for tissue in ("csf", "gm", "wm"))
    line = [f"--ckpt_path={checkpoint(run)}", f"--root={root}", f"--output={out}", "--device=cpu"]
    assert main(["predict", *line]) == 0
    masks = [read_volume(file).array for file in sorted(out.glob("*.nii.gz"))]
    assert len(masks) == 4
    assert not np.isin(masks, [7, 8]).any()  # what nobody judges is not predicted
