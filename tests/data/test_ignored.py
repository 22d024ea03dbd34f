"""Labels that are not judged, from the mask to the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample.options import Sampling
from segan_pl.data.synthetic.healthy import healthy_case, healthy_labels, make_healthy_cohort

SHAPE = (16, 32, 32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mrbrains")
    make_healthy_cohort(root, form="mrbrains13", subjects=4, shape=SHAPE)
    return root


@pytest.fixture
def module(root: Path, tmp_path: Path) -> Callable[..., MRIDataModule]:
    def make(**options: object) -> MRIDataModule:
        asked = {"labels": "labels", "patch": [32, 32], "preparation": Preparation(crop=None, scaling="none")}
        data = MRIDataModule(
            str(root), modalities=["t1", "t1_ir"], cache_dir=str(tmp_path), workers=0, **{**asked, **options}
        )
        data.prepare_data()
        data.setup("fit")
        return data

    return make


def mask_of(name: str) -> np.ndarray:
    return healthy_labels(healthy_case(int(name.removeprefix("training_")) - 1, shape=SHAPE)[1], "mrbrains13_training")


def test_the_target_is_below_0_in_all_channels_of_an_ignored_voxel_and_nowhere_else(module) -> None:
    data = module()
    for batch in data.val_dataloader():
        ignored = torch.from_numpy(np.isin(mask_of(data.cases[int(batch.case)].name), (7, 8)))
        assert batch.target.dtype == torch.int8
        assert ignored.any()
        assert (batch.target[0][:, ignored] == -1).all()
        assert (batch.target[0][:, ~ignored].sum(0) == 1).all()
    batch = next(iter(data.train_dataloader()))
    assert batch.target.dtype == torch.int8
    assert ((batch.target == -1).all(1) | (batch.target.sum(1) == 1)).all()


def test_a_patch_is_never_drawn_to_an_ignored_voxel(module) -> None:
    data = module(patch=[1, 1, 1], sampling=Sampling(per_case=40, foreground=1.0), batch_size=10)
    targets = torch.cat([batch.target for batch in data.train_dataloader()])
    assert len(targets) == 3 * 40
    assert (targets[:, 1:].sum(1) == 1).all()  # each a voxel of a tissue


def test_a_slice_of_ignored_voxels_alone_is_empty(root: Path, module) -> None:
    kept = module(labels="only:csf", sampling=Sampling(empty="drop"), batch_size=1)
    drawn = {(int(b.case), int(b.origin[0, 0])) for b in kept.train_dataloader()}
    masks = {row: mask_of(kept.cases[row].name) for row in {case for case, _ in drawn}}
    assert all(np.isin(masks[case][z], (5, 6)).any() for case, z in drawn)
    assert len(drawn) == sum(int(np.isin(mask, (5, 6)).any((1, 2)).sum()) for mask in masks.values())


def test_what_the_crop_left_out_is_counted_without_them(module) -> None:
    data = module(preparation=Preparation(crop=(8, 16, 16), scaling="none"))
    for row, case in enumerate(data.cases):
        if case.name not in (*data.split.train, *data.split.val):
            continue
        mask, left_out = mask_of(case.name), np.ones(SHAPE, bool)
        left_out[4:12, 8:24, 8:24] = False
        judged = left_out & ~np.isin(mask, (7, 8))
        inside = [np.isin(mask, members)[judged].sum() for members in data.scheme.members]
        np.testing.assert_array_equal(data.outside(row)[:, 0], inside)
        np.testing.assert_array_equal(data.outside(row).sum(1), judged.sum())
