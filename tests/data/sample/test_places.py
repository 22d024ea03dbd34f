"""Where patches lie: drawn to a channel first, and where there is enough of the brain, against plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segan_pl.data.labels import label_scheme
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.case_index import CaseIndex, labelled_voxels, opened
from segan_pl.data.sample.options import Augmentation, Sampling
from segan_pl.data.sample.patches import PatchDataset
from segan_pl.data.sample.samplers import ANYWHERE, OTHER_PLACES, Plan, PlanSampler, Pool
from segan_pl.errors import UsageError

pytest_plugins = ["tests.cohort_fixtures"]
MakeData = Callable[..., MRIDataModule]
SHAPE = (12, 14, 16)


def dataset(folder: Path, image: NDArray, label: NDArray | None, sampling: Sampling, **more: Any) -> PatchDataset:
    """One case with iSEG's tissues; what an earlier one left in the process's caches is forgotten."""
    opened.cache_clear()
    labelled_voxels.cache_clear()
    np.save(folder / "image.npy", image.astype(np.float16))
    if label is not None:
        np.save(folder / "label.npy", label)
    mask = None if label is None else folder / "label.npy"
    box = tuple(slice(0, n) for n in image.shape[1:])
    case = CaseIndex(folder / "image.npy", mask, tuple(range(len(image))), box, np.zeros((4, 2), np.int64), ())
    scheme = label_scheme("labels", "iseg")
    settings: dict[str, Any] = {"patch": (1, 1, 1), "augmentation": Augmentation(), "rows": [0], **more}
    return PatchDataset([case], scheme=scheme, sampling=sampling, **settings)


def drawn(sampling: Sampling, size: int, seed: int = 0, modality_dropout: float = 0.0) -> Plan:
    pool = Pool(np.zeros(size, np.int32), np.full(size, ANYWHERE, np.int32), np.zeros(size, bool))
    made = PlanSampler(pool, size, sampling=sampling, seed=seed, modality_dropout=modality_dropout)
    (plan,) = made
    return plan


def tissues(counts: dict[int, int]) -> NDArray[np.uint8]:
    """Labels of iSEG, so many voxels each, anywhere."""
    flat = np.zeros(int(np.prod(SHAPE)), np.uint8)
    places = np.random.default_rng(1).permutation(flat.size)
    for value, count in counts.items():
        flat[places[:count]], places = value, places[count:]
    return flat.reshape(SHAPE)


@pytest.mark.parametrize(
    ("of", "counts", "expected"),
    [
        ("voxels", {10: 15, 150: 600, 250: 385}, {10: 0.015, 150: 0.6, 250: 0.385}),
        ("channels", {10: 15, 150: 600, 250: 385}, {10: 1 / 3, 150: 1 / 3, 250: 1 / 3}),
        ("channels", {10: 1, 250: 800}, {10: 0.5, 250: 0.5}),  # a channel that the case lacks has no share
    ],
)
def test_a_voxel_of_each_channel_is_drawn_as_often_as_asked(
    tmp_path: Path, of: Any, counts: dict[int, int], expected: dict[int, float]
) -> None:
    label, sampling = tissues(counts), Sampling(per_case=1, foreground=1.0, foreground_of=of)
    batch = dataset(tmp_path, np.zeros((1, *SHAPE)), label, sampling)[drawn(sampling, 6000)]
    places = tuple(batch.origin.numpy().T)
    values, found = np.unique(label[places], return_counts=True)
    assert values.tolist() == sorted(expected)
    for value, count in zip(values.tolist(), found.tolist(), strict=True):
        share = expected[value]
        assert abs(count / 6000 - share) < 4 * (share * (1 - share) / 6000) ** 0.5
    if of == "channels":  # and within a channel all voxels alike
        assert len(np.unique(batch.origin.numpy(), axis=0)) > 0.9 * sum(counts.values())


@pytest.mark.parametrize("turned", [False, True])
def test_a_slice_that_is_drawn_to_a_voxel_holds_it_near_its_middle_and_the_others_lie_anywhere(
    tmp_path: Path, turned: bool
) -> None:
    """Patches of 160 x 160 in slices of 256 x 256, of which half hold no label; turned with nnU-Net's strengths."""
    z, y, x = np.indices((8, 256, 256))
    head = ((y - 128) / 100) ** 2 + ((x - 128) / 80) ** 2 < 1
    label = np.where(head & (z >= 2) & (z < 6), 150, 0).astype(np.uint8)
    strengths = {"rotation": 0.2, "rotation_deg": 180.0, "scaling": 0.2, "scale_range": (0.7, 1.4)} if turned else {}
    options = {"patch": (160, 160), "augmentation": Augmentation(**strengths)}  # type: ignore[arg-type]
    sampling = Sampling(per_case=1, foreground=0.5)
    data, plan = dataset(tmp_path, head[None], label, sampling, **options), drawn(sampling, 300)
    read = data.gather(data.ask(plan))
    wanted, corner = plan.foreground, read.origin.numpy()
    assert set(corner[wanted, 0]) == {2, 3, 4, 5}
    assert set(corner[~wanted, 0]) == set(range(8))
    voxels = labelled_voxels(tmp_path / "label.npy", (10, 150, 250))  # of iSEG
    picked = voxels[(plan.pick[wanted] * len(voxels)).astype(int)]
    away = np.abs(picked[:, 1:] - corner[wanted, 1:] - 80)
    assert np.median(away) == 0
    assert (away < 80).all(1).mean() > (0.97 if turned else 0.999)  # within the patch's own square
    for some in (corner[wanted], corner[~wanted]):
        assert min(some[:, 1:].std(0)) > 15  # of a place anywhere: 97 / sqrt(12), 28
    shown = data.augment(read).target[:, 1:].flatten(1).any(1).numpy()
    assert shown[wanted].all()
    assert 0.3 < shown[~wanted].mean() < 0.7


def test_a_case_without_any_scored_voxel_is_drawn_anywhere(tmp_path: Path) -> None:
    sampling = Sampling(per_case=1, foreground=1.0, foreground_of="channels")
    batch = dataset(tmp_path, np.zeros((1, *SHAPE)), np.zeros(SHAPE, np.uint8), sampling)[drawn(sampling, 200)]
    assert len(np.unique(batch.origin.numpy(), axis=0)) > 150


def test_the_other_draws_of_a_plan_are_the_same_with_either_option() -> None:
    """So runs without them are what they were, and what is hidden does not depend on them."""
    plain = drawn(Sampling(foreground=0.5), 40, modality_dropout=0.3)
    assert plain.others.shape == (40, 0, 3)
    for option in ({"foreground_of": "channels"}, {"brain": 0.2}):
        other = drawn(Sampling(foreground=0.5, **option), 40, modality_dropout=0.3)  # type: ignore[arg-type]
        for name, field in plain._asdict().items():
            if name != "others":
                np.testing.assert_array_equal(field, getattr(other, name))
    assert drawn(Sampling(brain=0.2), 40).others.shape == (40, OTHER_PLACES, 3)
    parts = [PlanSampler(_pool(40), 20, sampling=Sampling(brain=0.2), rank=rank, world_size=2) for rank in (0, 1)]
    joined = np.concatenate([next(iter(part)).others for part in parts])
    np.testing.assert_array_equal(joined, next(iter(PlanSampler(_pool(40), 40, sampling=Sampling(brain=0.2)))).others)


def _pool(size: int) -> Pool:
    return Pool(np.zeros(size, np.int32), np.full(size, ANYWHERE, np.int32), np.zeros(size, bool))


@pytest.mark.parametrize("background", [0.0, -1.0])
@pytest.mark.parametrize("patch", [(4, 5, 6), (5, 6)])
@pytest.mark.parametrize("labelled", [True, False])
def test_of_the_drawn_places_the_first_with_enough_of_the_brain_is_taken_else_the_fullest(
    tmp_path: Path, background: float, patch: tuple[int, ...], labelled: bool
) -> None:
    image = np.full((2, *SHAPE), background)
    image[0, 2:5, 3:6, 2:7], image[1, 3:7, 4:8, 5:9] = 0.5, 0.7  # seen in one modality or in the other
    brain = (image != background).any(0)
    sampling = Sampling(per_case=1, brain=0.3)
    label = tissues({10: 5, 150: 5, 250: 5}) if labelled else None
    data = dataset(tmp_path, image, label, sampling, patch=patch, background=background)
    plan = drawn(sampling, 300)
    if not labelled:
        plan = plan._replace(labelled=np.zeros(300, bool))
    size = (1, *patch) if len(patch) == 2 else patch
    chosen, firsts = [], []
    for b in range(300):
        corners = np.concatenate([plan.corner[b : b + 1], plan.others[b]])
        starts = [tuple(int(c * (n - p + 1)) for c, n, p in zip(one, SHAPE, size, strict=True)) for one in corners]
        shares = [brain[tuple(slice(s, s + p) for s, p in zip(one, size, strict=True))].mean() for one in starts]
        enough = [place for place, share in enumerate(shares) if share >= 0.3]
        chosen.append(starts[enough[0] if enough else int(np.argmax(shares))])
        firsts.append(starts[0])
    batch = data[plan]
    assert batch.origin.tolist() == [list(start) for start in chosen]
    assert sum(a != b for a, b in zip(chosen, firsts, strict=True)) > 100
    box = (batch.image != background).any(1).float().flatten(1).mean(1)
    assert float((box >= 0.3).float().mean()) > 0.6


def test_a_patch_that_is_drawn_to_a_voxel_stays_there_whatever_is_around_it(tmp_path: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[6, 7, 8] = 10
    sampling = Sampling(per_case=1, foreground=1.0, brain=0.9)
    batch = dataset(tmp_path, np.zeros((1, *SHAPE)), label, sampling, patch=(4, 4, 4))[drawn(sampling, 5)]
    assert batch.origin.tolist() == [[4, 5, 6]] * 5


def test_turned_patches_have_room_where_the_brain_is(tmp_path: Path) -> None:
    """The share is that of the patch itself; the box that a change needs stays inside the volume."""
    image = np.zeros((1, 24, 24, 24))
    image[:, 12:, 12:, 12:] = 1
    sampling = Sampling(per_case=1, brain=0.5)
    turning = Augmentation(rotation=1, rotation_deg=10)
    data = dataset(tmp_path, image, None, sampling, patch=(6, 6, 6), augmentation=turning)
    plan = drawn(sampling, 100)._replace(labelled=np.zeros(100, bool))
    filled = (data[plan].image > 0.5).float().flatten(1).mean(1)
    assert float((filled > 0.3).float().mean()) > 0.6


@pytest.mark.parametrize(
    ("sampling", "patch", "said"),
    [
        (Sampling(brain=0.2), (32, 32), r"--data\.sampling\.brain 0\.2: with --data\.patch \[32, 32\] every slice is"),
        (
            Sampling(foreground_of="channels"),
            (8, 8, 8),
            r"--data\.sampling\.foreground_of channels: --data\.sampling\.foreground draws no patch to a voxel; give",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(sampling: Sampling, patch: tuple[int, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sampling.require_sense(patch)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_the_brain_is_one(share: float) -> None:
    with pytest.raises(UsageError, match=r"--data\.sampling\.brain .*: expected a share from 0 to 1"):
        Sampling(brain=share)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_loader_that_goes_on_draws_the_rest_of_the_epoch(make_data: MakeData, workers: int) -> None:
    sampling = Sampling(batches=4, foreground=0.5, foreground_of="channels", brain=0.3)
    data = make_data(patch=(4, 16, 16), batch_size=3, sampling=sampling, n_labelled=3, labels="labels", workers=workers)
    data.prepare_data()
    data.setup("fit")
    whole = list(data.train_dataloader())
    resumed = data.train_dataloader()
    resumed.sampler.resume(0, 2)
    for before, after in zip(whole[2:], resumed, strict=True):
        assert all((one == other).all() for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("patch", [(16, 16), (4, 16, 16)])
@pytest.mark.parametrize("n_labelled", [None, 1, 4])
def test_with_batches_an_epoch_is_so_many_whatever_the_pools_hold(
    make_data: MakeData, patch: tuple[int, ...], n_labelled: int | None
) -> None:
    """So a schedule, which is stepped once an epoch, is the same for every number of labelled cases."""
    data = make_data(patch=patch, batch_size=4, sampling=Sampling(batches=5), n_labelled=n_labelled)
    data.prepare_data()
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [len(batch.labelled) for batch in batches] == [4] * 5
    assert [int(batch.labelled.sum()) for batch in batches] == [4 if n_labelled is None else 2] * 5
    assert len({tuple(batch.case.tolist()) for batch in batches}) > 1
