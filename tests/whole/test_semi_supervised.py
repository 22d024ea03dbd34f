"""Every shipped objective file over a system, by the command line: 3-D labels in bfloat16, and 2-D regions."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.experiments.shipped import shipped_folder
from segan_pl.inference.predictor import Predictor
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.usefixtures("isolated")]

SLICES = {"critic": "critic"}  # an objective for slices, and the network of its own
OBJECTIVES = sorted({path.stem for path in (shipped_folder("configs") / "objectives").glob("*.yaml")} - {*SLICES})
OTHERS = {
    "cps": "second",
    "reciprocal_critic": "critic",
    **SLICES,
    **dict.fromkeys(("mean_teacher", "ua_mt", "bcp", "bcp_tissues", "self_training"), "teacher"),
}
SHAPE = (16, 32, 32)
DEEP = (
    *("-c", "unet3d", "--data.labels=labels", "--data.patch=[16,32,32]", "--trainer.precision=bf16-mixed"),
    *("--data.sampling.batches=2", "--data.batch_size=4"),
)
FLAT = ("-c", "unet2d", "--data.patch=[32,32]", "--data.batch_size=8", "--trainer.limit_train_batches=2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases of which one is validated."""
    folder = tmp_path_factory.mktemp("semi")
    make_cohort(folder / "cohort", cases=4, shape=SHAPE, seed=48)
    return folder


def fit(root: Path, run: Path, system: tuple[str, ...], *objective: str) -> int:
    return main(
        [
            *("fit", *system, *objective, f"--root={root / 'cohort'}", f"--data.cache_dir={root / 'cache'}"),
            *(
                "--data.val_fraction=0.25",
                "--data.stratify_by=[]",
                "--data.prepare_workers=1",
                f"--run.directory={run}",
            ),
            *("--model.networks.segmentor.init_args.width=4", "--model.networks.segmentor.init_args.levels=3"),
            *("--run.preview_every=0", "--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.max_epochs=2"),
            *("--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0"),
        ]
    )


# One objective shows that files go over 2-D systems; the losses of all are tested in both.
@pytest.mark.parametrize(
    ("name", "system"), [*((name, DEEP) for name in OBJECTIVES), *((name, FLAT) for name in ("mean_teacher", *SLICES))]
)
def test_an_objective_trains_over_a_system_and_its_segmentor_predicts(
    name: str, system: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    # Its strides leave 2 of 16 voxels of depth, for which PyTorch's bfloat16 has wrong gradients.
    precise = ["--trainer.precision=32-true"] if name == "reciprocal_critic" else []
    assert fit(root, tmp_path / "run", system, "-c", name, "--data.n_labelled=2", *precise) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    losses = {key: float(value) for key, value in rows[-1].items() if key.startswith("train/") and value}
    assert losses
    assert np.isfinite(list(losses.values())).all()
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    weights = torch.load(last, weights_only=True)["state_dict"]
    assert {key.split(".")[1] for key in weights} == {"segmentor", *([OTHERS[name]] if name in OTHERS else [])}
    predicted = Predictor.load(last, device="cpu").predict_array(np.zeros((4, *SHAPE), np.float32))
    assert predicted.shape[1:] == SHAPE


def test_without_unlabelled_cases_nothing_is_prepared(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(root, tmp_path / "run", DEEP, "-c", "ua_mt", f"--data.cache_dir={tmp_path / 'cache'}") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "UncertaintyAwareMeanTeacher needs unlabelled cases too, and every training case is labelled; give" in said
    assert not (tmp_path / "cache").exists()
