"""3-D patches against plain NumPy boxes of the prepared arrays."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from segan_pl.batch import Batch
from segan_pl.data.case import ABSENT, CaseError
from segan_pl.data.labels import label_scheme
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample.case_index import CANDIDATES, CaseIndex, Overlap, labelled_voxels, opened, read_box
from segan_pl.data.sample.options import Augmentation, Sampling
from segan_pl.data.sample.patches import PatchDataset
from segan_pl.data.sample.samplers import ANYWHERE, Plan, PlanSampler, Pool
from tests.cohort import CROP

pytest_plugins = ["tests.cohort_fixtures"]

MakeData = Callable[..., MRIDataModule]
VARIED = Augmentation(elastic=0.5, rotation=0.5, scaling=0.5, mirror=(0.5, 0.5, 0.5), noise=0.5)


def pool(cases: int, sampling: Sampling) -> Pool:
    rows = np.repeat(np.arange(cases, dtype=np.int32), sampling.per_case or 1)
    return Pool(rows, np.full(len(rows), ANYWHERE, np.int32), np.zeros(len(rows), bool))


def sampler(cases: int = 10, batch_size: int = 4, sampling: Sampling | None = None, **more: int) -> PlanSampler:
    sampling = sampling or Sampling()
    return PlanSampler(pool(cases, sampling), batch_size, sampling=sampling, **more)


def plans(made: PlanSampler, epoch: int = 0) -> list[Plan]:
    made.set_epoch(epoch)
    found = list(made)
    assert len(found) == len(made)
    return found


def joined(found: list[Plan]) -> tuple[bytes, ...]:
    return tuple(np.concatenate(parts).tobytes() for parts in zip(*found, strict=True))


def test_plans_are_a_function_of_seed_epoch_and_batch() -> None:
    assert joined(plans(sampler(seed=3), 5)) == joined(plans(sampler(seed=3), 5))
    assert joined(plans(sampler(seed=3), 5)) != joined(plans(sampler(seed=3), 6))
    assert joined(plans(sampler(seed=3), 5)) != joined(plans(sampler(seed=4), 5))
    assert pickle.loads(pickle.dumps(plans(sampler())[0])).case.tolist() == plans(sampler())[0].case.tolist()


def test_the_order_of_cases_and_every_batch_have_streams_of_their_own() -> None:
    """NumPy pads a seed with zeros: [seed, epoch] and [seed, epoch, 0] are one stream."""
    (order,) = plans(sampler(1000, 1000, Sampling(batches=1)))
    shared = np.random.default_rng([0, 0]).integers(1000, size=1000)
    np.testing.assert_array_equal(order.case, shared)
    both = plans(sampler(10, 100, Sampling(batches=2)))
    for plan in both:
        assert not np.isin(plan.corner, np.random.default_rng([0, 0]).random(5000)).any()
    assert not np.isin(both[0].corner, both[1].corner).any()


def test_an_epoch_has_so_many_patches_of_each_case() -> None:
    found = plans(sampler(10, 4, Sampling(per_case=3)))
    assert Counter(np.concatenate([plan.case for plan in found]).tolist()) == dict.fromkeys(range(10), 3)
    assert [len(plan.case) for plan in found] == [4] * 7 + [2]


def test_a_number_of_batches_draws_cases_at_random() -> None:
    found = plans(sampler(10, 4, Sampling(batches=50)))
    assert [len(plan.case) for plan in found] == [4] * 50
    counts = Counter(np.concatenate([plan.case for plan in found]).tolist())
    assert set(counts) == set(range(10))
    assert len(set(counts.values())) > 1


def test_ranks_share_the_joined_batches() -> None:
    alone = plans(sampler(11, 4, seed=1))
    ranks = [plans(sampler(11, 2, seed=1, rank=rank, world_size=2)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) == 3
    for whole, first, second in zip(alone, *ranks, strict=True):
        both = [np.concatenate(parts) for parts in zip(first, second, strict=True)]
        for field, other in zip(whole, both, strict=True):
            np.testing.assert_array_equal(field[: len(other)], other)  # 11 = 4 + 4 + 2 and one left out
    assert len(plans(sampler(1, 2, rank=0, world_size=2))) == 0


def test_a_share_is_centred_on_labelled_voxels() -> None:
    found = plans(sampler(1000, 100, Sampling(foreground=0.3)))
    assert 240 < sum(plan.foreground.sum() for plan in found) < 360  # 300 +- 4 standard deviations
    assert not any(plan.foreground.any() for plan in plans(sampler(100, 10)))


@pytest.mark.parametrize("wrong", [{"per_case": 0}, {"batches": 0}, {"foreground": 1.5}])
def test_senseless_sampling_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Sampling(**wrong)  # type: ignore[arg-type]


# -- places ------------------------------------------------------------------------------------------------------------


def written(
    folder: Path, image: np.ndarray, label: np.ndarray, real_box: tuple[slice, ...] | None = None, **more: Any
) -> PatchDataset:
    """A data set of one case; what an earlier one left in the process's caches is forgotten."""
    opened.cache_clear()
    labelled_voxels.cache_clear()
    np.save(folder / "image.npy", image.astype(np.float16))
    np.save(folder / "label.npy", label.astype(np.uint8))
    box = real_box or tuple(slice(0, n) for n in label.shape)
    case = CaseIndex(
        folder / "image.npy", folder / "label.npy", tuple(range(len(image))), box, np.zeros((1, 2), np.int64), (0, 1)
    )
    defaults: dict[str, Any] = {"patch": (4, 4, 4), "augmentation": Augmentation()}
    return PatchDataset([case], scheme=label_scheme("binary"), rows=[7], **{**defaults, **more})


def plan(size: int, corner: object = None, foreground: bool = False, seed: int = 0) -> Plan:
    rng = np.random.default_rng(seed)
    corners = rng.random((size, 3)) if corner is None else np.tile(np.asarray(corner, float), (size, 1))
    return Plan(
        np.zeros(size, np.int64),
        np.full(size, ANYWHERE),
        corners,
        np.full(size, foreground),
        rng.random(size),
        rng.integers(2**63, size=size),
        np.ones((size, 4)),
        np.ones(size, bool),
        np.zeros((size, 0, 3)),
    )


def test_patches_are_boxes_of_the_prepared_volume_and_reach_every_place_equally(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, label = rng.random((2, 6, 7, 9)), rng.random((6, 7, 9)) > 0.5
    data = written(tmp_path, image, label)
    batch = data[plan(3000)]
    for b in range(50):
        z, y, x = batch.origin[b].tolist()
        box = (slice(z, z + 4), slice(y, y + 4), slice(x, x + 4))
        np.testing.assert_array_equal(batch.image[b].numpy(), image.astype(np.float16)[(slice(None), *box)])
        np.testing.assert_array_equal(batch.target[b, 0].numpy(), label[box])
    for axis, places in enumerate((3, 4, 6)):
        counts = np.bincount(batch.origin[:, axis].numpy())
        assert len(counts) == places
        chi_square = ((counts - 3000 / places) ** 2 / (3000 / places)).sum()
        assert chi_square < 25  # 6 places: p = 0.0001
    assert batch.case.tolist() == [7] * 3000
    assert batch.modality_mask.all()


def test_padding_is_never_drawn_from_and_a_small_volume_lies_in_the_middle(tmp_path: Path) -> None:
    image = np.ones((1, 10, 10, 10))
    image[:, :2], image[:, :, 7:] = 0, 0  # padding: rows 2..9, 0..6
    data = written(tmp_path, image, image[0], (slice(2, 10), slice(0, 7), slice(0, 10)))
    assert (data[plan(200)].image == 1).all()
    small = written(tmp_path, np.ones((1, 3, 9, 9)), np.ones((3, 9, 9)), background=-1.0)
    batch = small[plan(1)]
    assert batch.origin[0, 0] == 0
    assert (batch.image[0, 0, 3] == -1).all()
    assert (batch.image[0, 0, :3] == 1).all()
    assert batch.target[0, 0, 3].sum() == 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_small_volume_lies_in_a_patch_where_it_lies_in_monais_window(tmp_path: Path, size: int) -> None:
    image = np.random.default_rng(0).random((1, size, 9, 9))
    data = written(tmp_path, image, image[0], patch=(4, 9, 9))
    shown: list[torch.Tensor] = []

    def looked(window: torch.Tensor) -> torch.Tensor:
        shown.append(window)
        return window

    sliding_window_inference(torch.from_numpy(image.astype(np.float16))[None], (4, 9, 9), 1, looked)
    np.testing.assert_array_equal(data[plan(1)].image.numpy(), shown[0].numpy())


def test_foreground_patches_hold_a_labelled_voxel_as_near_to_their_middle_as_the_volume_allows(tmp_path: Path) -> None:
    label = np.zeros((12, 12, 12))
    label[8, 3, 5] = 1
    data = written(tmp_path, np.zeros((1, 12, 12, 12)), label)
    batch = data[plan(5, foreground=True)]
    assert batch.origin.tolist() == [[6, 1, 3]] * 5
    assert (batch.target[:, 0, 2, 2, 2] == 1).all()
    label[:] = 0
    label[0, 11, 0] = 1

    corner = written(tmp_path, np.zeros((1, 12, 12, 12)), label)[plan(1, foreground=True)]
    assert corner.origin.tolist() == [[0, 8, 0]]  # pushed inside

    none = written(tmp_path, np.zeros((1, 12, 12, 12)), np.zeros((12, 12, 12)))
    assert len(np.unique(none[plan(50, foreground=True)].origin.numpy(), axis=0)) > 20  # nothing to centre on: anywhere


@pytest.mark.parametrize(("target", "found"), [("whole_tumour", [1]), ("regions", [1, 4]), ("labels", [1, 4])])
def test_foreground_is_what_the_scheme_scores_and_not_every_native_label(
    tmp_path: Path, target: str, found: list[int]
) -> None:
    """Under whole tumour the resection cavity, label 4 of BraTS 2024, is none; the same file serves all schemes."""
    label = np.zeros((12, 12, 12), np.uint8)
    label[2, 2, 2], label[9, 9, 9] = 1, 4
    data = written(tmp_path, np.zeros((1, 12, 12, 12)), label)
    labelled_voxels(data.cases[0].label, (1, 4))
    scheme = label_scheme(target, "brats2024")
    data = PatchDataset(data.cases, scheme=scheme, patch=(4, 4, 4), augmentation=Augmentation(), rows=[0])
    origins = np.unique(data[plan(50, foreground=True)].origin.numpy(), axis=0)
    assert origins.tolist() == [[0 if value == 1 else 7] * 3 for value in found]


def test_candidates_are_spread_over_all_labelled_voxels(tmp_path: Path) -> None:
    mask = np.ones((20, 20, 20), np.uint8)
    np.save(tmp_path / "label.npy", mask)
    found = labelled_voxels(tmp_path / "label.npy", (1,))
    assert len(found) == CANDIDATES
    assert found[0].tolist() == [0, 0, 0]
    assert found[-1].tolist() == [19, 19, 19]
    np.testing.assert_allclose(found.mean(0), 9.5, atol=0.2)


def test_turned_patches_have_no_empty_corner_where_the_volume_has_voxels(tmp_path: Path) -> None:
    turning = Augmentation(elastic=1, rotation=1, rotation_deg=15, scaling=1)
    for depth, shape in ((1, (9, 60, 60)), (6, (40, 60, 60))):
        data = written(tmp_path, np.ones((2, *shape)), np.ones(shape), patch=(depth, 16, 16), augmentation=turning)
        batch = data[plan(60)]
        assert batch.image.dtype == torch.float32
        assert float(batch.image.min()) > 0.999
        assert (batch.target == 1).all()


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_a_turned_slab_has_no_blank_voxel_in_a_thin_volume(tmp_path: Path, depth: int) -> None:
    turning = Augmentation(elastic=0.5, rotation=1, rotation_deg=15, scaling=0.5)
    ones = np.ones((1, 20, 120, 120))
    data = written(tmp_path, ones, ones[0], patch=(depth, 48, 48), augmentation=turning)
    batch = data[plan(20)]
    assert float(batch.image.min()) > 0.999
    assert (batch.target == 1).all()
    if depth < 16:
        assert len(batch.origin[:, 0].unique()) > 2


def test_a_magnified_patch_reaches_the_outermost_voxels_and_no_further(tmp_path: Path) -> None:
    z, y, x = np.indices((12, 40, 40))
    magnifying = Augmentation(scaling=1, scale_range=(0.5, 1.0))
    image = 1 + np.stack([z, y, x])
    data = written(tmp_path, image, np.ones((12, 40, 40)), patch=(8, 16, 16), augmentation=magnifying)
    batch = data[plan(1000)]
    magnified = batch.image[(batch.image[:, 2].amax((1, 2, 3)) - batch.image[:, 2].amin((1, 2, 3))) < 12]
    assert 240 < len(magnified) < 360  # a scale below 12 / 15: 60 % of one half
    for axis, last in enumerate((12, 40, 40)):
        assert 1 - 1e-4 <= float(magnified[:, axis].min()) < 1.6
        assert last - 0.6 < float(magnified[:, axis].max()) <= last + 1e-4
        assert float(magnified[:, axis].mean()) == pytest.approx((1 + last) / 2, rel=0.1)
    assert (batch.target == 1).all()


def test_beyond_the_volume_a_turned_patch_holds_the_background(tmp_path: Path) -> None:
    turning = Augmentation(elastic=1, rotation=1, scaling=1)
    image = np.full((1, 10, 10, 10), -3.0)
    data = written(tmp_path, image, np.ones((10, 10, 10)), patch=(8, 16, 16), background=-3.0, augmentation=turning)
    batch = data[plan(5)]
    assert (batch.target == 0).any()  # it reaches beyond
    torch.testing.assert_close(batch.image, torch.full_like(batch.image, -3.0))


def test_a_foreground_patch_holds_the_labelled_voxel_in_its_middle_after_a_turn_too(tmp_path: Path) -> None:
    label = np.zeros((30, 60, 60))
    label[14:17, 29:32, 29:32] = 1
    turning = Augmentation(rotation=1, scaling=1)
    data = written(tmp_path, np.zeros((1, 30, 60, 60)), label, patch=(4, 16, 16), augmentation=turning)
    batch = data[plan(20, foreground=True)]
    assert batch.target[:, 0, 1:3, 7:9, 7:9].flatten(1).any(1).all()
    spread = batch.origin - torch.tensor([13, 22, 22])
    assert int(spread.abs().max()) <= 1  # candidates are 3 x 3 x 3


def test_a_modality_that_a_case_lacks_takes_no_part_in_the_intensities_of_the_others(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((2, 8, 8, 8))
    varied = Augmentation(brightness=1, gamma=1, inverted_gamma=1, noise=1, blur=1, blur_modality=1.0)
    data = written(tmp_path, image, np.ones((8, 8, 8)), augmentation=varied)
    both = data[plan(4)]
    data.cases = [data.cases[0]._replace(channels=(ABSENT, 1))]
    data.modality_mask = torch.tensor([[False, True]])
    alone = data[plan(4)]
    assert torch.equal(both.image[:, 1], alone.image[:, 1])
    assert both.image[:, 0].any()
    assert not alone.image[:, 0].any()


def test_image_and_label_turn_together(tmp_path: Path) -> None:
    z, y, x = np.indices((24, 24, 24))
    ball = ((z - 11) ** 2 + (y - 13) ** 2 + (x - 12) ** 2 < 50).astype(float)
    turning = Augmentation(elastic=1, rotation=1, scaling=1, mirror=(0.5, 0.5, 0.5))
    data = written(tmp_path, ball[None], ball, patch=(16, 16, 16), augmentation=turning)
    batch = data[plan(20)]
    agree = (batch.image[:, 0] > 0.5) == (batch.target[:, 0] > 0)
    assert float(agree.float().mean()) > 0.98
    assert len({tuple(one) for one in batch.origin.tolist()}) > 10


def test_mirroring_is_the_flipped_box(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((1, 4, 4, 4))
    data = written(tmp_path, image, image[0] > 0.5, augmentation=Augmentation(mirror=(1, 0, 1)))
    batch = data[plan(1)]
    np.testing.assert_array_equal(batch.image[0].numpy(), image.astype(np.float16)[:, ::-1, :, ::-1])
    np.testing.assert_array_equal(batch.target[0, 0].numpy(), (image[0] > 0.5)[::-1, :, ::-1])
    assert batch.image.dtype == torch.float16


def test_the_seed_of_the_plan_decides_everything(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((2, 12, 12, 12))
    data = written(tmp_path, image, np.ones((12, 12, 12)), augmentation=VARIED)
    first, again, other = data[plan(6)], data[plan(6)], data[plan(6, seed=1)]
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("start", [(4, 0, 0), (0, -2, 0), (-9, 0, 9)])
def test_of_a_box_outside_the_volume_nothing_is_read(start: tuple[int, int, int]) -> None:
    out = np.full((2, 2, 2, 2), np.nan)
    box = Overlap.of([slice(0, 4)] * 3, start, (2, 2, 2))
    read_box(np.ones((2, 4, 4, 4)), box, out, [1], [1], outside=-1.0)
    assert not box.whole
    assert (out[0] == 0).all()
    assert (out[1] == -1).all()


@pytest.mark.parametrize("start", [(0, 0, 0), (1, 2, 0), (-1, 0, 1), (2, 3, -1)])
@pytest.mark.parametrize(("rows", "to"), [([0, 1], [0, 1]), ([1, 0], [0, 1]), ([1], [0])])
def test_a_box_holds_the_voxels_of_the_volume_and_else_what_is_outside(
    start: tuple[int, int, int], rows: list[int], to: list[int]
) -> None:
    volume = np.random.default_rng(0).random((2, 4, 5, 3))
    out = np.full((2, 3, 3, 2), np.nan)
    read_box(volume, Overlap.of([slice(0, n) for n in volume.shape[1:]], start, (3, 3, 2)), out, rows, to, outside=-1.0)
    padded = np.pad(volume, [(0, 0), *[(3, 3)] * 3], constant_values=-1.0)
    box = tuple(slice(3 + first, 3 + first + n) for first, n in zip(start, (3, 3, 2), strict=True))
    expected = np.zeros_like(out)
    for row, channel in zip(rows, to, strict=True):
        expected[channel] = padded[(row, *box)]
    assert np.array_equal(out, expected)


# -- the data module ---------------------------------------------------------------------------------------------------


def batches(data: MRIDataModule, epoch: int = 0) -> list[Batch]:
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_the_module_serves_patches_alike_with_any_number_of_workers(make_data: MakeData) -> None:
    settings = {"patch": (4, 16, 16), "batch_size": 4, "augmentation": VARIED, "preparation": CROP}
    alone = batches(make_data(**settings))
    assert [tuple(batch.image.shape) for batch in alone] == [(4, 4, 4, 16, 16), (2, 4, 4, 16, 16)]
    for mine, other in zip(alone, batches(make_data(**settings, workers=2)), strict=True):
        for field, same in zip(mine, other, strict=True):
            assert torch.equal(field, same)


def test_every_voxel_of_an_unvaried_batch_is_the_prepared_cases(make_data: MakeData) -> None:
    data = make_data(patch=(3, 8, 8), batch_size=6, preparation=Preparation(crop=None))
    (batch,) = batches(data)
    for b in range(6):
        case = data.open(int(batch.case[b]))
        z, y, x = batch.origin[b].tolist()
        box = (slice(z, z + 3), slice(y, y + 8), slice(x, x + 8))
        np.testing.assert_array_equal(batch.image[b].numpy(), case.image[(list(case.channels), *box)])


def test_more_ranks_than_patches_are_refused(make_data: MakeData, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(patch=(4, 8, 8), batch_size=1)
    data.prepare_data()
    data.setup("fit")
    monkeypatch.setattr("segan_pl.data.module.ranks_of", lambda trainer: {"rank": 0, "world_size": 7})
    with pytest.raises(CaseError, match="6 training patches make no batch for 7 ranks, expected at least 1 a rank"):
        data.train_dataloader()
