"""Modality dropout of 3-D patches: runs without it are what they were; what is hidden is zeros and never read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segan_pl.batch import Batch
from segan_pl.data.case import ABSENT
from segan_pl.data.labels import label_scheme
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample import case_index, patches
from segan_pl.data.sample.case_index import CaseIndex
from segan_pl.data.sample.changes import kept_modalities
from segan_pl.data.sample.options import Augmentation, Sampling
from segan_pl.data.sample.patches import PatchDataset
from segan_pl.data.sample.samplers import ANYWHERE, Plan, PlanSampler, Pool
from segan_pl.errors import UsageError

pytest_plugins = ["tests.cohort_fixtures"]

MakeData = Callable[..., MRIDataModule]
FIELDS = ("case", "corner", "foreground", "pick", "seed")
DROPOUT = Augmentation(modality_dropout=0.5)
TURNED = Augmentation(elastic=0.5, rotation=1, mirror=(0.5, 0.5, 0.5))
VARIED = Augmentation(
    brightness=1, gamma=1, inverted_gamma=1, noise=1, noise_range=(0.1, 0.2), blur=1, blur_modality=0.5
)


def digest(arrays: Iterable[NDArray]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


def pool(sampling: Sampling) -> Pool:
    """Ten cases."""
    rows = np.repeat(np.arange(10, dtype=np.int32), sampling.per_case or 1)
    return Pool(rows, np.full(len(rows), ANYWHERE, np.int32), np.zeros(len(rows), bool))


def plans(epoch: int, sampling: Sampling, **more: float) -> list[Plan]:
    made = PlanSampler(pool(sampling), 4, sampling=sampling, seed=7, **more)  # type: ignore[arg-type]
    made.set_epoch(epoch)
    return list(made)


# -- draws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_plans_but_for_what_is_hidden_are_those_without_dropout(dropout: float) -> None:
    """Recorded, so that a change of what a seed draws is seen; batch n's stream is [seed, epoch, 1 + n]."""
    more = {"modalities": 4, "modality_dropout": dropout}
    found = plans(2, Sampling(per_case=3, foreground=0.4), **more)
    assert digest(getattr(plan, name) for plan in found for name in FIELDS) == "5d22d3a586daee7336ce04865a552092"
    found = plans(3, Sampling(batches=5), **more, rank=1, world_size=2)
    assert digest(getattr(plan, name) for plan in found for name in FIELDS) == "b33d06a7f5140ab50889d3d84d70403f"


def test_without_dropout_no_random_number_is_drawn_for_it() -> None:
    for dropout in (0.0, 0.5):
        made = PlanSampler(pool(Sampling()), 4, sampling=Sampling(), modalities=3, modality_dropout=dropout)
        rng, other = np.random.default_rng(5), np.random.default_rng(5)
        plan = made._draw(made.pool, np.arange(6), 0, 6, rng)
        assert plan.hide.shape == (6, 3)
        assert bool((plan.hide == 1).all()) == (dropout == 0)
        other.random((6, 3)), other.random(6), other.random(6), other.integers(2**63, size=6)
        if dropout:
            np.testing.assert_array_equal(plan.hide, other.random((6, 3)))
        assert rng.random() == other.random()


def test_what_is_hidden_follows_from_seed_epoch_and_batch_and_is_shared_by_ranks() -> None:
    sampling = Sampling(per_case=2)
    more = {"modalities": 4, "modality_dropout": 0.3}
    hidden = [plan.hide for plan in plans(1, sampling, **more)]
    for one, other in zip(hidden, [plan.hide for plan in plans(1, sampling, **more)], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(hidden[0], plans(2, sampling, **more)[0].hide)
    assert not np.array_equal(hidden[0], hidden[1])
    halves = []
    for rank in (0, 1):
        made = PlanSampler(pool(sampling), 2, sampling=sampling, seed=7, rank=rank, world_size=2, **more)  # type: ignore[arg-type]
        made.set_epoch(1)
        halves.append([plan.hide for plan in made])
    for whole, first, second in zip(hidden, *halves, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate([first, second]))


# -- batches -----------------------------------------------------------------------------------------------------------


def written(folder: Path, image: NDArray, channels: tuple[int, ...], **more: object) -> PatchDataset:
    """A data set of one case."""
    case_index.opened.cache_clear()
    case_index.labelled_voxels.cache_clear()
    np.save(folder / "image.npy", image.astype(np.float16))
    label = np.zeros(image.shape[1:], np.uint8)
    label[5, 2, 6] = 1
    np.save(folder / "label.npy", label)
    box = tuple(slice(0, int(n)) for n in image.shape[1:])
    case = CaseIndex(folder / "image.npy", folder / "label.npy", channels, box, np.zeros((1, 2), np.int64), (0, 1))
    settings: dict[str, object] = {"augmentation": Augmentation(), "background": -1.0, **more}
    scheme = label_scheme("binary")
    return PatchDataset([case], scheme=scheme, patch=(4, 4, 4), rows=[0], **settings)  # type: ignore[arg-type]


def plan(hide: NDArray[np.float64], foreground: bool = False) -> Plan:
    size, rng = len(hide), np.random.default_rng(0)
    corner, pick, seed = rng.random((size, 3)), rng.random(size), rng.integers(2**63, size=size)
    case, z, drawn = np.zeros(size, np.int64), np.full(size, ANYWHERE), np.full(size, foreground)
    return Plan(case, z, corner, drawn, pick, seed, hide, np.ones(size, bool), np.zeros((size, 0, 3)))


@pytest.mark.parametrize("augmentation", [Augmentation(), TURNED], ids=["plain", "turned"])
def test_a_hidden_modality_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augmentation: Augmentation
) -> None:
    image = np.random.default_rng(0).random((3, 8, 8, 8))
    data = written(tmp_path, image, (2, 0, ABSENT), augmentation=replace(augmentation, modality_dropout=0.5))
    read: list[list[int]] = []
    read_box = patches.read_box

    def counted(volume: NDArray, *where: object) -> None:
        if len(volume) == 3:  # the image; the label has one channel
            read.append(list(where[2]))  # type: ignore[call-overload]
        read_box(volume, *where)  # type: ignore[arg-type]

    monkeypatch.setattr(patches, "read_box", counted)
    batch = data[plan(np.array([[0.9, 0.9, 0.9], [0.1, 0.9, 0.9], [0.9, 0.1, 0.9], [0.2, 0.1, 0.9]]))]
    assert read == [[2, 0], [0], [2], [2]]  # rows of the file; of the last both would go, and the larger draw stays
    assert batch.modality_mask.int().tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert not batch.image[~batch.modality_mask].any()
    assert bool(batch.image[batch.modality_mask].flatten(1).any(1).all())


def batches(data: MRIDataModule) -> list[Batch]:
    data.prepare_data()
    data.setup("fit")
    return list(data.train_dataloader())


@pytest.mark.parametrize("augmentation", [Augmentation(), TURNED, VARIED], ids=["plain", "turned", "intensities"])
def test_dropout_only_puts_zeros_where_it_hides(make_data: MakeData, augmentation: Augmentation) -> None:
    settings = {
        "preparation": Preparation(crop=None, interval=(-1.0, 1.0)),  # background is -1
        "patch": (12, 16, 64),  # deeper and wider than the volumes
        "batch_size": 4,
        "sampling": Sampling(per_case=3, foreground=0.5),
    }
    plain, dropped = (
        batches(make_data(**settings, augmentation=replace(augmentation, modality_dropout=dropout)))
        for dropout in (0.0, 0.5)
    )
    shown = torch.cat([batch.modality_mask for batch in dropped])
    assert 0.3 < shown.float().mean() < 0.8
    assert bool(shown.any(1).all())
    for before, after in zip(plain, dropped, strict=True):
        assert bool(before.modality_mask.all())
        assert bool(before.image.flatten(2).any(2).all())
        assert torch.equal(after.image, torch.where(after.modality_mask[:, :, None, None, None], before.image, 0))
        for name in ("target", "case", "origin", "labelled"):
            assert torch.equal(getattr(before, name), getattr(after, name)), name


def test_the_choice_of_foreground_does_not_look_at_what_is_hidden(tmp_path: Path) -> None:
    data = written(tmp_path, np.ones((2, 9, 9, 9)), (0, 1), augmentation=DROPOUT)
    hide = np.array([[0.9, 0.9], [0.1, 0.9], [0.9, 0.1]])
    assert data[plan(hide, foreground=True)].origin.tolist() == [[3, 0, 4]] * 3


def test_workers_hide_the_same(make_data: MakeData) -> None:
    settings = {"patch": (4, 16, 16), "batch_size": 4, "augmentation": replace(VARIED, modality_dropout=0.5)}
    alone = batches(make_data(**settings))
    assert not all(batch.modality_mask.all() for batch in alone)
    for one, other in zip(alone, batches(make_data(**settings, workers=2)), strict=True):
        for field, same in zip(one, other, strict=True):
            assert torch.equal(field, same)


def test_patches_of_the_module_hide_as_slices_do(make_data: MakeData) -> None:
    data = make_data(patch=(4, 8, 8), batch_size=6, augmentation=replace(DROPOUT, modality_dropout=0.3), seed=4)
    (batch,) = batches(data)
    (drawn,) = data.train_dataloader().sampler
    everything = torch.ones(6, 4, dtype=torch.bool)
    assert torch.equal(batch.modality_mask, kept_modalities(everything, drawn.hide, 0.3))


def test_dropout_of_a_single_modality_is_refused_with_patches_too(make_data: MakeData) -> None:
    with pytest.raises(UsageError, match="the only modality, flair, always stays"):
        make_data(patch=(4, 8, 8), modalities=["flair"], augmentation=DROPOUT)
