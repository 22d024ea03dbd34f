"""What is typed wrongly for 3-D patches ends with one line that names the option, before any case is prepared."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.options import Sampling
from segan_pl.data.sample.samplers import ANYWHERE, PlanSampler, Pool
from segan_pl.errors import UsageError
from segan_pl.inference.inferer import Windows
from segan_pl.nets import reciprocal
from segan_pl.nets.albunet import AlbuNet
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_system
from tests.whole.test_three_dimensions import line

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]


@pytest.mark.parametrize(
    ("system", "given", "said"),
    [
        ("unet3d", ["data.batch_size=0"], r"--data.batch_size 0: expected at least 1"),
        ("unet3d", ["data.patch=[-8,16,16]"], r"--data.patch \[-8, 16, 16\]: expected at least 1 voxel a side"),
        ("unet3d", ["data.patch=[0,32,32]"], r"--data.patch \[0, 32, 32\]: expected at least 1 voxel a side"),
        (
            "unet3d",
            ["data.workers=-1"],
            r"--data.workers -1: expected auto, or at least 0, which loads in the training process",
        ),
        ("unet3d", ["data.sampling.per_case=0"], r"--data.sampling.per_case 0: expected at least 1"),
        ("unet3d", ["data.sampling.foreground=2"], r"--data.sampling.foreground 2.0: expected a share from 0 to 1"),
        (
            "albunet2d",
            ["data.sampling.per_case=7"],
            r"--data.sampling.per_case 7: batches 2 says how many patches there are; give --data.sampling.batches "
            r"null, or leave per_case out",
        ),
        ("unet3d", ["model.windows.overlap=1.5"], r"the windows' overlap 1.5: expected a share from 0 and below 1"),
        (
            "albunet3d",
            ["model.windows.overlap=0.25"],
            r"--model.windows.overlap 0.25: means nothing with the windows' step \(4, 16, 16\); give "
            r"--model.windows.step null, or leave it at overlap 0.5",
        ),
        (
            "reciprocal",
            ["model.windows.blend=constant", "model.windows.batch=2"],
            r"--model.windows.blend constant, --model.windows.batch 2: means nothing with the windows' whole 16; give "
            r"--model.windows.whole null, or leave it at blend gaussian, batch 1",
        ),
        (
            "albunet3d",
            ["model.windows.step=[5,16,16]"],
            r"the windows' step is \(5, 16, 16\), expected 1 up to the patch \(4, 32, 32\) an axis",
        ),
        (
            "unet2d",
            ["model.windows.overlap=0.25", "model.windows.blend=constant"],
            r"--model.windows.overlap, --model.windows.blend: of 3-D patches, but --data.patch is \[32, 32\]; leave "
            r"it out",
        ),
        (
            "albunet2d",
            ["data.batch_size=1"],
            r"--data.batch_size 1: a patch of \[1, 32, 32\] leaves the networks' batch norm one value for each "
            r"channel; give at least 2, or a larger --data.patch",
        ),
    ],
)
def test_a_mistyped_setting_is_refused_by_name_before_cases_are_prepared(
    system: str, given: list[str], said: str, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line(system, cohort, tmp_path / "cache", tmp_path / "run"), *(f"--{one}" for one in given)]) == 2
    errors = [one for one in capsys.readouterr().err.splitlines() if one.startswith("segan_pl: error: ")]
    assert len(errors) == 1
    assert re.fullmatch(f"segan_pl: error: .*{said}", errors[0]), errors[0]
    assert not (tmp_path / "cache").exists()


def test_what_an_old_run_says_of_windows_is_still_one() -> None:
    """Its file holds every default: an overlap with a step, and with a whole volume."""
    Windows(overlap=0.5, step=(2, 8, 8)).require_sense((4, 16, 16))
    Windows(overlap=0.5, whole=16).require_sense((4, 16, 16))
    Windows(overlap=0.25).require_sense((4, 16, 16))
    Windows().require_sense((16, 16))
    with pytest.raises(UsageError, match="means nothing with the windows' step"):
        Windows(overlap=0.25, step=(2, 8, 8)).require_sense((4, 16, 16))


def test_a_whole_volume_need_only_be_divided_by_the_segmentors_strides_which_alone_sees_it() -> None:
    system = AdversarialSegmentation(
        {
            "segmentor": partial(MonaiSegmentor, kind="UNet", width=4, levels=3),  # divides by 4
            "critic": partial(reciprocal.Critic, width=2, stride=2),  # divides by 8
        },
        SegAN(),
        modalities=["t1"],
        labels="regions",
        windows=Windows(whole=4),
    )
    system.require_patch((16, 16, 16))
    system.windows = Windows(whole=6)
    with pytest.raises(UsageError, match="whole 6: expected a multiple of 4, which the segmentor needs"):
        system.require_patch((16, 16, 16))


def test_scoring_refuses_windows_as_training_does() -> None:
    system = AdversarialSegmentation(
        {"segmentor": partial(MonaiSegmentor, kind="UNet", width=4, levels=3)},
        Supervised(),
        modalities=["t1"],
        labels="regions",
        windows=Windows(whole=16, overlap=0.9),
    )
    with pytest.raises(UsageError, match=r"overlap 0\.9: means nothing with the windows' whole 16"):
        system.require_windows((16, 16, 16))


def test_two_patches_are_needed_only_where_batch_norm_sees_one_value_a_channel() -> None:
    halving = AdversarialSegmentation(  # the sides five times, with batch norm
        {"segmentor": partial(AlbuNet, width=8, filters=2)}, Supervised(), modalities=["t1", "t2"], labels="regions"
    )
    assert [halving.least_batch(patch) for patch in ((1, 32, 32), (1, 64, 32), (4, 32, 32))] == [2, 1, 1]
    assert build_system(Supervised(), plain=True).least_batch((32, 32)) == 1


@pytest.mark.parametrize(("least", "sizes"), [(1, [5, 1]), (2, [5])])
def test_a_last_batch_that_cannot_be_trained_on_is_left_out(
    make_data: Callable[..., MRIDataModule], least: int, sizes: list[int]
) -> None:
    data = make_data(patch=(1, 32, 32), batch_size=5)  # of 6 training cases
    data.require_batch(least)
    data.prepare_data()
    data.setup("fit")
    assert [len(batch.image) for batch in data.train_dataloader()] == sizes


def test_ranks_share_a_last_batch_only_where_each_gets_enough() -> None:
    pool = Pool(np.arange(11, dtype=np.int32), np.full(11, ANYWHERE, np.int32), np.zeros(11, bool))
    made = [PlanSampler(pool, 4, sampling=Sampling(), least=least, rank=1, world_size=2) for least in (1, 2)]
    assert [[len(plan.case) for plan in one] for one in made] == [[4, 1], [4]]  # 11 = 8 + 3: one each, or left out


@pytest.mark.slow
def test_a_network_with_batch_norm_trains_where_a_single_patch_would_be_left(
    cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = line("albunet2d", cohort, prepared, tmp_path / "run")
    given = ["--data.sampling.batches=null", "--data.batch_size=5", "--trainer.max_epochs=1"]
    assert main([*fit, *given]) == 0
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 1
