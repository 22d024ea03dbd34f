"""Generated trees: labels of each data set, formats that others read, nothing twice."""

from __future__ import annotations

from collections import Counter

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from segan_pl.data.case import MODALITIES
from segan_pl.data.conventions import CONVENTIONS
from segan_pl.data.io import read_volume
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import find_cases, found_by_themselves
from segan_pl.data.synthetic.cohort import make_case
from segan_pl.data.synthetic.healthy import HEALTHY_FORMS
from tests.generators.people import scan_number
from tests.generators.trees import CHANNELS_MSD, FORMS, identities, native, write_cohort

SHAPE = (16, 32, 32)


def test_there_is_a_form_for_each_layout():
    assert {*FORMS, *HEALTHY_FORMS} == {layout.NAME for layout in found_by_themselves()}


@pytest.mark.parametrize("layout", FORMS)
def test_masks_hold_labels_of_the_data_sets_own_convention(tmp_path, layout):
    write_cohort(tmp_path, layout=layout, cases=3, shape=SHAPE)
    masks = [read_volume(case.mask).array for case in find_cases(tmp_path) if case.mask]
    assert len(masks) == 3
    assert set().union(*(np.unique(mask).tolist() for mask in masks)) <= set(
        CONVENTIONS[FORMS[layout].convention].known
    )
    assert all(mask.shape == SHAPE and mask.any() for mask in masks)


@pytest.mark.parametrize(
    "name", sorted({name for name, one in CONVENTIONS.items() if one.tells_regions} - {"brats2024"})
)
def test_the_same_tumour_has_the_same_regions_in_every_convention(name):
    case = make_case(0, shape=SHAPE)
    assert set(np.unique(case.label)) == {0, 1, 2, 4}
    mask = native(case, name)
    assert set(np.unique(mask)) == set(CONVENTIONS[name].known)
    usual = label_scheme("regions", "brats2017").encode(case.label)
    np.testing.assert_array_equal(label_scheme("regions", name).encode(mask), usual)


def test_binary_is_the_whole_tumour_and_2024_has_a_cavity():
    case = make_case(0, shape=SHAPE)
    np.testing.assert_array_equal(native(case, "binary"), case.label > 0)
    assert set(np.unique(native(case, "brats2024"))) == {0, 1, 2, 3, 4}


def test_2015_is_metaimage_that_itk_reads_with_2015s_origin(tmp_path):
    write_cohort(tmp_path, layout="brats2015", cases=1, shape=SHAPE)
    (case,) = find_cases(tmp_path)
    for path in (*case.images.values(), case.mask):
        assert path.read_bytes().startswith(b"ObjectType")
        image = sitk.ReadImage(str(path))
        assert (image.GetSize(), image.GetSpacing(), image.GetOrigin()) == ((32, 32, 16), (1, 1, 1), (0, -31, 0))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), read_volume(path).array)


def test_msd_is_4d_with_the_modality_last_as_dataset_json_orders_them(tmp_path):
    write_cohort(tmp_path / "msd", layout="msd", cases=1, shape=SHAPE, seed=3)
    image = nib.load(tmp_path / "msd/imagesTr/BRATS_000.nii.gz")
    assert image.shape == (32, 32, 16, 4)
    write_cohort(tmp_path / "flat", layout="brats2021", cases=1, shape=SHAPE, seed=3)
    (case,) = find_cases(tmp_path / "flat")
    for number, modality in enumerate(CHANNELS_MSD):
        np.testing.assert_array_equal(
            np.asarray(image.dataobj)[..., number].T, read_volume(case.images[modality]).array
        )


def test_no_two_files_of_a_tree_have_the_same_content(tmp_path):
    write_cohort(tmp_path, layout="brats2019", cases=12, shape=SHAPE)
    images = [path for case in find_cases(tmp_path) for path in (*case.images.values(), case.mask)]
    assert len(images) == 60
    assert len({path.read_bytes() for path in images}) == 60


def test_the_same_arguments_give_the_same_bytes_and_a_larger_tree_begins_with_the_smaller(tmp_path):
    def contents(name: str, cases: int) -> dict[str, bytes]:
        write_cohort(tmp_path / name, layout="brats2015", cases=cases, shape=SHAPE, seed=1)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}

    two = contents("two", 2)
    assert two == contents("again", 2)
    assert two.items() < contents("three", 3).items()


def test_a_grade_that_is_told_is_the_tumours(tmp_path):
    """Low grade hardly enhances (test_synthetic)."""
    write_cohort(tmp_path, layout="brats2019", cases=16, shape=(16, 48, 48))
    share = {
        case.name: (read_volume(case.mask).array == 4).sum() / (read_volume(case.mask).array > 0).sum()
        for case in find_cases(tmp_path)
        if case.mask
    }
    low = [share[case.name] for case in find_cases(tmp_path) if case.grade == "LGG"]
    high = [share[case.name] for case in find_cases(tmp_path) if case.grade == "HGG"]
    assert np.median(low) < 0.02 < np.median(high)


def test_what_a_case_lacks_is_not_written(tmp_path):
    write_cohort(tmp_path, layout="brats2021", cases=2, shape=SHAPE, lacking={1: ("t2", "mask")})
    first, second = find_cases(tmp_path)
    assert (list(first.images), first.mask is None) == (list(MODALITIES), False)
    assert (list(second.images), second.mask) == (["t1", "t1ce", "flair"], None)


@pytest.mark.parametrize("layout", ["brats2015", "brats2019"])
def test_a_thousand_names_are_a_thousand_cases(layout):
    everyone = identities(layout, 1000)
    assert len({one.name for one in everyone}) == len({one.folder for one in everyone}) == 1000
    assert Counter(one.grade for one in everyone)["HGG"] > 700
    if layout == "brats2015":
        assert len({scan_number(one) for one in everyone}) == 1000
