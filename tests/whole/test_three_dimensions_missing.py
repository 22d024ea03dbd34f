"""3-D systems for any subset of modalities: hide, tell, score every subset, predict from what is there."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.layouts import find_cases
from segan_pl.experiments.shipped import find_config
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import load_segmentor
from segan_pl.nets.parts.resnet import ResNet34
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

SMALL = {
    "unet3d": ["networks.segmentor.init_args.width=4", "networks.segmentor.init_args.levels=3"],
    "reciprocal": [
        *("networks.segmentor.init_args.width=4", "networks.critic.init_args.width=2"),
        "objective.init_args.critic_input=concat",
    ],
    "reciprocal_ours": ["networks.segmentor.init_args.width=4", "networks.critic.init_args.width=2"],
    "albunet3d": [
        *("networks.segmentor.init_args.width=4", "networks.segmentor.init_args.filters=2", "windows.step=[4,16,16]"),
    ],
}
PATCH = {"albunet3d": "[4,32,32]"}


def weights(folder: Path) -> Path:
    """A file as ImageNet's, of a narrow encoder."""
    torch.manual_seed(3)
    torch.save(dict(ResNet34(3, width=4).state_dict()), folder / "resnet34.pth")
    return folder / "resnet34.pth"


def line(system: str, cohort: Path, prepared: Path, run: Path) -> list[str]:
    pretrained = system.startswith("albunet")
    return [
        *("fit", "--config", str(find_config(system)), f"--root={cohort}", f"--data.cache_dir={prepared}"),
        *(f"--model.{setting}" for setting in SMALL[system]),
        *([f"--model.networks.segmentor.init_args.pretrained={weights(run.parent)}"] if pretrained else []),
        *("--data.augmentation.modality_dropout=0.5", "--model.modality_mask=channels", "--model.subsets=all"),
        *(f"--data.patch={PATCH.get(system, '[8,16,16]')}", "--data.batch_size=2", "--data.val_fraction=0.13"),
        *("--data.stratify_by=[]", "--data.prepare_workers=1", f"--run.directory={run}", "--run.preview_every=0"),
        *(["--data.sampling.batches=3"] if pretrained else []),
        *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false"),
        "--trainer.max_epochs=1",
        *([] if pretrained else ["--run.monitor=val/dice_wt_subsets_mean"]),
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("system", SMALL)
def test_a_system_of_patches_takes_any_subset(
    system: str, cohort: Path, prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert main(line(system, cohort, prepared, run)) == 0
    modalities = 3 if system == "albunet3d" else 4
    if system == "albunet3d":
        assert f"weights of resnet34.pth, {modalities} mask channels begin at 0" in caplog.text
    last = run / "checkpoints" / "last.ckpt"
    found = load_segmentor(last)
    assert (found.modality_mask, found.copes, len(found.patch)) == ("channels", True, 3)
    state = torch.load(last, weights_only=True)["state_dict"]
    first = next(value for key, value in state.items() if key.startswith("networks.segmentor.") and value.ndim > 3)
    assert first.shape[1] == 2 * modalities
    if system == "reciprocal":  # concat: the image and three masks, no planes
        assert next(v for k, v in state.items() if k.startswith("networks.critic.") and v.ndim > 3).shape[1] == 7
    (case,) = json.loads((run / "split.json").read_text())["val"]
    scored = rows(run / "scores" / "val_epoch_0000_subsets.csv")
    assert len({row["subset"] for row in scored}) == 2**modalities - 1
    folder = tmp_path / "incomplete"
    shutil.copytree(next(path for path in cohort.rglob(case) if path.is_dir()), folder / case)
    for path in folder.rglob(f"{case}_t1ce*"):
        path.unlink()
    subset = "+".join(name for name in found.modalities if name != "t1ce")
    assert main(["predict", f"--ckpt_path={last}", f"--root={folder}", f"--output={tmp_path / 'masks'}"]) == 0
    (said,) = rows(tmp_path / "masks" / "predictions.csv")
    assert "zeros for t1ce" in json.dumps(said)
    mask = found.scheme.encode(Predictor.load(last, device="cpu")(find_cases(folder)[0]).label)
    for channel, region in enumerate(found.scheme.channels):
        if region != "background":
            (row,) = (one for one in scored if (one["subset"], one["region"]) == (subset, region))
            assert abs(int(mask[channel].sum()) - int(row["tp"]) - int(row["fp"])) <= 2, region
    assert main(["validate", f"--ckpt_path={last}", f"--root={cohort}", "--model.subsets=all"]) == 0
