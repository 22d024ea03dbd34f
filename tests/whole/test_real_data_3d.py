"""The 3-D systems on real MRI, small: fit on BraTS 2021, predict on the original grid, and evaluate there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.__main__ import main
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.usefixtures("isolated"),
    *QUIET,
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]
PATCHES = ["--data.patch=[32,48,48]", "--data.sampling.batches=4", "--data.sampling.foreground=0.5"]
NARROW = ["--model.networks.segmentor.init_args.width=4"]
SYSTEMS = {
    "reciprocal": [*PATCHES, *NARROW, "--model.networks.critic.init_args.width=4"],
    "reciprocal_ours": [*PATCHES, *NARROW, "--model.networks.critic.init_args.width=4"],
    "albunet3d": [
        *("--data.patch=[8,96,96]", "--model.windows.step=[8,96,96]", "--data.batch_size=4"),
        *(
            "--data.sampling.batches=4",
            "--model.networks.segmentor.init_args.width=8",
            "--model.networks.segmentor.init_args.filters=4",
        ),
        "--model.networks.segmentor.init_args.pretrained=null",
    ],
    "ucl_tig": [  # its layers keep the plane's size, so a part of each brain will do
        *(*PATCHES, *NARROW, "--data.batch_size=2", "--data.preparation.orientation=PSL"),
        *("--data.preparation.crop=[64,96,96]", "--model.windows.overlap=0"),
    ],
    "unet3d": [*PATCHES, *NARROW, "--model.networks.segmentor.init_args.levels=3", "--model.windows.overlap=0.25"],
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_3d_system_trains_on_brats_2021_and_predicts_on_the_original_grid(
    system: str, real_data_root: Path, tmp_path: Path
) -> None:
    root, run = real_data_root / "brats2021", tmp_path / "run"
    fit = ["fit", "--config", system, f"--root={root}", *SYSTEMS[system], f"--data.cache_dir={tmp_path / 'cache'}"]
    fit += ["--data.val_fraction=0.2", "--data.test_fraction=0.2", "--data.stratify_by=[]", f"--run.directory={run}"]
    assert main([*fit, "--trainer.accelerator=cpu", "--trainer.precision=bf16-mixed", "--trainer.max_epochs=1"]) == 0
    with (run / "metrics.csv").open(newline="") as file:
        (metrics,) = csv.DictReader(file)
    losses = [float(value) for name, value in metrics.items() if name.startswith("train/")]
    assert losses
    assert np.isfinite(losses).all()
    split = json.loads((run / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "val", "test")] == [3, 1, 1]

    (name,) = split["test"]
    one = tmp_path / "one" / name
    one.parent.mkdir()
    one.symlink_to(root / name, target_is_directory=True)
    (best,) = (path for path in (run / "checkpoints").glob("epoch*.ckpt"))
    assert main(["predict", f"--ckpt_path={best}", f"--root={one.parent}", f"--output={tmp_path / 'out'}"]) == 0
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    found, given = nib.load(written), nib.load(root / name / f"{name}_flair.nii.gz")
    assert found.shape == given.shape == (240, 240, 155)
    np.testing.assert_array_equal(found.affine, given.affine)
    assert set(np.unique(np.asanyarray(found.dataobj)).tolist()) <= {0, 1, 2, 4}
    scores = tmp_path / "scores"
    assert main(["evaluate", f"--pred={tmp_path / 'out'}", f"--root={one.parent}", f"--output={scores}"]) == 0
    with (scores / "metrics_per_case.csv").open(newline="") as file:
        assert {row["region"] for row in csv.DictReader(file)} == {"wt", "tc", "et"}
