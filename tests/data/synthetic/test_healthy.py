"""Generated healthy cohorts: tissues of the phantom, labels of each data set, files that nibabel reads."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.conventions import label_convention
from segan_pl.data.io import read_volume
from segan_pl.data.layouts import find_cases, find_data_set
from segan_pl.data.synthetic.healthy import HEALTHY_FORMS, healthy_case, healthy_labels, make_healthy_cohort
from segan_pl.data.synthetic.phantom import FLUID, GREY, WHITE
from segan_pl.errors import UsageError

SHAPE = (12, 24, 20)


@pytest.mark.parametrize("form", HEALTHY_FORMS)
def test_what_is_written_is_what_nibabel_reads_in_the_anatomys_order(tmp_path, form):
    make_healthy_cohort(tmp_path, form=form, subjects=2, shape=SHAPE, seed=3)
    found = find_data_set(tmp_path)
    case = found.cases[1]
    number = {"iseg": 1, "mrbrains13": 1, "mrbrains18": 1, "ibsr18": 1}[form]
    kind = HEALTHY_FORMS[form]
    images, anatomy = healthy_case(number, shape=SHAPE, seed=3, modalities=kind.modalities, scanners=kind.scanners)
    assert found.native_labels
    expected = {**images, "mask": healthy_labels(anatomy, found.native_labels)}
    for part, path in {**case.images, "mask": case.mask}.items():
        image = nib.load(path.with_suffix(".img") if path.suffix == ".hdr" else path)
        array = np.asarray(image.dataobj)
        if form in ("iseg", "ibsr18"):
            assert array.shape == (20, 24, 12, 1)  # the trailing axis of the real files
            array = array[::-1, ::-1, :, 0]  # RAS
        np.testing.assert_array_equal(array.T, expected[part])


@pytest.mark.parametrize("convention", ["iseg", "mrbrains13", "ibsr18", "mrbrains13_training", "mrbrains18"])
def test_the_labels_are_the_phantoms_tissues_and_all_of_a_convention_occur(convention):
    _, anatomy = healthy_case(0, shape=(32, 48, 48))
    label = healthy_labels(anatomy, convention)
    known = label_convention(convention)
    assert set(np.unique(label)) == set(known.known)
    judged = ~np.isin(label, known.ignore) & (label > 0)
    for name, tissue in (("csf", FLUID), ("gm", GREY), ("wm", WHITE)):
        np.testing.assert_array_equal(np.isin(label, known.numbers[name]), (anatomy.tissue == tissue) & judged)
    outside = anatomy.tissue == 0
    assert not label[outside].any()
    assert convention == "mrbrains13" or (label > 0)[~outside].all()


def test_the_two_masks_of_mrbrains13_agree_where_the_voxels_are_judged():
    _, anatomy = healthy_case(1, shape=(32, 48, 48))
    fine, coarse = (healthy_labels(anatomy, name) for name in ("mrbrains13_training", "mrbrains13"))
    merged = np.array([0, 2, 2, 3, 3, 1, 1, 0, 0], np.uint8)[fine]  # csf, gm and wm are 1, 2 and 3
    np.testing.assert_array_equal(merged, coarse)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["iseg", "ibsr18"])
def test_the_same_arguments_give_the_same_bytes_and_labels_change_no_image(tmp_path, form):
    for name, labelled in (("a", 2), ("b", 2), ("c", 1)):
        make_healthy_cohort(tmp_path / name, form=form, subjects=labelled, unlabelled=2 - labelled, shape=SHAPE)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for first, second in zip(find_cases(tmp_path / "a"), find_cases(tmp_path / "c"), strict=True):
        assert first.name == second.name
        np.testing.assert_array_equal(*(read_volume(case.images["t1"]).array for case in (first, second)))


def test_those_without_labels_of_mrbrains13_are_numbered_anew_as_in_its_test_set(tmp_path):
    names = make_healthy_cohort(tmp_path, form="mrbrains13", subjects=2, unlabelled=2, shape=SHAPE)
    assert names == ["training_1", "training_2", "test_1", "test_2"]


def test_a_form_that_is_none_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"form 'isegg': did you mean 'iseg'"):
        make_healthy_cohort(tmp_path, form="isegg")
    assert not list(tmp_path.iterdir())
