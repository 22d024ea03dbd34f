"""One brain is prepared alike, whatever order its files store their axes in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.case import Case
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation
from tests.axes import ORDERS, copy_of
from tests.data.prepare.test_preparation_systems import NAMES, shipped

pytest_plugins = ["tests.cohort_fixtures"]
ZSCORE = Preparation(crop="nonzero", scaling="zscore", margin=(1, 0))


def require_alike(case: Case, copy: Case, preparation: Preparation) -> None:
    """The same prepared voxels and counts, and a way back to each file's own."""
    expected, found = prepare(case, preparation), prepare(copy, preparation)
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.label, expected.label)
    assert (found.labels, found.outside, found.bounds) == (expected.labels, expected.outside, expected.bounds)
    native = np.asanyarray(nib.load(copy.mask).dataobj).T
    if preparation.crop is None:
        np.testing.assert_array_equal(found.geometry.restore(found.label), native)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("preparation", [Preparation(crop=None), Preparation(crop=(5, 40, 64)), ZSCORE])
def test_a_copy_in_another_order_of_axes_is_prepared_alike(
    cohort: Path, tmp_path: Path, order: str, preparation: Preparation
) -> None:
    case = find_cases(cohort)[0]
    require_alike(case, copy_of(case, order, tmp_path), preparation)


def test_along_the_files_own_axes_a_copy_is_another_brain(cohort: Path, tmp_path: Path) -> None:
    case, plain = find_cases(cohort)[0], Preparation(crop=None, orientation=None)
    copy = copy_of(case, "RAS", tmp_path)
    assert not np.array_equal(prepare(case, plain).image, prepare(copy, plain).image)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_preparation_turns_files_to_lps(name: str) -> None:
    assert shipped(name).orientation == "LPS"


def test_a_file_that_is_lps_already_is_not_copied_and_keeps_its_voxels(cohort: Path) -> None:
    case = find_cases(cohort)[0]
    expected, found = (prepare(case, Preparation(crop=None, orientation=axes)) for axes in (None, "LPS"))
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.geometry == expected.geometry
    native = np.zeros(found.geometry.native, np.int16)
    assert found.geometry.to_target_grid(native).base is native
    assert found.geometry.crop(native) is native


def test_orientation_is_part_of_a_preparations_key() -> None:
    assert Preparation().digest() != Preparation(orientation=None).digest()


@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
def test_real_brats_voxels_are_what_they_were_along_the_files_axes(real_data_root: Path, name: str) -> None:
    case = find_cases(real_data_root / "brats2021")[0]
    expected, found = (prepare(case, replace(shipped(name), orientation=axes)) for axes in (None, "LPS"))
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.label, expected.label)
    assert found.geometry == expected.geometry


@pytest.mark.real_data
@pytest.mark.parametrize("order", ["RAS", "ASR", "LAS", "oblique"])
def test_a_real_patient_in_another_order_of_axes_is_prepared_alike(
    real_data_root: Path, tmp_path: Path, order: str
) -> None:
    case = find_cases(real_data_root / "brats2021")[0]
    require_alike(case, copy_of(case, order, tmp_path), shipped("segan_cat"))
