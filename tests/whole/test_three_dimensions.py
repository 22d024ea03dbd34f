"""3-D systems and baselines from files to files: fit, go on, and predict what validation scored."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.layouts import find_cases
from segan_pl.experiments.shipped import find_config
from segan_pl.inference.predictor import Predictor
from tests.cohort import CASES, QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

BASELINES = ("unet", "segresnet", "dynunet")
SMALL = {
    "reciprocal": ["networks.segmentor.init_args.width=4", "networks.critic.init_args.width=2"],
    "reciprocal_code": ["networks.segmentor.init_args.width=4"],
    "reciprocal_ours": ["networks.segmentor.init_args.width=4", "networks.critic.init_args.width=2"],
    "albunet3d": [
        *(
            "networks.segmentor.init_args.width=4",
            "networks.segmentor.init_args.filters=2",
            "networks.segmentor.init_args.pretrained=null",
        ),
        "windows.step=[4,16,16]",
    ],
    "albunet2d": [
        *(
            "networks.segmentor.init_args.width=4",
            "networks.segmentor.init_args.filters=2",
            "networks.segmentor.init_args.pretrained=null",
        ),
        "windows.step=[1,16,16]",
    ],
    **{
        f"{name}3d": ["networks.segmentor.init_args.width=8", "networks.segmentor.init_args.levels=3"]
        for name in BASELINES
    },
    **{
        f"{name}2d": ["networks.segmentor.init_args.width=8", "networks.segmentor.init_args.levels=3"]
        for name in BASELINES
    },
    "unet25d": ["networks.segmentor.init_args.width=8", "networks.segmentor.init_args.levels=3"],
    **{
        name: [
            "networks.segmentor.init_args.width=8",
            "networks.segmentor.init_args.levels=3",
            "networks.critic.init_args.width=4",
        ]
        for name in ("unet2d_critic", "unet3d_critic")
    },
}
PATCH = {
    **{f"{name}2d": "[32,32]" for name in BASELINES},
    "unet2d_critic": "[32,32]",
    "unet25d": "[5,16,16]",
    "reciprocal_code": "[16,16,16]",
    "albunet3d": "[4,32,32]",
    "albunet2d": "[1,32,32]",
}


def line(system: str, cohort: Path, prepared: Path, run: Path) -> list[str]:
    return [
        *("fit", "--config", str(find_config(system)), f"--root={cohort}", f"--data.cache_dir={prepared}"),
        *(f"--model.{setting}" for setting in SMALL[system]),
        *(f"--data.patch={PATCH.get(system, '[8,16,16]')}", "--data.batch_size=2", "--data.val_fraction=0.25"),
        *("--data.stratify_by=[]", "--data.prepare_workers=1", f"--run.directory={run}", "--run.preview_every=0"),
        *(["--data.sampling.batches=2"] if system.startswith("albunet") else []),
        *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false"),
    ]


def rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as file:
        return {(row["case"], row["region"]): row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize("system", SMALL)
def test_a_system_runs_goes_on_and_predicts_what_it_scored(
    system: str, cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    fit = line(system, cohort, prepared, run)
    assert main([*fit, "--trainer.max_epochs=1"]) == 0
    assert main([*fit, "--trainer.max_epochs=2"]) == 0
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 1
    best = next(path for path in (run / "checkpoints").iterdir() if path.name.startswith("epoch"))
    epoch = int(best.name[5:9])
    split = json.loads((run / "split.json").read_text())
    scored = rows(run / "scores" / f"val_epoch_{epoch:04d}.csv")
    assert {case for case, _ in scored} == set(split["val"])
    predictor = Predictor.load(best, device="cpu")
    for case in (one for one in find_cases(cohort) if one.name in split["val"]):
        mask = predictor.scheme.encode(predictor(case).label)
        for channel, region in zip(mask, predictor.scheme.channels, strict=True):
            if region != "background":
                row = scored[case.name, region]
                assert abs(int(channel.sum()) - int(row["tp"]) - int(row["fp"])) <= 2, (case.name, region)
    assert main(["predict", f"--ckpt_path={best}", f"--root={cohort}", f"--output={tmp_path / 'masks'}"]) == 0
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == CASES


def test_a_patch_that_the_strides_do_not_divide_is_refused_axis_by_axis(
    cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = line("albunet3d", cohort, prepared, tmp_path / "run")
    fit = [part if not part.startswith("--data.patch") else "--data.patch=[3,48,32]" for part in fit]
    assert main(fit) == 2
    assert "--data.patch [3, 48, 32]: the networks need multiples of [1, 32, 32]; nearest" in capsys.readouterr().err


def test_slabs_in_which_no_slice_has_its_neighbours_are_refused_before_cases_are_prepared(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = line("unet25d", cohort, tmp_path / "cache", tmp_path / "run")
    assert main([part if not part.startswith("--data.patch") else "--data.patch=[4,16,16]" for part in fit]) == 2
    assert "the image is 4 slices deep, fewer than the 5 that a slice is seen with; give" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_pretrained_weights_that_cannot_be_had_end_a_new_run_at_once(
    cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = line("albunet3d", cohort, prepared, tmp_path / "run")
    missing = f"--model.networks.segmentor.init_args.pretrained={tmp_path / 'none.pth'}"
    assert main([part if "pretrained" not in part else missing for part in fit]) == 2
    assert "none.pth: no such file; give imagenet, or a .pth or .safetensors file" in capsys.readouterr().err


def test_a_whole_volume_that_the_strides_do_not_divide_is_refused_before_anything_runs(
    cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line("reciprocal", cohort, prepared, tmp_path / "run"), "--model.windows.whole=12"]) == 2
    assert "--model.windows.whole 12: expected a multiple of 8, which the segmentor needs" in capsys.readouterr().err
