from __future__ import annotations

import numpy as np
import pytest

from segan_pl.evaluation.volumes import LEVELS, best_threshold


def brute_force(images: list[np.ndarray], masks: list[np.ndarray]) -> tuple[float, list[float]]:
    """Every level tried on every volume."""
    edges = np.linspace(min(i.min() for i in images), max(i.max() for i in images), LEVELS)
    table = []
    for edge in edges:
        found = [image >= edge for image in images]
        with np.errstate(invalid="ignore"):
            table.append([np.divide(2 * (f & m).sum(), f.sum() + m.sum()) for f, m in zip(found, masks, strict=True)])
    usable = [k for k, row in enumerate(table) if not np.isnan(row).all()]
    best = max(usable, key=lambda k: np.nanmean(table[k]))
    return float(edges[best]), [float(dice) for dice in table[best]]


@pytest.mark.parametrize("seed", range(4))
def test_the_best_threshold_is_the_one_found_by_trying_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((3, 6, 7)) < share for share in (0.1, 0.4)]
    images = [rng.normal(size=mask.shape) + 1.5 * mask for mask in masks]
    level, dice = best_threshold(images, masks)
    expected_level, expected = brute_force(images, masks)
    assert level == pytest.approx(expected_level)
    assert dice == pytest.approx(expected)


def test_a_volume_without_tumour_is_left_out_where_nothing_is_found_in_it() -> None:
    images, masks = (
        [np.array([[[0.0, 1.0]]]), np.array([[[0.0, 0.0]]])],
        [np.array([[[0, 1]]]) > 0, np.zeros((1, 1, 2), bool)],
    )
    _, dice = best_threshold(images, masks)
    assert dice[0] == 1
    assert np.isnan(dice[1])


def test_half_precision_images_are_taken_as_they_are() -> None:
    image = np.linspace(-1, 2, 24, dtype=np.float16).reshape(2, 3, 4)
    level, dice = best_threshold([image], [image > 0.5])
    assert dice == [1.0]
    assert 0.4 < level <= 0.6
