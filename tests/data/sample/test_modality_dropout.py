"""Modality dropout: how often what is hidden, that it costs runs without it nothing, and what a batch then holds."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
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
from segan_pl.data.sample.case_index import CaseIndex
from segan_pl.data.sample.changes import kept_modalities
from segan_pl.data.sample.options import Augmentation
from segan_pl.data.sample.patches import PatchDataset
from segan_pl.data.sample.samplers import Plan
from segan_pl.errors import UsageError

pytest_plugins = ["tests.cohort_fixtures"]

MakeData = Callable[..., MRIDataModule]


def drawn(size: int, modalities: int, chance: float, seed: int = 0) -> torch.Tensor:
    """(size, modalities) what stays of complete cases."""
    hide = np.random.default_rng(seed).random((size, modalities))
    return kept_modalities(torch.ones(size, modalities, dtype=torch.bool), hide, chance)


# -- draws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", [-0.1, 1.0, float("nan")])
def test_a_chance_that_would_hide_everything_or_is_none_is_refused(chance: float) -> None:
    with pytest.raises(UsageError, match="expected a chance from 0 to below 1"):
        Augmentation(modality_dropout=chance)


def test_dropout_of_a_single_modality_is_refused(make_data: MakeData) -> None:
    with pytest.raises(UsageError, match="the only modality, flair, always stays"):
        make_data(modalities=["flair"], augmentation=Augmentation(modality_dropout=0.5))


# -- what stays --------------------------------------------------------------------------------------------------------


def test_of_two_modalities_every_outcome_is_as_frequent_as_worked_by_hand() -> None:
    """All pairs of 20 x 20 draws, chance 0.4: 8 of 20 hide. Of the 64 pairs that hide both, the larger draw stays."""
    first, second = np.meshgrid((np.arange(20) + 0.25) / 20, (np.arange(20) + 0.75) / 20, indexing="ij")
    hide = np.stack([first.ravel(), second.ravel()], 1)
    kept = kept_modalities(torch.ones(400, 2, dtype=torch.bool), hide, 0.4)
    outcomes = {name: int((kept == torch.tensor(name)).all(1).sum()) for name in [(True, True), (True, False)]}
    assert outcomes == {(True, True): 12 * 12, (True, False): 12 * 8 + 28}  # 28 pairs with the first draw larger
    assert int((kept == torch.tensor([False, True])).all(1).sum()) == 8 * 12 + 36
    assert bool(kept.any(1).all())


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_of_four_modalities_numbers_that_stay_follow_the_binomial_with_none_counted_as_one(chance: float) -> None:
    size = 40_000
    kept = drawn(size, 4, chance)
    stay = 1 - chance
    binomial = [comb(4, k) * stay**k * chance ** (4 - k) for k in range(5)]
    expected = [0.0, binomial[0] + binomial[1], *binomial[2:]]
    found = np.bincount(kept.sum(1).numpy(), minlength=5) / size
    for share, other in zip(found, expected, strict=True):
        assert share == pytest.approx(other, abs=4.5 * np.sqrt(max(other * (1 - other), 1e-12) / size))
    each = kept.float().mean(0)  # no modality is favoured
    expected_each = stay + chance**4 / 4
    assert each.numpy() == pytest.approx(expected_each, abs=4.5 * 0.5 / np.sqrt(size))


def test_what_a_case_lacks_never_comes_back_and_its_last_modality_never_goes() -> None:
    present = torch.tensor([[True, False, False], [True, False, True], [False, True, True], [False, False, False]])
    hide = np.random.default_rng(0).random((500, 4, 3))
    for draws in hide:
        kept = kept_modalities(present, draws, 0.8)
        assert not (kept & ~present).any()
        assert torch.equal(kept.any(1), present.any(1))
        assert kept[0].tolist() == [True, False, False]


# -- batches -----------------------------------------------------------------------------------------------------------


def batches(data: MRIDataModule) -> list[Batch]:
    data.prepare_data()
    data.setup("fit")
    return list(data.train_dataloader())


@pytest.mark.parametrize("more", [{}, {"rotation": 1.0}, {"brightness": 1.0}], ids=["crop", "turn", "brightness"])
def test_hidden_modalities_are_zeros_and_said_to_be_absent_and_all_else_stays(
    make_data: MakeData, more: dict[str, float]
) -> None:
    settings = {"preparation": Preparation(crop=None, interval=(-1.0, 1.0)), "patch": (64, 64)}  # background is -1
    plain = batches(make_data(augmentation=Augmentation(**more), **settings))
    dropped = batches(make_data(augmentation=Augmentation(modality_dropout=0.5, **more), **settings))
    shown = torch.cat([batch.modality_mask for batch in dropped])
    assert 0.3 < shown.float().mean() < 0.8
    for before, after in zip(plain, dropped, strict=True):
        assert torch.equal(after.image, before.image * after.modality_mask[:, :, None, None])
        assert bool(before.image.flatten(2).any(2).all())
        for name in ("target", "case", "origin", "labelled"):
            assert torch.equal(getattr(before, name), getattr(after, name))


def indexed(folder: Path, name: str, image: NDArray, channels: tuple[int, ...] = (0, 1)) -> CaseIndex:
    np.save(folder / f"{name}.npy", image)
    np.save(folder / "label.npy", np.ones(image.shape[1:], np.uint8))
    box = tuple(slice(0, n) for n in image.shape[1:])
    return CaseIndex(folder / f"{name}.npy", folder / "label.npy", channels, box, np.zeros((1, 2), np.int64), (1,))


@pytest.mark.parametrize("lacking", [False, True], ids=["hidden", "absent"])
def test_voxels_of_a_modality_that_is_not_shown_do_not_reach_the_batch(tmp_path: Path, lacking: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((2, 4, 8, 8)).astype(np.float16)
    other = image.copy()
    other[0] = rng.random((4, 8, 8)) * 100
    augmentation = Augmentation(rotation=1, brightness=1, modality_dropout=0.5)
    channels, hide = (ABSENT, 1) if lacking else (0, 1), np.tile([[0.1, 0.9]], (4, 1))
    none, every = np.zeros(4, bool), np.ones(4, bool)
    case, z, corner, others = np.zeros(4, np.int64), np.arange(4), rng.random((4, 3)), np.zeros((4, 0, 3))
    plan = Plan(case, z, corner, none, hide[:, 0], np.arange(4), hide, every, others)
    scheme = label_scheme("whole_tumour")
    cases = [indexed(tmp_path, name, array, channels) for name, array in (("one", image), ("two", other))]
    one, two = (
        PatchDataset([case], scheme=scheme, patch=(6, 6), augmentation=augmentation, rows=[0])[plan] for case in cases
    )
    assert torch.equal(one.image, two.image)
    assert one.image[:, 1].any()
    assert one.modality_mask.tolist() == [[False, True]] * 4
