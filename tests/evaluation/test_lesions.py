"""Lesion-wise scores: the rules' corner cases by hand, and a plain reading of the rules as an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from segan_pl.evaluation.lesions import RULES, LesionRules, dilated, lesion_scores, lesions_of
from segan_pl.evaluation.surface import elements, weighted_hd95_mm

SHAPE = (14, 14, 40)
UNIT = (1.0, 1.0, 1.0)
GLI, MET = RULES["gli"], RULES["met"]
Mask = NDArray[np.bool_]


def boxes(*spans: tuple[int, int], z: int = 4, y: int = 4) -> Mask:
    """One box each of z x y x (stop - start) voxels; 4 x 4 x 4 is 64 mm3, more than the 50 that leave the table."""
    mask = np.zeros(SHAPE, bool)
    for start, stop in spans:
        mask[5 : 5 + z, 5 : 5 + y, start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("name", "dilations", "least"),
    [("gli", 3, 50), ("ssa", 3, 50), ("ped", 3, 50), ("men", 1, 50), ("met", 1, 2)],
)
def test_the_challenges_rules_are_the_fact_sheets(name: str, dilations: int, least: float) -> None:
    assert RULES[name] == LesionRules(name, dilations, least)


def test_a_perfect_prediction_scores_1_and_0() -> None:
    mask = boxes((4, 8), (20, 24))
    assert lesion_scores(mask, mask, UNIT, GLI) == (1, 0, 2, 0, 0)


def test_a_missed_lesion_adds_0_and_374() -> None:
    assert lesion_scores(boxes((4, 8)), boxes((4, 8), (20, 24)), UNIT, GLI) == (0.5, 187, 1, 1, 0)


@pytest.mark.parametrize(("gap", "rules", "joined"), [(6, GLI, True), (7, GLI, False), (2, MET, True), (3, MET, False)])
def test_lesions_whose_dilations_touch_are_one(gap: int, rules: LesionRules, joined: bool) -> None:
    """Of one lesion of 128 voxels half is found: Dice 2/3; of two lesions one is missed."""
    reference = boxes((4, 8), (8 + gap, 12 + gap))
    assert lesions_of(reference, rules.dilations).max() == (1 if joined else 2)
    found = lesion_scores(boxes((4, 8)), reference, UNIT, rules)
    if joined:
        assert found.dice == pytest.approx(2 * 64 / (64 + 128))
        assert found[2:] == (1, 0, 0)
    else:
        assert found == (0.5, 187, 1, 1, 0)


def test_a_prediction_across_two_lesions_belongs_to_both() -> None:
    """One component of 20 voxels' length over lesions of 4 each: Dice 2 * 4 / (4 + 20), twice."""
    found = lesion_scores(boxes((4, 24)), boxes((4, 8), (20, 24)), UNIT, GLI)
    assert found.dice == pytest.approx(2 * 4 / 24)
    assert found[2:] == (2, 0, 0)
    assert found.hd95_mm > 10


def test_a_prediction_beside_a_lesion_but_in_its_dilation_belongs_to_it() -> None:
    """Without a voxel in common: Dice 0 with a finite distance, and nothing is missed or false."""
    found = lesion_scores(boxes((10, 14)), boxes((4, 8)), UNIT, GLI)
    assert found.dice == 0
    assert 0 < found.hd95_mm < 10
    assert found[2:] == (1, 0, 0)
    assert lesion_scores(boxes((11, 15)), boxes((4, 8)), UNIT, GLI) == (0, 374, 0, 1, 1)


def test_the_components_that_meet_a_lesion_are_scored_together() -> None:
    """Two parts of 3 in a lesion of 8: Dice 2 * 6 / (8 + 6)."""
    found = lesion_scores(boxes((4, 7), (9, 12)), boxes((4, 12)), UNIT, GLI)
    assert found.dice == pytest.approx(12 / 14)
    assert found[2:] == (1, 0, 0)


@pytest.mark.parametrize("predicted", [[], [(20, 21)]])
def test_a_small_lesion_leaves_the_table_found_or_not(predicted: list[tuple[int, int]]) -> None:
    """5 x 5 x 2 = 50 mm3 is small; the prediction that meets only it is not false."""
    reference = boxes((20, 22), z=5, y=5)
    assert lesion_scores(boxes(*predicted), reference, UNIT, GLI) == (1, 0, 0, 0, 0)
    large = boxes((4, 8))
    assert lesion_scores(boxes((4, 8), *predicted), reference | large, UNIT, GLI) == (1, 0, 1, 0, 0)


def test_a_lesion_of_one_voxel_more_than_the_least_counts() -> None:
    reference = boxes((20, 22), z=5, y=5)
    reference[4, 5, 20] = True
    assert lesion_scores(boxes(), reference, UNIT, GLI) == (0, 374, 0, 1, 0)


@pytest.mark.parametrize(("rules", "shape"), [(MET, (1, 1, 2)), (GLI, (5, 5, 2))])
def test_a_lesion_of_the_least_volume_leaves_under_any_orientation(
    rules: LesionRules, shape: tuple[int, int, int]
) -> None:
    """Column norms of a rotation in single precision are 1 but for the last digits."""
    reference = np.zeros(SHAPE, bool)
    reference[3 : 3 + shape[0], 3 : 3 + shape[1], 3 : 3 + shape[2]] = True
    assert np.count_nonzero(reference) == rules.least_mm3
    for seed in range(20):
        rotation = Rotation.random(random_state=seed).as_matrix().astype(np.float32)
        z, y, x = np.linalg.norm(rotation.astype(np.float64), axis=0)
        assert lesion_scores(np.zeros_like(reference), reference, (z, y, x), rules) == (1, 0, 0, 0, 0)


def test_the_least_volume_is_in_mm3_not_voxels() -> None:
    reference = boxes((20, 22), z=5, y=5)
    assert lesion_scores(boxes(), reference, (1, 1, 1.1), GLI).missed == 1
    assert lesion_scores(boxes(), boxes((4, 8)), (0.5, 1, 1), GLI).missed == 0


def test_a_false_lesion_counts_whatever_its_volume() -> None:
    prediction = boxes((4, 8))
    prediction[0, 0, 39] = True
    assert lesion_scores(prediction, boxes((4, 8)), UNIT, GLI) == (0.5, 187, 1, 0, 1)
    prediction[0, 13, 39] = True
    found = lesion_scores(prediction, boxes((4, 8)), UNIT, GLI)
    assert found == pytest.approx((1 / 3, 2 * 374 / 3, 1, 0, 2))


def test_empty_masks_score_what_the_rules_say() -> None:
    empty, full = boxes(), boxes((4, 8))
    assert lesion_scores(empty, empty, UNIT, GLI) == (1, 0, 0, 0, 0)
    assert lesion_scores(full, empty, UNIT, GLI) == (0, 374, 0, 0, 1)
    assert lesion_scores(empty, full, UNIT, GLI) == (0, 374, 0, 1, 0)


def test_voxels_that_share_only_a_corner_are_one_component() -> None:
    prediction = boxes((4, 8))
    prediction[9, 9, 8] = True  # beyond the box's last corner
    found = lesion_scores(prediction, boxes((4, 8)), UNIT, GLI)
    assert found[2:] == (1, 0, 0)
    assert found.dice == pytest.approx(2 * 64 / (64 + 65))


@pytest.mark.parametrize("times", [0, 1, 3])
def test_dilation_is_scipys_with_18_neighbours(times: int) -> None:
    mask = np.random.default_rng(0).random((9, 10, 11)) < 0.01
    mask[0, 0, 0] = True
    structure = ndimage.generate_binary_structure(3, 2)
    expected = ndimage.binary_dilation(mask, structure, iterations=times) if times else mask
    np.testing.assert_array_equal(dilated(mask, times), expected)


def by_the_rules(prediction: Mask, reference: Mask, spacing: tuple[float, float, float], rules: LesionRules) -> tuple:
    """Lesion by lesion over whole volumes, as the fact sheet says it, without a short cut."""
    near, touching = ndimage.generate_binary_structure(3, 2), np.ones((3, 3, 3))
    grown = ndimage.binary_dilation(reference, near, iterations=rules.dilations)
    lesions = ndimage.label(grown, touching)[0] * reference
    components, count = ndimage.label(prediction, touching)
    used, dices, distances = set(), [], []
    for number in range(1, lesions.max() + 1):
        lesion = lesions == number
        met = set(components[ndimage.binary_dilation(lesion, near, iterations=rules.dilations)].tolist()) - {0}
        used |= met
        if lesion.sum() * np.prod(spacing) <= rules.least_mm3:
            continue
        mine = np.isin(components, list(met))
        dices.append(2 * (mine & lesion).sum() / (mine.sum() + lesion.sum()))
        pair = (elements(mine, spacing), elements(lesion, spacing))
        distances.append(weighted_hd95_mm(*pair, spacing) if met else 374)
    false = count - len(used)
    total = len(dices) + false
    return (sum(dices) / total, (sum(distances) + 374 * false) / total, false) if total else (1, 0, 0)


@pytest.mark.parametrize("rules", [LesionRules("ours", 2, 20), MET])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_rules_read_plainly(seed: int, rules: LesionRules) -> None:
    """Ragged masks with many parts, at the border too, on voxels of 2 x 1 x 1.5 mm."""
    rng, spacing = np.random.default_rng(seed), (2.0, 1.0, 1.5)
    smooth = ndimage.gaussian_filter(rng.normal(size=(24, 40, 50)), 1.2)
    other = smooth + ndimage.gaussian_filter(rng.normal(size=smooth.shape), 1.2) * 0.7
    reference, prediction = (field > np.quantile(field, 0.99) for field in (smooth, other))
    found = lesion_scores(prediction, reference, spacing, rules)
    assert found.found + found.missed > 2
    assert (found.dice, found.hd95_mm, found.false) == pytest.approx(
        by_the_rules(prediction, reference, spacing, rules)
    )
