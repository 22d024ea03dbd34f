"""A bundle and an ONNX file of a trained network on real MRI: the labels of `segan_pl predict`, voxel for voxel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.data.layouts import find_cases
from segan_pl.export.tracing import labels_line, undecided
from segan_pl.inference.predictor import Predictor
from tests.cohort import QUIET
from tests.export.blocked import without

pytest_plugins = ["tests.cohort_fixtures"]

pytestmark = [*QUIET, pytest.mark.slow, pytest.mark.real_data]


def test_five_real_cases_have_the_labels_of_predict(real_data_root: Path, tmp_path: Path, isolated: None) -> None:
    root, run = real_data_root / "brats2021", tmp_path / "run"
    line = ["fit", "-c", "segmentor_small_adamw", f"--root={root}", f"--data.cache_dir={tmp_path / 'cache'}"]
    line += [f"--run.directory={run}", "--data.val_fraction=0.4", "--data.test_fraction=0", "--data.stratify_by=[]"]
    line += ["--trainer.max_epochs=1", "--trainer.limit_train_batches=50", "--data.batch_size=8", "--trainer.devices=1"]
    line += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--data.prepare_workers=1"]
    line += ["--model.optimizers.default.init_args.lr=0.01"]  # 50 steps must find something
    assert main([*line, "--run.preview_every=0", "--data.workers=0"]) == 0
    checkpoint = f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"
    steps = "--postprocess=[small_components:0.5,fill_holes]"
    for form in ("bundle", "onnx"):
        assert (
            main(["export", checkpoint, f"--output={tmp_path / form}", f"--format={form}", f"--root={root}", steps])
            == 0
        )
    wanted = ["predict", checkpoint, f"--root={root}", f"--output={tmp_path / 'wanted'}", "--precision=float32", steps]
    assert main(wanted) == 0
    model = f"--ckpt_path={tmp_path / 'onnx' / 'model.onnx'}"
    assert main(["predict", model, f"--root={root}", f"--output={tmp_path / 'onnx_labels'}"]) == 0
    arguments = ["run", "--config_file", "configs/inference.json", "--dataset_dir", str(root.resolve())]
    without(["segan_pl"], "monai.bundle", [*arguments, "--output_dir", str(tmp_path / "labels")], tmp_path / "bundle")
    files = sorted((tmp_path / "wanted").glob("*.nii.gz"))
    assert len(files) == 5
    assert sum(bool(read_volume(file).array.any()) for file in files) >= 3
    for file in files:
        expected = read_volume(file)
        for folder in ("labels", "onnx_labels"):
            # another order of sums may decide a voxel: with AVX-512 1 of the 44 million of all cases, with AVX2 none
            changed = torch.from_numpy(read_volume(tmp_path / folder / file.name).array != expected.array)
            if changed.any():
                case = next(one for one in find_cases(root) if file.name.startswith(one.name))
                predictor = Predictor.load(run / "checkpoints" / "last.ckpt", precision="float32")
                probability = predictor(case, probability=True).probability
                assert probability is not None
                near = undecided(torch.from_numpy(probability), predictor.scheme.activation)
                print(folder, labels_line(changed, near, file.name))
