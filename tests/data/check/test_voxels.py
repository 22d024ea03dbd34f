"""Masks and images that pass for sound and deserve a note."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from segan_pl.data.case import Case
from segan_pl.data.check.case import check_case
from segan_pl.data.check.case_table import CaseRow
from segan_pl.data.check.summary import data_set_notes, duplicate_groups
from segan_pl.data.check.voxels import mask_notes, two_values
from segan_pl.data.conventions import CONVENTIONS

MakeCase = Callable[..., Case]
BRATS, TISSUES = CONVENTIONS["brats2017"], CONVENTIONS["mrbrains13"]
SHAPE = (2, 5, 10)


def labelled(count: int, label: int = 2) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask.flat[:count] = label
    return mask


BRAIN = labelled(50) > 0  # the first 50 of 100 voxels


def test_a_mask_without_background_is_noted() -> None:
    assert mask_notes(labelled(100), BRAIN, BRATS) == ["every voxel is labelled, none is background"]
    assert mask_notes(labelled(100), None, None) == ["every voxel is labelled, none is background"]


def test_labelled_voxels_outside_the_brain_are_noted_with_their_share() -> None:
    outside = np.roll(labelled(10), 45)  # 45 to 54: half of them behind the brain's last
    assert mask_notes(outside, BRAIN, BRATS) == ["50% of the labelled voxels lie where every image is 0"]
    assert mask_notes(np.roll(labelled(10), 40), BRAIN, BRATS) == []


def test_a_mask_that_is_nearly_all_tumour_is_noted_but_not_one_of_a_brains_tissues() -> None:
    assert mask_notes(labelled(25), BRAIN, BRATS) == []
    assert mask_notes(labelled(26), BRAIN, BRATS) == ["tumour fills 52% of the voxels where an image is not 0"]
    assert mask_notes(labelled(50), BRAIN, TISSUES) == []


def test_a_mask_on_another_grid_than_the_images_is_not_held_against_them() -> None:
    assert mask_notes(labelled(30), np.ones((3, 5, 10), bool), BRATS) == []


@given(arrays_of.arrays(np.int16, (3, 4, 5), elements=st.integers(0, 2)))
def test_two_values_are_told_as_numpy_finds_them(array: np.ndarray) -> None:
    values = np.unique(array)
    assert two_values(array) == (tuple(values) if values.size == 2 else None)


def test_the_check_notes_a_mask_in_an_images_place_and_one_outside_the_brain(make_case: MakeCase) -> None:
    shape = (6, 8, 10)
    image = np.zeros(shape, np.int16)
    image[:3] = np.arange(1, 241).reshape(3, 8, 10)
    other = np.where(image > 100, 1, 0).astype(np.int16)
    mask = np.zeros(shape, np.uint8)
    mask[5, :2] = 1
    case = make_case(arrays={"t1": image, "flair": other, "seg": mask})
    notes = check_case(case, BRATS, modalities=("t1", "flair")).notes
    assert "flair: only two values, 0 and 1; is it a mask?" in notes
    assert "mask: 100% of the labelled voxels lie where every image is 0" in notes
    assert not any(note.startswith("t1: only two") for note in notes)


def row(name: str, patient: str, **contents: str) -> CaseRow:
    return CaseRow(name, patient, files={"mask": ""}, contents=contents)


@pytest.mark.parametrize(
    ("rows", "notes"),
    [
        (
            [row("a", "p", t1="1", mask="m"), row("b", "q", t1="2", mask="m"), row("c", "r", mask="n")],
            ["a, b have the same mask, not the same images, and are of several patients; is it the right one?"],
        ),
        (
            [row("a", "p", t1="1", mask="m"), row("b", "p", t1="2", mask="m")],
            ["a, b have the same mask, not the same images; is it the right one?"],
        ),
        (
            [row("a", "p", t1="1", mask="m"), row("b", "q", t1="1", mask="m")],
            ["a, b have the same content (t1, mask); keep them on one side of a split"],
        ),
    ],
)
def test_one_mask_of_two_cases_is_noted(rows: list[CaseRow], notes: list[str]) -> None:
    assert data_set_notes(rows, None, duplicate_groups(rows)) == notes
