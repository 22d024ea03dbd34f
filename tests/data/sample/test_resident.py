"""Patches cut out of the device's memory are those that a loader reads of files, to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from segan_pl.batch import Batch
from segan_pl.data.layouts import find_cases
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample import resident
from segan_pl.data.sample.options import Augmentation, Sampling
from segan_pl.data.sample.resident import Asked, require_room
from segan_pl.errors import UsageError
from tests.cohort import QUIET, build_data, build_system, build_trainer
from tests.data.sample.test_augment_on import PATCHES, VARIED, loaded
from tests.training import test_within_epoch as within_epoch

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]


def require_equal(make_data: MakeData, settings: dict[str, Any]) -> list[Batch]:
    """The same batches by both ways, which are returned."""
    data = make_data(**settings, residency="device")
    asked = loaded(data)
    assert all(isinstance(one, Asked) for one in asked)
    found = [data.on_after_batch_transfer(one, 0) for one in asked]
    expected = loaded(make_data(**settings))
    assert expected
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, Batch)
        for field, same in zip(one, other, strict=True):
            assert field.dtype == same.dtype
            assert torch.equal(field, same)
    return found


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(mirror=(0.5, 0.5, 0.5)), VARIED])
@pytest.mark.parametrize("name", PATCHES)
def test_the_device_gives_what_files_give_to_the_bit(
    make_data: MakeData, name: str, augmentation: Augmentation
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        require_equal(make_data, {**PATCHES[name], "augmentation": augmentation})
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("scaling", ["percentile", "zscore"])
def test_patches_that_reach_beyond_a_volume_have_its_background(make_data: MakeData, scaling: Any) -> None:
    preparation = Preparation(crop=None, scaling=scaling, interval=(-1.0, 1.0) if scaling == "percentile" else (0, 1))
    settings = {"preparation": preparation, "patch": (8, 48, 48), "batch_size": 2, "sampling": Sampling(per_case=2)}
    found = require_equal(make_data, settings)
    corner = found[0].image[0, :, 0, 0, 0]
    assert torch.equal(corner, torch.full_like(corner, preparation.background))


def test_missing_modalities_and_unlabelled_cases_are_0(cohort: Path, tmp_path: Path) -> None:
    root = tmp_path / "gaps"
    shutil.copytree(cohort, root)
    cases = find_cases(root)
    for case in cases[:3]:
        case.images["t1ce"].unlink()
    settings = {"missing": "zero", "n_labelled": 3, "val_fraction": 0.0, "batch_size": 6}
    found = require_equal(partial(build_data, root, tmp_path / "cache"), settings)
    assert any(not batch.modality_mask.all() for batch in found)
    assert any(not batch.labelled.all() for batch in found)
    for batch in found:
        assert not batch.image[~batch.modality_mask].any()
        assert not batch.target[~batch.labelled].any()


def test_a_batch_whose_index_would_be_too_large_is_cut_out_in_parts(
    make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "MOST_INDEXED", 4 * 16 * 16)  # of one sample
    require_equal(make_data, {"patch": (16, 16), "batch_size": 5, "augmentation": VARIED})


@pytest.mark.slow
def test_places_pass_through_workers(make_data: MakeData) -> None:
    require_equal(make_data, {"workers": 2, "augmentation": VARIED})


def test_a_run_goes_on_within_an_epoch(make_data: MakeData, tmp_path: Path) -> None:
    whole = within_epoch.fit(tmp_path / "whole", make_data(residency="device"))
    middle = within_epoch.within(tmp_path / "whole", 0)
    parts = within_epoch.fit(tmp_path / "parts", make_data(residency="device"), checkpoint=middle)
    first, second = within_epoch.weights(whole), within_epoch.weights(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_memory_is_let_go_of_after_a_fit(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(residency="device")
    build_trainer(tmp_path, epochs=1).fit(build_system(), datamodule=data)
    assert data._trained is not None
    assert data._trained._resident is None


def test_the_loader_hands_over_no_voxels_of_batches_and_cases_as_ever(make_data: MakeData) -> None:
    data, resident_data = make_data(), make_data(residency="device")
    for one in (data, resident_data):
        one.prepare_data()
        one.setup("fit")
    assert data.loads().batch > 0
    assert resident_data.loads() == data.loads()._replace(batch=0)


def test_what_does_not_fit_is_refused_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 * 10**9, 16 * 10**9))
    require_room(12 * 10**9, 300, torch.device("cuda:1"))
    with pytest.raises(
        UsageError,
        match=r"--data.residency device: 1251 training cases take 35.2 GB, and cuda:1 has 12.0 GB free, of which the "
        r"step needs some, too; give --data.residency disk, or crop more \(--data.preparation.crop\)$",
    ):
        require_room(35_200_000_000, 1251, torch.device("cuda:1"))
