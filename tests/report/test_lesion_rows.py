"""Lesions one by one, against the counts of the challenge's rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segan_pl.evaluation.lesions import RULES, Lesion, each_lesion, lesion_scores
from segan_pl.report.lesion_rows import recall_rows

SPACING = (2.0, 1.0, 1.0)


def masks() -> tuple[np.ndarray, np.ndarray]:
    """A lesion of 5 voxels a side that is found whole, one of 4 that is missed, a false component of 3."""
    reference, prediction = np.zeros((2, 40, 40, 40), bool)
    reference[2:7, 2:7, 2:7] = prediction[2:7, 2:7, 2:7] = True
    reference[20:24, 20:24, 20:24] = True
    prediction[33:36, 2:5, 33:36] = True
    return prediction, reference


def test_each_lesion_has_its_volume_dice_and_a_voxel_of_its_own() -> None:
    prediction, reference = masks()
    found, missed, false = each_lesion(prediction, reference, SPACING, RULES["gli"])
    assert found == Lesion(0.25, 1.0, True, (4, 4, 4))
    assert (missed.volume_ml, missed.dice, missed.found) == (0.128, 0.0, False)
    assert reference[missed.voxel]
    assert (false.volume_ml, false.found) == (0.054, None)
    assert math.isnan(false.dice)
    assert prediction[false.voxel]


@pytest.mark.parametrize("seed", range(5))
def test_they_add_up_to_the_scores_of_the_case(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, prediction = (rng.random((2, 20, 24, 24)) < 0.02).astype(bool)
    reference = np.repeat(np.repeat(reference, 2, 1), 2, 2)
    prediction = np.repeat(np.repeat(prediction, 2, 1), 2, 2)
    rules = RULES["met"]
    lesions, scores = (one(prediction, reference, SPACING, rules) for one in (each_lesion, lesion_scores))
    assert sum(one.found is True for one in lesions) == scores.found
    assert sum(one.found is False for one in lesions) == scores.missed
    assert sum(one.found is None for one in lesions) == scores.false
    assert sum(one.dice for one in lesions if one.found is not None) / len(lesions) == pytest.approx(scores.dice)


def test_empty_masks_have_no_lesion() -> None:
    empty = np.zeros((4, 4, 4), bool)
    assert each_lesion(empty, empty, SPACING, RULES["gli"]) == []


def test_recall_is_by_size_and_false_components_are_in_none() -> None:
    lesions = [
        Lesion(0.05, 0.0, False, (0, 0, 0)),
        Lesion(0.1, 0.5, True, (0, 0, 0)),
        Lesion(0.5, 0.0, False, (0, 0, 0)),
        Lesion(250.0, 0.9, True, (0, 0, 0)),
        Lesion(0.5, math.nan, None, (0, 0, 0)),
    ]
    assert recall_rows("a", "wt", lesions) == [
        ["a", "WT", "0 to 0.1", "1", "0", "0 %", "0.000"],
        ["a", "WT", "0.1 to 1", "2", "1", "50 %", "0.250"],
        ["a", "WT", "from 100", "1", "1", "100 %", "0.900"],
    ]
