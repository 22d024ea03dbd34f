from __future__ import annotations

import numpy as np
import pytest

from segan_pl.data.conventions import CONVENTIONS
from segan_pl.errors import UsageError
from segan_pl.inference.postprocessing import Step, postprocess

BRATS = CONVENTIONS["brats2017"]


def run(label: np.ndarray, *steps: str, voxel_ml: float = 0.001) -> np.ndarray:
    return postprocess(label, [Step.parse(s) for s in steps], convention=BRATS, voxel_ml=voxel_ml)


@pytest.fixture
def label() -> np.ndarray:
    """A block of 27 voxels of oedema with 2 of enhancing tumour, and a diagonal pair apart."""
    label = np.zeros((8, 8, 8), np.uint8)
    label[1:4, 1:4, 1:4] = 2
    label[2, 2, 1:3] = 4
    label[6, 6, 6] = label[7, 7, 7] = 1
    return label


def test_components_below_the_volume_go_and_touching_corners_are_one_component(label: np.ndarray) -> None:
    kept = run(label, "small_components:0.002")
    np.testing.assert_array_equal(kept, label)  # the pair has 2 voxels of 1 mm3
    gone = run(label, "small_components:0.0021")
    assert not gone[6:].any()
    np.testing.assert_array_equal(gone[:5], label[:5])


def test_a_voxel_counts_with_its_volume(label: np.ndarray) -> None:
    np.testing.assert_array_equal(run(label, "small_components:0.0021", voxel_ml=0.003), label)


def test_little_enhancing_tumour_becomes_necrosis_and_enough_of_it_stays(label: np.ndarray) -> None:
    relabelled = run(label, "small_enhancing:0.0021")
    np.testing.assert_array_equal(relabelled, np.where(label == 4, 1, label))
    np.testing.assert_array_equal(run(label, "small_enhancing:0.002"), label)


def test_a_hole_takes_the_label_around_it_and_an_open_cave_stays_open() -> None:
    label = np.zeros((5, 7, 7), np.uint8)
    label[1:4, 1:6, 1:6] = 2
    label[2, 3, 3] = 0
    closed = label.copy()
    closed[2, 3, 3] = 2
    np.testing.assert_array_equal(run(label, "fill_holes"), closed)
    label[3, 3, 3] = 0  # now it opens to the outside
    np.testing.assert_array_equal(run(label, "fill_holes"), label)


def test_steps_run_in_the_order_given(label: np.ndarray) -> None:
    label[label == 2] = 0  # what is left of the block is 2 voxels of 4
    first = run(label, "small_enhancing:0.1", "small_components:0.0021")
    assert not first.any()
    assert set(np.unique(run(label, "small_enhancing:0.1"))) == {0, 1}


def test_an_empty_segmentation_stays_empty() -> None:
    empty = np.zeros((3, 3, 3), np.uint8)
    assert not run(empty, "small_components:1", "small_enhancing:1", "fill_holes").any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smal_components:1", "did you mean 'small_components'"),
        ("small_components:much", "expected NAME or NAME:ml"),
        ("small_components:-1", "expected a volume above 0 ml"),
        ("small_components", "expected a volume above 0 ml, e.g. small_components:0.5"),
        ("small_enhancing", "expected a volume above 0 ml"),
        ("small_components:nan", "expected a volume above 0 ml"),
        ("small_components:inf", "expected a volume above 0 ml"),
        ("fill_holes:7", "takes no volume; leave 7 out"),
    ],
)
def test_a_wrong_step_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Step.parse(text)


def test_regions_that_a_data_set_lacks_are_refused() -> None:
    small, ones = Step.parse("small_enhancing:1"), np.ones((2, 2, 2), np.uint8)
    with pytest.raises(UsageError, match="'binary' has no enhancing"):
        postprocess(ones, [small], convention=CONVENTIONS["binary"], voxel_ml=1)


def test_a_step_is_written_as_it_is_read() -> None:
    for text in ("small_components:0.5", "small_components:1000", "small_enhancing:0.123456789", "fill_holes"):
        assert str(Step.parse(text)) == text


def test_what_lies_outside_the_labels_box_is_not_looked_at_and_changes_nothing(label: np.ndarray) -> None:
    label[2, 2, 2] = 0  # a hole
    steps = ("fill_holes", "small_components:0.0021", "small_enhancing:0.01")
    wide = np.zeros((20, 21, 22), np.uint8)
    wide[5:13, 6:14, 7:15] = label
    np.testing.assert_array_equal(run(wide, *steps)[5:13, 6:14, 7:15], run(label, *steps))
    np.testing.assert_array_equal(np.delete(run(wide, *steps), slice(5, 13), 0), 0)
