"""A segmentation agrees to the voxel in the head, whatever order the images' files store their axes in."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from segan_pl.data.case import Case
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.inference.predictor import Predictor
from tests.axes import ORDERS, copy_of, reoriented
from tests.inference.segmentors import segmentor

pytest_plugins = ["tests.cohort_fixtures"]

KEPT = ("pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d")


def leaning(image: Tensor) -> Tensor:
    """Logits that depend on where a voxel lies and on which side its brighter neighbours are."""
    kernel = torch.arange(9.0).reshape(1, 1, 3, 3) - 3.0
    place = torch.linspace(-1, 2, image.shape[-2])[:, None]
    return torch.nn.functional.conv2d(image[:, :1], kernel, padding=1) * place - 2


def written(preparation: Preparation, case: Case, folder: Path) -> Path:
    predictor = Predictor([segmentor("flair", logits=leaning, preparation=preparation)])
    file = folder / f"{'' if preparation.orientation else 'un'}turned.nii.gz"
    predictor(case).save(file, like=case.images["flair"])
    return file


def lps(path: Path) -> np.ndarray:
    return np.asanyarray(reoriented(nib.load(path), "LPS").dataobj)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("preparation", [Preparation(crop=None), Preparation(crop="nonzero", scaling="zscore")])
def test_the_segmentation_of_a_copy_lies_where_that_of_the_original_does(
    cohort: Path, tmp_path: Path, order: str, preparation: Preparation
) -> None:
    case = find_cases(cohort)[0]
    copy = copy_of(case, order, tmp_path / "copy")
    expected, found = written(preparation, case, tmp_path), written(preparation, copy, tmp_path / "copy")
    assert 50 < lps(expected).sum() < lps(expected).size / 2
    np.testing.assert_array_equal(lps(found), lps(expected))
    image, mask = (nib.load(file) for file in (copy.images["flair"], found))
    assert mask.shape == image.shape
    assert all(np.array_equal(mask.header[name], image.header[name]) for name in KEPT)


def test_along_the_files_own_axes_it_does_not(cohort: Path, tmp_path: Path) -> None:
    case, plain = find_cases(cohort)[0], Preparation(crop=None, orientation=None)
    copy = copy_of(case, "RAS", tmp_path / "copy")
    expected, found = written(plain, case, tmp_path), written(plain, copy, tmp_path / "copy")
    assert not np.array_equal(lps(found), lps(expected))
