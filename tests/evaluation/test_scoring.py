"""A case's scores: every policy's table by hand, regions and conventions, what is handed in and what is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from segan_pl.data.case import CaseError
from segan_pl.data.labels import label_scheme
from segan_pl.evaluation.lesions import RULES, LesionRules
from segan_pl.evaluation.metrics.named import evaluation_metrics
from segan_pl.evaluation.policies import POLICIES, Counts
from segan_pl.evaluation.scoring import score_case, score_missing

NA = math.nan
REGIONS = label_scheme("regions", "brats2017")
UNIT = (1.0, 1.0, 1.0)
Labels = NDArray[np.uint8]


def labels(**boxes: tuple[int, int]) -> Labels:
    """(6, 8, 20) of label 1, 2 or 4: n2=(3, 9) sets label 2 in two slices and two rows from x = 3 to 8."""
    out = np.zeros((6, 8, 20), np.uint8)
    for name, (start, stop) in boxes.items():
        out[2:4, 3:5, start:stop] = int(name[1:])
    return out


def values(
    prediction: Labels, reference: Labels, policy: str = "segan_cat", lesions: LesionRules | None = None
) -> dict[str, float]:
    """Of the whole tumour."""
    metrics = evaluation_metrics(lesions=lesions)
    asked: dict[str, Any] = {"scheme": REGIONS, "regions": ["wt"], "policy": POLICIES[policy]}
    (found,) = score_case(prediction, reference, UNIT, metrics, **asked)
    return dict(found.values)


NOTHING, TUMOUR = labels(), labels(n2=(3, 9))
NAMES = ("dice", "iou", "precision", "sensitivity", "hd95_mm", "mean_surface_distance_mm", "surface_dice")
TABLE = {  # policy: both empty, only the reference, only the prediction; IoU and surface Dice as Dice, mean as HD95
    "segan_cat": ([NA] * 7, [0, 0, 0, NA, NA, NA, 0], [0, 0, NA, 0, NA, NA, 0]),
    "nnunet": ([NA] * 7, [0, 0, 0, NA, NA, NA, 0], [0, 0, NA, 0, NA, NA, 0]),
    "brats2018": ([1, 1, NA, 1, NA, NA, 1], [0, 0, 0, NA, NA, NA, 0], [0, 0, NA, 0, NA, NA, 0]),
    "brats2021": ([1, 1, NA, NA, 0, 0, 1], [0, 0, 0, NA, 373.13, 373.13, 0], [0, 0, NA, 0, 373.13, 373.13, 0]),
    "brats2023": ([1, 1, NA, 1, 0, 0, 1], [0, 0, 0, 0, 374, 374, 0], [0, 0, NA, 0, 374, 374, 0]),
    "reciprocal": ([1, 1, NA, NA, NA, NA, 1], [0, 0, 0, NA, NA, NA, 0], [0, 0, NA, 0, NA, NA, 0]),
}
PAIRS = ((NOTHING, NOTHING), (TUMOUR, NOTHING), (NOTHING, TUMOUR))


def test_every_policy_has_its_table() -> None:
    assert set(TABLE) == set(POLICIES)


@pytest.mark.parametrize("policy", TABLE)
@pytest.mark.parametrize("situation", range(3))
def test_empty_masks_score_what_the_policy_says(policy: str, situation: int) -> None:
    found = values(*PAIRS[situation], policy=policy)
    np.testing.assert_equal([found[name] for name in NAMES], [float(x) for x in TABLE[policy][situation]])
    assert found["specificity"] == pytest.approx(1 - 24 / 960 if situation == 1 else 1)


@pytest.mark.parametrize("policy", TABLE)
def test_what_is_not_empty_scores_the_same_under_every_policy(policy: str) -> None:
    other = labels(n2=(4, 10))
    assert values(other, TUMOUR, policy=policy) == values(other, TUMOUR)


def test_a_policy_is_stated_with_null_for_what_is_not_available() -> None:
    stated = POLICIES["brats2018"].as_dict()
    assert stated["both"] == {"dice": 1, "precision": None, "sensitivity": 1, "hd95_mm": None}
    assert POLICIES["brats2021"].describe() == (
        "brats2021: both empty: dice 1, precision n/a, sensitivity n/a, hd95_mm 0; only the reference: dice 0, "
        "precision 0, sensitivity n/a, hd95_mm 373.13; only the prediction: dice 0, precision n/a, sensitivity 0, "
        "hd95_mm 373.13"
    )


def test_a_distance_that_can_be_measured_is_no_policys() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        POLICIES["brats2021"].distance_mm("neither")


def test_all_scores_of_a_shifted_box_worked_by_hand() -> None:
    """Boxes of 2 x 2 x 6 voxels of 2 x 1 x 3 mm (x, y, z), shifted by one voxel along x: 20 of 24 voxels in common."""
    (found,) = score_case(labels(n2=(4, 10)), TUMOUR, (2.0, 1.0, 3.0), scheme=REGIONS, regions=["wt"])
    assert found.counts == Counts(20, 4, 4, 960 - 28)
    expected = {"dice": 20 / 24, "iou": 20 / 28, "precision": 20 / 24, "sensitivity": 20 / 24}
    expected |= {"specificity": 932 / 936, "reference_ml": 0.144, "prediction_ml": 0.144, "volume_difference_ml": 0}
    expected |= {"hd95_mm": 2, "mean_surface_distance_mm": 2 * 4 / 24, "surface_dice": 20 / 24}
    assert dict(found.values) == pytest.approx(expected)


def test_each_region_is_scored_by_its_own_labels() -> None:
    reference = labels(n2=(3, 12), n1=(5, 9), n4=(6, 8))
    prediction = labels(n2=(3, 12), n1=(5, 9))
    wt, tc, et = score_case(prediction, reference, UNIT, scheme=REGIONS)
    assert [score.region for score in (wt, tc, et)] == ["wt", "tc", "et"]
    assert wt.values["dice"] == tc.values["dice"] == 1
    assert et.counts == Counts(0, 0, 8, 952)
    assert et.counts.empty == "prediction"


def test_single_labels_are_regions_too() -> None:
    reference = labels(n2=(3, 12), n1=(5, 9))
    found = score_case(reference, reference, UNIT, scheme=label_scheme("labels", "brats2017"))
    assert [(s.region, s.counts.tp) for s in found] == [("necrosis", 16), ("oedema", 20), ("enhancing", 0)]


def test_a_prediction_in_another_convention_is_read_by_its_own() -> None:
    """Enhancing is 4 in the reference and 3 in the prediction; cavity is in one only."""
    reference, prediction = labels(n2=(3, 12), n4=(6, 8)), labels(n2=(3, 12), n3=(6, 8))
    theirs = label_scheme("regions", "brats2024")
    found = score_case(prediction, reference, UNIT, scheme=REGIONS, prediction_scheme=theirs)
    assert [score.values["dice"] for score in found] == [1, 1, 1]
    with pytest.raises(CaseError, match="'regions/brats2017' has no region 'rc'; expected one of wt, tc, et"):
        score_case(reference, prediction, UNIT, scheme=theirs, prediction_scheme=REGIONS)


def test_empty_space_around_changes_nothing_but_the_true_negatives() -> None:
    rng = np.random.default_rng(0)
    pair = [np.where(rng.random((7, 8, 9)) < 0.4, 4, 0).astype(np.uint8) for _ in range(2)]
    metrics = evaluation_metrics(lesions=RULES["men"], hd95="deepmind")
    (small, *_), (large, *_) = (
        score_case(*(np.pad(x, n) for x in pair), (1, 2, 1), metrics, scheme=REGIONS) for n in (0, 9)
    )
    assert large.counts[:3] == small.counts[:3]
    assert large.counts.tn > small.counts.tn
    for name in (metric.name for metric in metrics):
        if name != "specificity":
            assert large.values[name] == pytest.approx(small.values[name]), name


def test_a_single_slice_is_scored_by_its_contours_in_whatever_direction_it_lies() -> None:
    """Discs of radius 20 and 15: a contour is about 5 mm from the other, not 0 where one disc covers the other."""
    y, x = np.ogrid[:64, :64]
    discs = [((y - 32) ** 2 + (x - 32) ** 2 <= radius**2).astype(np.uint8) for radius in (15, 20)]
    cross = ndimage.generate_binary_structure(2, 1)
    edges = [(disc == 1) & ~ndimage.binary_erosion(disc, cross) for disc in discs]
    there, back = (ndimage.distance_transform_edt(~other)[one] for one, other in (edges, edges[::-1]))
    both = np.concatenate([there, back])
    assert both.mean() == pytest.approx(4.8, abs=0.1)
    for axis in range(3):
        prediction, reference = (np.expand_dims(disc, axis) for disc in discs)
        (found,) = score_case(prediction, reference, (1, 1, 1), scheme=label_scheme("whole_tumour", "binary"))
        assert found.values["mean_surface_distance_mm"] == pytest.approx(both.mean())
        assert found.values["surface_dice"] == pytest.approx(np.mean(both <= 1))
        assert found.values["hd95_mm"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))


def test_a_tumour_in_one_slice_of_a_volume_keeps_its_front_and_back() -> None:
    box = np.zeros((3, 9, 9), np.uint8)
    box[1, 1:8, 1:8] = 1
    smaller = box.copy()
    smaller[1, 1:8, 7] = 0
    (found,) = score_case(smaller, box, (1, 1, 1), scheme=label_scheme("whole_tumour", "binary"))
    assert found.values["mean_surface_distance_mm"] == pytest.approx(7 / (49 + 42))  # every voxel is surface


def test_lesions_are_scored_on_request_only() -> None:
    assert "lesion_dice" not in values(TUMOUR, TUMOUR)
    found = values(NOTHING, labels(n2=(3, 18)), lesions=RULES["gli"])
    lesions = {name: value for name, value in found.items() if name.startswith("lesion")}
    assert lesions == {
        **{"lesion_dice": 0, "lesion_hd95_mm": 374, "lesions_found": 0, "lesions_missed": 1, "lesions_false": 0}
    }


@pytest.mark.parametrize("reference", [TUMOUR, NOTHING])
def test_a_prediction_that_was_not_handed_in_fails_even_where_there_is_no_tumour(reference: Labels) -> None:
    asked: dict[str, Any] = {"scheme": REGIONS, "regions": ["wt"], "policy": POLICIES["brats2021"]}
    (found,) = score_missing(reference, UNIT, evaluation_metrics(lesions=RULES["met"]), **asked)
    for name in ("dice", "iou", "precision", "sensitivity", "specificity", "surface_dice", "lesion_dice"):
        assert found.values[name] == 0
    assert found.values["hd95_mm"] == found.values["mean_surface_distance_mm"] == 373.13
    assert found.values["lesion_hd95_mm"] == 374
    assert found.counts.fn == np.count_nonzero(reference)
    assert found.values["volume_difference_ml"] == pytest.approx(-np.count_nonzero(reference) / 1000)


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(CaseError, match=r"the prediction has shape \(20, 8, 5\), the reference \(20, 8, 6\)"):
        score_case(TUMOUR[:5], TUMOUR, UNIT, scheme=REGIONS)


def test_ignored_voxels_leave_both_masks_and_every_count() -> None:
    """Of the shifted boxes two slices of one row each are ignored where the prediction is false."""
    prediction, ignored = labels(n2=(4, 10)), np.zeros((6, 8, 20), bool)
    ignored[2:4, 3:5, 9] = True  # where the prediction leaves the tumour
    (found,) = score_case(prediction, TUMOUR, UNIT, scheme=REGIONS, regions=["wt"], ignored=ignored)
    assert found.counts == Counts(20, 0, 4, 960 - 4 - 24)
    cut = np.where(ignored, 0, prediction).astype(np.uint8)
    (other,) = score_case(cut, TUMOUR, UNIT, scheme=REGIONS, regions=["wt"])
    assert {**other.values, "specificity": 1} == {**found.values, "specificity": 1}
    (missing,) = score_missing(TUMOUR, UNIT, scheme=REGIONS, regions=["wt"], ignored=ignored)
    assert missing.counts == Counts(0, 0, 24, 960 - 4 - 24)
