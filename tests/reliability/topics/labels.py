"""Rows of docs/reliability.md: masks, labels, splits and data options."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from segan_pl.data.io import read_volume, write_volume
from tests.generators.trees import write_cohort
from tests.reliability.faults import CHECK, FIT, PREPARE, SPLIT, Fault, Plant, first, nothing, split_of, voxels

TITLE = "Masks, labels, splits and data options"


def named(*odd: int, **labels: int) -> Plant:
    """nnU-Net's raw form, with these names of the labels, and a voxel of each odd label in the first mask."""

    def plant(root: Path) -> None:
        shutil.rmtree(root)
        write_cohort(root, layout="nnunet", cases=3, shape=(16, 32, 32))
        content = json.loads((root / "dataset.json").read_text())
        (root / "dataset.json").write_text(json.dumps({**content, "labels": {"background": 0, **labels}}))
        mask = min((root / "labelsTr").iterdir())
        volume = read_volume(mask)
        array = volume.array.copy()
        array[0, 0, : len(odd)] = odd
        write_volume(mask, array, volume.affine)

    return plant


def manifest(*rows: str, columns: str = "case,patient,t1,mask") -> Plant:
    """A manifest of the first case's files in place of the cohort's layout: {t1} and {mask} stand for them."""

    def plant(root: Path) -> None:
        paths = {part: first(root, word).relative_to(root) for part, word in (("t1", "t1"), ("mask", "seg"))}
        text = "\n".join([columns, *(row.format(**paths) for row in rows)])
        (root / "manifest.csv").write_text(text + "\n", encoding="utf-8")

    return plant


def without_mask_in_train(root: Path) -> None:
    """A split that trains on a case whose mask is gone."""
    split_of(lambda names: {"train": names[:-1], "val": names[-1:]})(root)
    first(root, "seg").unlink()


def emptied(name: str, content: bytes) -> Plant:
    """One file of that name in place of the cohort."""

    def plant(root: Path) -> None:
        shutil.rmtree(root)
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(content)

    return plant


def same_mask(root: Path) -> None:
    """The first patient's mask under the second patient's name."""
    masks = sorted(root.rglob("*_seg.nii.gz"))
    shutil.copy(masks[0], masks[1])


def outside(mask: np.ndarray) -> np.ndarray:
    """The tumour in a corner, where there is no head."""
    moved = np.zeros_like(mask)
    moved[0, 0, :9] = 2
    return moved


IDS = CHECK.replace("{root}", "{root}/manifest.csv") + " --data.native_labels=brats2017"
CHECK_SPLIT = "split --root={root} --by --data.missing=drop --check={work}/split.json"
MSD = {"edema": 1, "necrosis": 2, "enhancing": 3}

FAULTS: list[Fault] = [
    Fault(
        5,
        "nnU-Net's dataset.json with one name for all tumour, and a convention that takes its number for necrosis",
        named(**{"brain tumor": 1}),
        CHECK + " --data.native_labels=brats2017 --data.labels=labels",
        2,
        "--data.native_labels brats2017: 'brain tumor' is [1] in dataset.json, [1, 2, 4] in 'brats2017'",
    ),
    Fault(
        5,
        "nnU-Net's dataset.json with the core as its one name, which no convention means",
        named(**{"tumor core": 1}),
        FIT,
        1,
        "layout 'nnunet' does not say what the masks' labels mean",
    ),
    Fault(
        5,
        "`split` with a convention of a healthy brain, of which it needs no target",
        nothing,
        SPLIT + " --by --data.native_labels=mrbrains13",
        0,
        "5 given, 5 used, 0 refused",
    ),
    Fault(
        5,
        "a convention that contradicts dataset.json",
        named(**MSD),
        FIT + " --data.native_labels=brats2024",
        code=2,
        says="label 1 is 'edema' in dataset.json, 'necrosis' in 'brats2024'",
    ),
    Fault(
        5,
        "voxels to ignore",
        named(4, **MSD, ignore=4),
        code=0,
        says="native labels {oedema: 1, necrosis: 2, enhancing: 3, ignore: 4}",
    ),
    Fault(7, "one mask under two patients", same_mask, code=0, says="have the same mask, not the same images, and are"),
    Fault(7, "a mask that is all tumour", voxels("seg", np.ones_like), code=0, says="mask: every voxel is labelled"),
    Fault(
        7,
        "a mask outside the brain",
        voxels("seg", outside),
        code=0,
        says="mask: 100% of the labelled voxels lie where every image is 0",
    ),
    Fault(
        7,
        "a mask in an image's place",
        voxels("t2", lambda image: (image > 300).astype(np.int16)),
        code=0,
        says="t2: only two values, 0 and 1; is it a mask?",
    ),
    Fault(
        7,
        "the same, prepared",
        voxels("t2", lambda image: (image > 300).astype(np.int16)),
        PREPARE,
        code=0,
        says="t2 has only two values once prepared",
    ),
    Fault(
        5,
        "a case without mask in a split's train",
        without_mask_in_train,
        CHECK_SPLIT,
        code=0,
        says="cases of the split cannot be used and are left out",
    ),
    Fault(
        5,
        'a case under "train" and under "unlabelled" of a split file',
        split_of(lambda names: {"train": names[:-1], "val": names[-1:], "unlabelled": names[:1]}),
        CHECK_SPLIT,
        says="named twice; expected each case once",
    ),
    Fault(
        5,
        "case names that differ only in capitals",
        manifest("a_1,p,{t1},{mask}", "A_1,q,{t1},{mask}"),
        IDS,
        says="cases 'A_1' and 'a_1' differ only in capitals: one file on macOS and Windows",
    ),
    Fault(
        5,
        "case names that differ only in Unicode form",
        manifest("M\u00fcller,p,{t1},{mask}", "Mu\u0308ller,q,{t1},{mask}"),
        IDS,
        says="differ only in Unicode form (composed or not): one file on macOS and Windows",
    ),
    Fault(
        5,
        "two empty trailing columns of a spreadsheet in a manifest",
        manifest("a,p,{t1},{mask},,", columns="case,patient,t1,mask,,"),
        IDS,
        code=0,
        says="1 given, 1 used, 0 refused",
    ),
    Fault(
        5,
        "a folder of DICOM",
        emptied("scan/IM0001", b"\0" * 128 + b"DICM"),
        says="no cases found; it holds 1 DICOM file in 1 folder (e.g. IM0001); convert them to NIfTI",
    ),
    Fault(
        5,
        "a case's folder in place of the data set's",
        lambda root: first(root, "t1").parent.rename(root / "HGG" / "BraTS19_CBICA_AAA_1"),
        CHECK.replace("{root}", "{root}/HGG/BraTS19_CBICA_AAA_1"),
        says="no cases found; the data set is above: give --root",
    ),
    Fault(
        5,
        "options of fit in front of another command",
        nothing,
        CHECK + " --data.batch_size=4 --trainer.max_epochs=3",
        code=0,
        says="without effect here: --data.batch_size, --trainer.max_epochs",
    ),
    Fault(
        5,
        "a misspelt option of fit there",
        nothing,
        PREPARE + " --data.bach_size=4",
        code=2,
        says="did you mean --data.batch_size?",
    ),
    Fault(5, "a folder that is not there", nothing, "check --root={work}/gone", code=2, says="no such folder"),
    Fault(
        5,
        "an unknown label scheme",
        nothing,
        CHECK + " --data.labels=tumor",
        code=2,
        says="did you mean 'whole_tumour'?",
    ),
    Fault(
        5,
        "impossible fractions",
        nothing,
        "split --root={root} --data.val_fraction=1.5",
        code=2,
        says="a sum below 1",
    ),
]
ELSEWHERE: list[tuple[str, str]] = [
    (
        "a split file with names in another Unicode form than the data's, as macOS writes folders: the same names",
        "tests/data/split/test_record.py::names_in_another_unicode_form_are_the_same_names",
    ),
    (
        "masks of 1, 2 and 3 in a manifest: mrbrains13 is advised too, and no other once it was stated",
        "tests/cli/commands/test_check.py::tissues_of_a_healthy_brain_are_advised_and_then_checked_without_more_advice",
    ),
    (
        "a line copied from fit to check, split and prepare",
        "tests/cli/commands/test_options.py::a_line_of_fit_works_and_what_does_nothing_is_told",
    ),
    (
        "a score of a region that the data's labels do not have: the mean is proposed, not a tissue of like letters",
        "tests/test_errors.py::a_slip_is_told_from_another_name",
    ),
    (
        "a year whose labels have another year's name: brats2021 is no slip of brats2023",
        "tests/test_errors.py::a_year_is_known_by_the_labels_that_it_has_and_not_by_its_letters",
    ),
    (
        "advice that contradicts the data set's names",
        "tests/data/test_label_names.py::advice_never_names_a_convention_that_the_data_sets_names_contradict",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
