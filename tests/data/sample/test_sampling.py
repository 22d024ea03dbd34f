"""Order, places and contents of batches of slices, against plain NumPy crops of the prepared arrays."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from segan_pl.batch import Batch
from segan_pl.data.case import PreparedCase
from segan_pl.data.labels import label_scheme
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample.options import Augmentation, Sampling
from segan_pl.data.sample.samplers import Plan, PlanSampler, Pool, SameEveryEpoch
from segan_pl.errors import UsageError
from tests.cohort import CROP, SHAPE

pytest_plugins = ["tests.cohort_fixtures"]

MakeData = Callable[..., MRIDataModule]
ALL = Augmentation(mirror=(0, 0.5, 0.5), rotation=1, rotation_deg=20, scaling=1, brightness=0.5, gamma=0.5)


def ready(data: MRIDataModule) -> MRIDataModule:
    data.prepare_data()
    data.setup("fit")
    return data


def batches(data: MRIDataModule, epoch: int = 0) -> list[Batch]:
    loader = ready(data).train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def table(filled: int = 20, empty: int = 0) -> Pool:
    size = filled + empty
    return Pool(np.zeros(size, np.int32), np.arange(size, dtype=np.int32), np.arange(size) >= filled)


def sampler(slices: Pool | None = None, batch_size: int = 6, empty: Any = "keep", **settings: Any) -> PlanSampler:
    return PlanSampler(slices or table(), batch_size, sampling=Sampling(empty=empty), **{"least": 2, **settings})


def plans(made: PlanSampler, epoch: int = 0) -> list[Plan]:
    made.set_epoch(epoch)
    found = list(made)
    assert len(found) == len(made)
    return found


def rows(found: list[Plan]) -> list[int]:
    return [int(row) for plan in found for row in plan.z]


def assert_same_plan(first: Plan, second: Plan) -> None:
    for mine, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_plans_are_a_function_of_seed_epoch_and_batch() -> None:
    for mine, other in zip(plans(sampler(seed=3), 5), plans(sampler(seed=3), 5), strict=True):
        assert_same_plan(mine, other)
    assert rows(plans(sampler(seed=3), 5)) != rows(plans(sampler(seed=3), 6))
    assert rows(plans(sampler(seed=3), 5)) != rows(plans(sampler(seed=4), 5))
    corners = [plan.corner.tobytes() for epoch in (0, 1) for plan in plans(sampler(), epoch)]
    assert len(set(corners)) == len(corners)


def test_a_sampler_read_twice_gives_the_same_epoch_again() -> None:
    made = sampler()
    assert rows(plans(made, 1)) == rows(plans(made, 1))


@pytest.mark.parametrize("epoch", [0, 2])
def test_overfitting_goes_on_within_an_epoch_and_the_next_ones_are_whole(epoch: int) -> None:
    whole, broken_off = plans(sampler()), sampler()
    broken_off.resume(epoch, 2)
    same = SameEveryEpoch(broken_off)
    for now, first in ((epoch, 2), (epoch + 1, 0), (epoch + 2, 0)):
        same.set_epoch(now)  # as Lightning does
        for before, after in zip(whole[first:], same, strict=True):
            assert_same_plan(before, after)


def test_every_slice_comes_once_an_epoch() -> None:
    found = plans(sampler())
    assert sorted(rows(found)) == list(range(20))
    assert [len(plan.z) for plan in found] == [6, 6, 6, 2]


def test_empty_slices_are_dropped_for_good() -> None:
    made = sampler(table(filled=10, empty=30), empty="drop")
    for epoch in range(3):
        assert sorted(rows(plans(made, epoch))) == list(range(10))


def test_as_many_empty_slices_as_others_are_drawn_anew_every_epoch() -> None:
    made = sampler(table(filled=10, empty=30), empty="balance")
    epochs = [rows(plans(made, epoch)) for epoch in range(3)]
    empty = [{row for row in epoch if row >= 10} for epoch in epochs]
    for epoch, drawn in zip(epochs, empty, strict=True):
        assert sorted(row for row in epoch if row < 10) == list(range(10))
        assert len(epoch) == 20
        assert len(drawn) == 10
    assert empty[0] != empty[1]


def test_balance_takes_all_empty_slices_where_they_are_few() -> None:
    assert sorted(rows(plans(sampler(table(filled=10, empty=3), 5, empty="balance")))) == list(range(13))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_joined_batch_and_its_draws(world: int) -> None:
    slices = table(12 * world + 2 * world)
    whole = plans(sampler(slices, 6 * world))
    shares = [plans(sampler(slices, rank=rank, world_size=world)) for rank in range(world)]
    for number, joined in enumerate(whole):
        parts = [share[number] for share in shares]
        assert_same_plan(joined, Plan(*(np.concatenate(field) for field in zip(*parts, strict=True))))


@pytest.mark.parametrize(
    ("size", "lengths"), [(16, [6, 2]), (15, [6]), (13, [6]), (11, [5]), (4, [2]), (3, []), (12, [6])]
)
def test_a_tail_is_cut_so_that_all_ranks_take_equal_parts_of_at_least_2(size: int, lengths: list[int]) -> None:
    for rank in (0, 1):
        assert [len(plan.z) for plan in plans(sampler(table(size), rank=rank, world_size=2))] == lengths


def test_batches_do_not_depend_on_the_number_of_workers(make_data: MakeData) -> None:
    alone, helped = (batches(make_data(workers=workers, augmentation=ALL), 2) for workers in (0, 2))
    assert len(alone) == len(helped) == 4
    for mine, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


def test_every_slice_of_every_training_case_is_served_once(make_data: MakeData) -> None:
    data = make_data()
    served = Counter(
        (int(case), int(at[0])) for batch in batches(data) for case, at in zip(batch.case, batch.origin, strict=True)
    )
    assert set(served.values()) == {1}
    assert set(served) == {(row, z) for row in data.rows("train") for z in range(SHAPE[0])}


def test_padding_is_never_sampled(make_data: MakeData) -> None:
    padded = make_data(preparation=type(CROP)(crop=(12, 48, 48)))  # 2 slices of padding at either end
    slices = [int(at[0]) for batch in batches(padded) for at in batch.origin]
    assert set(slices) == set(range(2, 10))
    assert len(slices) == len(padded.rows("train")) * SHAPE[0]


def by_hand(case: PreparedCase, z: int, corner: np.ndarray, patch: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The patch cut out of the slice set in a wide frame of zeros."""
    frame = 64
    image = np.pad(case.pixels(z), ((0, 0), (frame, frame), (frame, frame)))
    label = np.pad(case.label[z], frame)  # type: ignore[index]
    starts = []
    for u, size, wanted in zip(corner, case.label[z].shape, patch, strict=True):  # type: ignore[index]
        room = size - wanted
        starts.append(frame + (int(np.floor(u * (room + 1))) if room >= 0 else -(-room // 2)))
    box = tuple(slice(s, s + p) for s, p in zip(starts, patch, strict=True))
    return image[:, box[0], box[1]], label[box]


@pytest.mark.parametrize("patch", [(32, 32), (48, 48), (31, 17), (64, 32), (51, 80)])
def test_patches_are_crops_of_the_prepared_arrays_zero_outside_them(
    make_data: MakeData, patch: tuple[int, int]
) -> None:
    data = ready(make_data(patch=patch, modalities=["flair", "t1"]))
    loader = data.train_dataloader()
    for plan, batch in zip(loader.sampler, loader, strict=True):
        assert batch.image.dtype == torch.float16
        assert batch.image.shape == (len(plan.z), 2, *patch)
        for b, row in enumerate(batch.case):
            image, label = by_hand(data.open(int(row)), int(batch.origin[b, 0]), plan.corner[b, 1:], patch)
            np.testing.assert_array_equal(batch.image[b], image)
            np.testing.assert_array_equal(batch.target[b], label[None] > 0)


def test_origin_is_the_first_voxel_of_the_patch(make_data: MakeData) -> None:
    data = make_data()
    batch = batches(data)[0]
    for b, (z, y, x) in enumerate(batch.origin.tolist()):
        case = data.open(int(batch.case[b]))
        np.testing.assert_array_equal(batch.image[b], case.pixels(z, slice(y, y + 32), slice(x, x + 32)))


def test_flips_mirror_what_the_plain_patch_shows(make_data: MakeData) -> None:
    plain = batches(make_data())[0]
    for mirror, axes in (((0, 0, 1), [3]), ((1, 1, 0), [2]), ((0, 1, 1), [2, 3])):
        flipped = batches(make_data(augmentation=Augmentation(mirror=mirror)))[0]
        assert torch.equal(flipped.image, plain.image.flip(axes))
        assert torch.equal(flipped.target, plain.target.flip(axes))


def test_modalities_come_as_a_subset_in_the_order_asked_for(make_data: MakeData) -> None:
    every, some = batches(make_data())[0], batches(make_data(modalities=["flair", "t1ce"]))[0]
    assert torch.equal(some.image, every.image[:, [3, 1]])


def test_regions_and_labels_are_encoded_channel_by_channel(make_data: MakeData) -> None:
    data = make_data(labels="labels")
    batch = batches(data)[0]
    assert batch.target.shape[1] == 4
    assert torch.equal(batch.target.sum(1), torch.ones_like(batch.target[:, 0]))
    regions = batches(make_data(labels="regions"))[0].target.bool()
    assert torch.equal(regions[:, 0], batch.target[:, 1:].any(1))
    assert not (regions[:, 2] & ~regions[:, 1]).any()
    assert not (regions[:, 1] & ~regions[:, 0]).any()


def test_a_warped_mask_stays_binary_and_its_image_is_float32(make_data: MakeData) -> None:
    for batch in batches(make_data(augmentation=ALL, labels="regions")):
        assert batch.image.dtype == torch.float32
        assert batch.target.dtype == torch.uint8
        assert set(batch.target.unique().tolist()) <= {0, 1}


def test_the_dataset_of_many_cases_holds_no_voxel(make_data: MakeData) -> None:
    dataset = ready(make_data()).train_dataloader().dataset
    assert len(pickle.dumps(dataset)) < 10_000 < np.prod(SHAPE)


def test_the_dataset_of_whole_cases_carries_neither_the_data_module_nor_its_trainer(make_data: MakeData) -> None:
    data = ready(make_data())
    data.burden = lambda: None  # type: ignore[attr-defined] # cannot be pickled
    dataset = data.val_dataloader().dataset
    assert len(pickle.dumps(dataset)) < 5_000


def test_a_whole_case_is_one_item(make_data: MakeData) -> None:
    data = ready(make_data(preparation=CROP, modalities=["t2", "t1"]))
    found = list(data.val_dataloader())
    assert [int(batch.case) for batch in found] == data.rows("val")
    for batch in found:
        case = data.open(int(batch.case))
        assert batch.image.shape == (1, 2, 6, 40, 64)
        np.testing.assert_array_equal(batch.image[0], case.pixels())
        np.testing.assert_array_equal(batch.target[0], label_scheme("whole_tumour").encode(case.label))  # type: ignore[arg-type]
        assert batch.modality_mask.all()
        assert batch.labelled.all()


@pytest.mark.parametrize(
    "scaling",
    [{"scaling": "zscore"}, {"interval": (-1.0, 1.0)}, {"scaling": "none"}],
    ids=["z-scores", "-1 to 1", "native"],
)
def test_intensities_vary_and_padding_does_not(make_data: MakeData, scaling: dict[str, Any]) -> None:
    preparation = Preparation(crop=None, **scaling)
    plain, varied = (  # patches beyond the slices' 48 voxels
        batches(make_data(preparation=preparation, patch=(64, 64), augmentation=augmentation), 1)[0].image.float()
        for augmentation in (Augmentation(), Augmentation(brightness=1, gamma=1, gamma_range=(0.5, 2.0)))
    )
    background = preparation.background
    outside = (plain == background).all(1, keepdim=True).expand_as(plain)
    assert outside.float().mean() > 0.3
    assert (varied[outside] == background).all()
    assert not torch.isclose(plain[~outside], varied[~outside]).all()


def test_the_first_batchs_stream_is_not_that_of_the_order() -> None:
    """NumPy pads a seed with zeros: [seed, epoch] and [seed, epoch, 0] are one stream."""
    shared = np.random.default_rng([0, 0, 0]).random(5000)
    (first, *_) = plans(sampler())
    assert not np.isin(first.corner, shared).any()
    np.testing.assert_array_equal(first.corner, np.random.default_rng([0, 0, 1]).random((6, 3)))


@pytest.mark.parametrize("more", [{"per_case": 3}, {"batches": 4}, {"per_case": 2, "foreground": 1.0}])
def test_slices_are_drawn_like_volumes_where_a_number_of_them_is_asked_for(
    make_data: MakeData, more: dict[str, Any]
) -> None:
    data = make_data(sampling=Sampling(**more), batch_size=6)
    found = batches(data)
    assert {tuple(batch.image.shape[1:]) for batch in found} == {(4, 32, 32)}
    assert sum(len(batch.image) for batch in found) == (24 if "batches" in more else 6 * more["per_case"])
    if "foreground" in more:
        labelled = [bool((data.open(int(case)).label > 0).any()) for batch in found for case in batch.case]  # type: ignore[operator]
        middle = torch.cat([batch.target[:, 0].flatten(1).any(1) for batch in found])
        assert middle.tolist() == labelled
    for batch in found:
        for b, (z, y, x) in enumerate(batch.origin.tolist()):
            case = data.open(int(batch.case[b]))
            np.testing.assert_array_equal(batch.image[b], case.pixels(z, slice(y, y + 32), slice(x, x + 32)))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            {"sampling": Sampling(foreground=0.5)},
            r"--data.sampling.foreground 0.5: with --data.patch \[32, 32\] every slice is drawn once; give "
            r"--data.sampling.per_case or .batches too, or use --data.sampling.empty drop or balance$",
        ),
        (
            {"sampling": Sampling(empty="drop", per_case=2)},
            r"--data.sampling.empty drop: is for every slice once, and --data.sampling.per_case says how many patches "
            r"there are; use --data.sampling.foreground$",
        ),
        (
            {"sampling": Sampling(empty="balance"), "patch": (4, 8, 8)},
            r"--data.sampling.empty balance: is for every slice once, and --data.patch \[4, 8, 8\] draws volumes; use "
            r"--data.sampling.foreground$",
        ),
        (
            {"augmentation": Augmentation(mirror=(0.5, 0, 0))},
            r"--data.augmentation.mirror \[0.5, 0, 0\]: the chances are for z, y, x, and --data.patch \[32, 32\] has "
            r"no z to mirror; give one for y or x$",
        ),
        (
            {"augment_on": "device", "augmentation": Augmentation(modality_dropout=0.5)},
            r"--data.augment_on device: --data.augmentation varies nothing once a patch is read; give one of its "
            r"options, or leave --data.augment_on out$",
        ),
    ],
)
def test_options_that_would_do_nothing_with_these_patches_are_refused(
    make_data: MakeData, settings: dict[str, Any], error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        make_data(**settings)
