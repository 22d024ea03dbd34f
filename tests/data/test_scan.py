"""Cases that are unlike the training cases, by spacing, axes, skull and intensities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from segan_pl.data.geometry import target_geometry
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.scan import Scan, scan_of, seen, unlike

FIRST = Scan((1.0, 1.0, 1.0), "LPS", 2.0, {"t1": 0.6, "flair": 0.62}, {"t1": (0.0, 400.0), "flair": (0.0, 250.0)})
SECOND = Scan((1.0, 1.0, 2.0), "LPS", 0.0, {"t1": 0.55, "flair": 0.5}, {"t1": (0.0, 900.0), "flair": (3.0, 300.0)})
SEEN = seen([FIRST, SECOND], ["t1", "flair"])


def test_what_a_checkpoint_remembers_are_plain_values_of_the_extremes() -> None:
    assert SEEN == {
        "cases": 2,
        "spacing_mm": [[1.0, 1.0, 1.0], [1.0, 1.0, 2.0]],
        "orientations": ["LPS"],
        "tilt_degrees": 2.0,
        "zeros": [0.5, 0.6],
        "levels": {"t1": [0.0, 400.0, 900.0], "flair": [0.0, 250.0, 300.0]},
        "absent": {},
    }


def test_training_cases_without_a_modality_are_counted() -> None:
    lacking = replace(SECOND, levels={"t1": (0.0, 900.0)})
    assert seen([FIRST, lacking], ["t1", "flair"])["absent"] == {"flair": 1}


@pytest.mark.parametrize("scan", [FIRST, SECOND, replace(FIRST, spacing_mm=(0.7, 1.4, 2.9), tilt_degrees=16.0)])
def test_a_case_within_the_thresholds_is_like_the_training_cases(scan: Scan) -> None:
    assert unlike(scan, SEEN, along_the_files=True) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"spacing_mm": (1.0, 1.0, 5.5)}, "voxels of 1 x 1 x 5.5 mm (trained on 1 x 1 x 1 to 1 x 1 x 2 mm)"),
        ({"spacing_mm": (0.5, 0.5, 1.0)}, "voxels of 0.5 x 0.5 x 1 mm (trained on 1 x 1 x 1 to 1 x 1 x 2 mm)"),
        ({"orientation": "RAS"}, "axes RAS (trained on LPS, not reoriented)"),
        ({"tilt_degrees": 30.4}, "axes tilted by 30 degrees (trained on 2 at most)"),
        ({"zeros": {"t1": 0.5, "flair": 0.1}}, "not skull-stripped: 10% of its voxels are 0 (trained on 50% to 60%)"),
        ({"levels": {"t1": (0.0, 30000.0)}}, "t1 reaches 3e+04 (trained on 400 to 900)"),
        ({"levels": {"t1": (0.0, 1.0)}}, "t1 reaches 1 (trained on 400 to 900)"),
        ({"levels": {"flair": (-2.0, 260.0)}}, "flair begins at -2 (trained on 0 and above)"),
    ],
)
def test_a_case_beyond_a_threshold_is_unlike_with_both_numbers(change: dict[str, Any], expected: str) -> None:
    assert unlike(replace(FIRST, **change), SEEN, along_the_files=True) == [expected]


def test_one_image_that_is_dark_outside_the_head_is_not_taken_for_a_stripped_case() -> None:
    heads = seen([replace(FIRST, zeros={"t1": 0.02, "flair": 0.5})], ["t1", "flair"])
    assert unlike(replace(FIRST, zeros={"flair": 0.58}), heads, along_the_files=False) == []
    stripped = replace(FIRST, zeros={"t1": 0.6, "flair": 0.58})
    assert unlike(stripped, heads, along_the_files=False) == ["skull-stripped: 58% of its voxels are 0 (trained on 2%)"]


def test_where_volumes_are_reoriented_the_order_of_axes_does_not_matter() -> None:
    assert unlike(replace(FIRST, orientation="ASR"), SEEN, along_the_files=False) == []


def test_a_stripped_case_is_unlike_whole_heads() -> None:
    heads = seen([replace(FIRST, zeros={"t1": 0.1}), replace(FIRST, zeros={"t1": 0.3})], ["t1"])
    assert unlike(FIRST, heads, along_the_files=False) == [
        "skull-stripped: 60% of its voxels are 0 (trained on 10% to 30%)"
    ]


def test_what_was_never_recorded_is_held_against_no_case() -> None:
    old = seen([replace(FIRST, zeros={})], ["t1", "flair"])
    assert old["zeros"] == []
    assert unlike(replace(FIRST, zeros={"t1": 0.1}), old, along_the_files=False) == []


def test_spacing_is_along_the_prepared_axes_and_the_tilt_is_the_heads() -> None:
    turn = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # x runs to A, y to S, z to R
    angle = np.radians(12)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = tilt @ turn @ np.diag([2.0, 3.0, 4.0, 1.0])
    scan = scan_of(target_geometry((4, 5, 6), affine, "LPS", None), {}, {}, "percentile")
    assert scan.spacing_mm == pytest.approx((4, 2, 3))  # R-L, A-P, S-I
    assert scan.tilt_degrees == pytest.approx(12)
    assert scan.orientation == "ASR"


def test_levels_of_z_scores_are_two_deviations_around_the_mean() -> None:
    geometry = target_geometry((4, 5, 6), np.eye(4), "LPS", None)
    assert scan_of(geometry, {"t1": (100.0, 20.0)}, {}, "zscore").levels == {"t1": (60.0, 140.0)}


def test_the_cache_knows_what_preparing_saw(make_case, tmp_path) -> None:
    from segan_pl.data.prepare.cache import Cache

    arrays = {"t1": np.zeros((6, 8, 10), np.int16)}
    arrays["t1"][:, :, 4:] = np.random.default_rng(0).integers(1, 900, (6, 8, 6))
    case, preparation = make_case(modalities=(), arrays=arrays), Preparation(crop=None)
    prepared = prepare(case, preparation)
    assert prepared.zeros == {"t1": pytest.approx(0.4)}
    opened = Cache(tmp_path / "cache", preparation).open(case, ("t1",))
    assert opened.scan == scan_of(prepared.geometry, prepared.bounds, prepared.zeros, "percentile")


def test_a_checkpoints_summary_loads_with_weights_only(tmp_path) -> None:
    torch.save({"seen": SEEN}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"seen": SEEN}
