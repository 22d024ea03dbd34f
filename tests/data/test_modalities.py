"""Any name is a modality: found, checked, asked for in any order, and served in that order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segan_pl.cli.commands.check import main as check
from segan_pl.data.case import ordered, pictured
from segan_pl.data.cohort import find_cohort
from segan_pl.data.layouts.folders import Folder, case_files, modality_name, part_of
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.synthetic.cohort import CONTRASTS
from segan_pl.data.synthetic.healthy import healthy_case, make_healthy_cohort
from segan_pl.errors import UsageError


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("healthy")
    make_healthy_cohort(root, form="mrbrains13", subjects=3, shape=(16, 32, 32))
    return root


@pytest.mark.parametrize(
    ("word", "name"), [("T1Gd", "t1ce"), ("T1-IR", "t1_ir"), ("DWI b1000", "dwi_b1000"), ("CT", "ct"), ("pd", "pd")]
)
def test_a_word_becomes_a_name(word: str, name: str) -> None:
    assert modality_name(word) == name


def test_the_order_is_that_of_brats_then_of_the_alphabet() -> None:
    assert ordered(["t1_ir", "flair", "ct", "t1", "ct"]) == ("t1", "flair", "ct", "t1_ir")


@pytest.mark.parametrize(
    ("stem", "others", "part"),
    [
        ("a_T1-IR", ("t1_ir",), "t1_ir"),
        ("a_t1_ir", ("ir", "t1_ir"), "t1_ir"),
        ("a_t1_ir", (), None),
        ("a_xdwi", ("dwi",), None),
        ("a_dwi", ("dwi",), "dwi"),
        ("a_t1", ("dwi",), "t1"),
    ],
)
def test_a_layout_may_name_further_modalities(stem: str, others: tuple[str, ...], part: str | None) -> None:
    assert part_of(stem, others) == part


def test_a_folder_of_such_files_is_a_case(tmp_path: Path) -> None:
    for name in ("a_t1.nii", "a_t1_ir.nii", "a_seg.nii", "a_adc.nii"):
        (tmp_path / name).touch()
    images, mask = case_files(Folder(tmp_path), ("t1_ir",))
    assert list(images) == ["t1", "t1_ir"]
    assert mask == tmp_path / "a_seg.nii"


def test_all_that_occur_are_the_default_and_any_order_may_be_asked_for(healthy: Path) -> None:
    assert find_cohort(healthy, labels=None).modalities == ("t1", "flair", "t1_ir")
    assert find_cohort(healthy, modalities=["t1_ir", "t1"], labels=None).modalities == ("t1_ir", "t1")
    with pytest.raises(
        UsageError, match=r"t1_r: no case of .* has it, they have t1, flair, t1_ir; did you mean 't1_ir'"
    ):
        find_cohort(healthy, modalities=["t1", "t1_r"], labels=None)


def test_the_data_module_serves_them_in_the_order_asked_for(healthy: Path, tmp_path: Path) -> None:
    data = MRIDataModule(
        str(healthy),
        modalities=["t1_ir", "t1"],
        labels="labels",
        preparation=Preparation(crop=None, scaling="none"),
        cache_dir=str(tmp_path),
        patch=[32, 32],
    )
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    name = data.split.val[0]
    expected, _ = healthy_case(int(name.removeprefix("training_")) - 1, shape=(16, 32, 32))
    assert batch.image.shape[1] == 2
    for channel, modality in enumerate(("t1_ir", "t1")):
        np.testing.assert_array_equal(batch.image[0, channel], expected[modality].astype(np.float16))


def test_the_check_counts_each_modality_by_its_name(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(["check", "--root", str(healthy)]) == 0
    assert "t1_ir" in capsys.readouterr().out


def test_an_image_does_not_hang_on_which_others_are_made() -> None:
    alone, _ = healthy_case(1, shape=(16, 32, 32), modalities=("t1_ir",))
    both, _ = healthy_case(1, shape=(16, 32, 32), modalities=("t1", "t1_ir"))
    np.testing.assert_array_equal(alone["t1_ir"], both["t1_ir"])
    assert list(CONTRASTS)[:4] == ["t1", "t1ce", "t2", "flair"]  # cohorts of BraTS stay as they were


def test_a_picture_shows_the_usual_modality_else_the_first() -> None:
    assert pictured(["t1", "t1_ir", "flair"]) == "flair"
    assert pictured(["t1_ir", "ct"]) == "ct"
    assert pictured([]) is None
