"""Counts and overlap scores against plain NumPy, MONAI and torchmetrics; empty masks against the fact sheet's table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from segan_pl.evaluation.metrics.named import CHEAP
from segan_pl.evaluation.policies import POLICIES, Counts, EmptyPolicy, mean_available
from segan_pl.evaluation.scoring import score_counts
from segan_pl.evaluation.volumes import confusion

METRICS = ("dice", "precision", "sensitivity", "specificity")

NA = math.nan


def scores(counts: Counts, policy: EmptyPolicy) -> dict[str, float]:
    (found,) = score_counts({"wt": counts}, (1, 1, 1), CHEAP, policy=policy)  # type: ignore[arg-type]
    return dict(found.values)


QUIET = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def masks(channels: int = 3, density: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask, target = (torch.rand(2, channels, 4, 9, 11, generator=generator) < density).unbind(0)
    return mask, target


def test_counts_are_those_of_numpy() -> None:
    mask, target = masks()
    found = confusion(mask, target.to(torch.uint8))
    assert found.dtype == torch.int64
    for channel, (m, t) in enumerate(zip(mask.numpy(), target.numpy(), strict=True)):
        expected = [(m & t).sum(), (m & ~t).sum(), (~m & t).sum(), (~m & ~t).sum()]
        assert found[channel].tolist() == expected


def test_counts_worked_by_hand() -> None:
    mask, target = torch.tensor([[1, 1, 1, 0, 0, 0]]).bool(), torch.tensor([[1, 0, 0, 1, 0, 0]])
    assert confusion(mask, target).tolist() == [[1, 2, 1, 2]]
    found = scores(Counts(1, 2, 1, 2), POLICIES["segan_cat"])
    assert found == pytest.approx({"dice": 0.4, "precision": 1 / 3, "sensitivity": 0.5, "specificity": 0.5})


def our_scores(mask: Tensor, target: Tensor) -> list[dict[str, float]]:
    return [scores(Counts(*row), POLICIES["segan_cat"]) for row in confusion(mask, target).tolist()]


@QUIET
def test_scores_are_monais() -> None:
    from monai.metrics import compute_confusion_matrix_metric, compute_dice, get_confusion_matrix

    mask, target = masks()
    found = our_scores(mask, target)
    dice = compute_dice(mask[None].float(), target[None].float(), include_background=True)[0]
    matrix = get_confusion_matrix(mask[None].float(), target[None].float(), include_background=True)
    names = {"precision": "precision", "sensitivity": "sensitivity", "specificity": "specificity"}
    for channel, row in enumerate(found):
        assert row["dice"] == pytest.approx(float(dice[channel]))
        for ours, theirs in names.items():
            value = compute_confusion_matrix_metric(theirs, matrix)[0, channel]
            assert row[ours] == pytest.approx(float(value))


@QUIET
def test_scores_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional import classification as theirs

    mask, target = masks()
    pairs = {
        "dice": theirs.binary_f1_score,
        "precision": theirs.binary_precision,
        "sensitivity": theirs.binary_recall,
        "specificity": theirs.binary_specificity,
    }
    for channel, row in enumerate(our_scores(mask, target)):
        for name, score in pairs.items():
            assert row[name] == pytest.approx(float(score(mask[channel].int(), target[channel].int())))


EMPTY = {  # the fact sheet's table: Dice, precision, sensitivity
    ("segan_cat", "both"): (NA, NA, NA),
    ("segan_cat", "reference"): (0, 0, NA),
    ("segan_cat", "prediction"): (0, NA, 0),
    ("nnunet", "both"): (NA, NA, NA),
    ("nnunet", "reference"): (0, 0, NA),
    ("nnunet", "prediction"): (0, NA, 0),
    ("brats2018", "both"): (1, NA, 1),
    ("brats2018", "reference"): (0, 0, NA),
    ("brats2018", "prediction"): (0, NA, 0),
}
SITUATIONS = {
    "both": Counts(0, 0, 0, 9),
    "reference": Counts(0, 4, 0, 5),
    "prediction": Counts(0, 0, 4, 5),
    "neither": Counts(0, 4, 4, 1),
}


@pytest.mark.parametrize(("policy", "situation"), EMPTY)
def test_empty_masks_score_what_the_policy_says(policy: str, situation: str) -> None:
    counts = SITUATIONS[situation]
    assert counts.empty == situation
    found = scores(counts, POLICIES[policy])
    expected = [float(value) for value in EMPTY[policy, situation]]
    np.testing.assert_equal([found[name] for name in METRICS[:3]], expected)
    assert found["specificity"] == pytest.approx({"both": 1, "reference": 5 / 9, "prediction": 1}[situation])


@pytest.mark.parametrize("policy", POLICIES)
def test_two_masks_that_miss_each_other_score_0_under_every_policy(policy: str) -> None:
    found = scores(SITUATIONS["neither"], POLICIES[policy])
    assert found == {"dice": 0, "precision": 0, "sensitivity": 0, "specificity": pytest.approx(0.2)}


def test_a_mask_that_fills_the_volume_has_no_specificity() -> None:
    assert math.isnan(scores(Counts(9, 0, 0, 0), POLICIES["segan_cat"])["specificity"])


def test_the_mean_leaves_out_what_is_not_available_and_says_how_many_are() -> None:
    assert mean_available([0.5, NA, 1.0]) == (0.75, 2)
    mean, number = mean_available([NA, NA])
    assert math.isnan(mean)
    assert number == 0
    assert mean_available([]) == (pytest.approx(NA, nan_ok=True), 0)
    assert mean_available([0.1] * 10)[0] == 0.1
