"""Rows of docs/reliability.md: axes, units and grids of files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.reliability.faults import CHECK, PIXDIM, QFORM_CODE, Fault, affine, first, header

UNITS = 123  # where NIfTI-1 keeps xyzt_units
TITLE = "Axes, units and grids of files"


TURNED = np.eye(4)
TURNED[:2, :2] = [[np.cos(np.radians(12)), -np.sin(np.radians(12))], [np.sin(np.radians(12)), np.cos(np.radians(12))]]


def moved(grid: np.ndarray, mm: float) -> np.ndarray:
    """An affine moved along the voxels' x."""
    grid[:3, 3] += grid[:3, 0] / np.linalg.norm(grid[:3, 0]) * mm
    return grid


def qform_turned(root: Path) -> None:
    """The first t2's qform, turned about the head's own middle."""
    file = first(root, "t2")
    image = nib.load(file)
    centre = np.eye(4)
    centre[:3, 3] = (np.array(image.shape) - 1) / 2
    image.set_qform(image.affine @ centre @ TURNED @ np.linalg.inv(centre), code=1)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), file)


def in_metres(root: Path) -> None:
    """The first case's files count in metres."""
    folder = first(root, "t1").parent
    for file in folder.glob("*.nii.gz"):
        image = nib.load(file)
        small = np.vstack([image.affine[:3] / 1000, image.affine[3:]])
        changed = nib.Nifti1Image(np.asanyarray(image.dataobj), small)
        changed.header.set_xyzt_units("meter")
        nib.save(changed, file)


FAULTS: list[Fault] = [
    Fault(
        5,
        "a qform that is turned by 12 degrees against the sform",
        qform_turned,
        code=0,
        says="t2: qform and sform are 12.0 degrees apart; the sform is used",
    ),
    Fault(
        5,
        "voxel sizes (pixdim) that are not the sform's",
        header("t2", (PIXDIM + 4, "<3f", (1, 1, 3)), (QFORM_CODE, "<h", (0,))),
        code=0,
        says="t2: voxels of 1 x 1 x 1 mm by the sform, 1 x 1 x 3 mm by pixdim (a factor of 3); the sform is used",
    ),
    Fault(
        12,
        "a mask moved by half a millimetre",
        affine("seg", lambda a: moved(a, 0.5)),
        says="mask is shifted by 0.5 mm along x against t1; resample one of them or drop the case, or allow it by",
    ),
    Fault(12, "a mask's origin off by 0.002 mm", affine("seg", lambda a: moved(a, 0.002)), code=0, says="0 refused"),
    Fault(
        12,
        "a mask moved by half a millimetre, allowed",
        affine("seg", lambda a: moved(a, 0.5)),
        f"{CHECK} --data.origin_tolerance_mm=0.6",
        code=0,
        says="0 refused",
    ),
    Fault(
        12,
        "a mask turned by 12 degrees",
        affine("seg", lambda a: a @ TURNED),
        says="mask is rotated by 12.0 degrees against t1",
    ),
    Fault(
        5,
        "a header that counts in metres",
        in_metres,
        code=0,
        says="the header's unit is metre: voxels of 1 x 1 x 1 mm",
    ),
    Fault(
        5,
        "a header that says metre, its numbers mm",
        header("t2", (UNITS, "<b", (1,))),
        code=0,
        says="the header's unit is metre, which makes voxels of 1000 x 1000 x 1000 mm; its numbers are taken as mm",
    ),
]
ELSEWHERE: list[tuple[str, str]] = [
    (
        "a case that only a wide tolerance of origins allows, under a narrow one: prepared apart",
        "tests/data/prepare/test_cache.py::another_tolerance_of_origins_makes_another_entry",
    ),
    (
        "prepared cases of before that took metres or microns for mm: prepared again, and no others",
        "tests/data/prepare/test_cache.py::an_earlier_entry_is_prepared_again_only_where_its_lengths_were_not_in_mm",
    ),
    (
        "`postprocess` with a reference that lies elsewhere than the prediction",
        "tests/cli/commands/test_postprocess.py::a_reference_that_lies_elsewhere_is_told_in_words_and_allowed_by_the_tolerance",
    ),
    (
        "files that store a brain along other axes (RAS, ASR, LAS, SPL, oblique): prepared alike",
        "tests/data/test_axes.py::a_copy_in_another_order_of_axes_is_prepared_alike",
    ),
    (
        "the same at prediction: the segmentations agree to the voxel, each on its file's own axes",
        "tests/inference/test_axes.py::the_segmentation_of_a_copy_lies_where_that_of_the_original_does",
    ),
    (
        "volumes and distances of a case in metres: those of its copy in mm",
        "tests/data/io/test_units.py::volumes_and_distances_of_a_case_in_metres_are_those_of_its_copy_in_mm",
    ),
    (
        "a segmentation on a grid in metres: the header kept to the byte",
        "tests/data/io/test_units.py::what_is_written_back_keeps_the_unit_to_the_byte",
    ),
    (
        "a case whose spacing, tilt, skull or intensities are unlike the training cases: one note with the numbers",
        "tests/inference/test_input_case.py::a_case_unlike_the_training_cases_gets_one_note_with_all_reasons",
    ),
    (
        "a case without a sequence, for a network that never saw one without: refused, modality_dropout advised",
        "tests/inference/test_missing.py::not_trained_for_it_a_checkpoint_refuses_unless_told_otherwise",
    ),
    (
        "empty segmentations: each noted, and counted",
        "tests/inference/test_input_case.py::predict_says_which_segmentations_are_empty_and_how_many",
    ),
    (
        "one thing to note of many cases: said once",
        "tests/data/test_case_pool.py::a_note_of_several_files_of_several_cases_is_one_line",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
