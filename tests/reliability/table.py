"""The rows of docs/reliability.md."""

from __future__ import annotations

import numpy as np

from tests.reliability.faults import (
    CHECK,
    DATATYPE,
    FIT,
    PIXDIM,
    PREPARE,
    QFORM_CODE,
    SLOPE,
    SPLIT,
    SROW,
    Fault,
    affine,
    as_2023,
    blocked,
    broken_link,
    case_twice,
    content,
    copied,
    cut,
    dims,
    enhancing_is_3,
    folder_for_file,
    half_a_pair,
    half_an_analyze,
    header,
    nothing,
    one_voxel,
    only,
    removed,
    same_content,
    second_scan,
    split_of,
    unzipped_name,
    voxels,
    without_enhancing,
    wrong_checksum,
)

NAN, INF = float("nan"), float("inf")
FILES = [
    Fault(1, "a .nii.gz cut off in the middle", cut("t2", 0.5), says="t2.nii.gz: the gzip stream"),
    Fault(1, "a wrong checksum at the end of the gzip stream", wrong_checksum, says="the gzip stream is damaged"),
    Fault(1, "a file of 0 bytes", content("t2", b""), says="t2.nii.gz: empty file; expected NIfTI"),
    Fault(1, "a web page in place of data", content("t2", b"<!DOCTYPE html><html>"), says="a web page, not an image"),
    Fault(
        1,
        "a git-lfs pointer in place of data",
        content("t2", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        says="a git-lfs pointer, the data was never fetched",
    ),
    Fault(2, "dimensions larger than the data", header("t2", dims(3, 32, 32, 9)), says="the header announces"),
    Fault(2, "dimensions smaller than the data", header("t2", dims(3, 32, 32, 7)), says="the header announces"),
    Fault(
        2, "a dimension of 0", header("t2", dims(3, 32, 0, 8)), says="dimensions are [32, 0, 8], expected at least 1"
    ),
    Fault(2, "a negative dimension", header("t2", dims(3, 32, -32, 8)), says="dimensions are [32, -32, 8]"),
    Fault(2, "32767 x 32767 x 32767", header("t2", dims(3, 32767, 32767, 32767)), says="the file holds at most"),
    Fault(
        3,
        "4-D with a trailing axis of 1",
        header("t2", dims(4, 32, 32, 8, 1)),
        code=0,
        says="trailing axes of 1 dropped",
    ),
    Fault(3, "really 4-D", header("t2", dims(4, 32, 32, 4, 2)), says="expected one 3-D volume"),
    Fault(4, "gzip under .nii, and plain under .nii.gz", unzipped_name, code=0, says="0 refused"),
    Fault(4, "a .mhd without its .raw", half_a_pair, says="gone.raw"),
    Fault(4, "an Analyze .hdr without its .img", half_an_analyze, says=".img"),
    Fault(5, "NaN in the affine", header("t2", (SROW, "<f", (NAN,))), says="the affine holds NaN or Inf"),
    Fault(5, "a singular affine", header("t2", (SROW, "<4f", (0, 0, 0, 0))), says="the affine is singular"),
    Fault(
        5,
        "neither sform nor qform",
        header("t2", (QFORM_CODE, "<2h", (0, 0))),
        says="t2 is flipped along x and y against t1",  # assumed, it is not the other files'
    ),
    Fault(5, "a slope of NaN", header("t2", (SLOPE, "<f", (NAN,))), says="scl_slope nan"),
    Fault(5, "a slope of Inf", header("t2", (SLOPE, "<f", (INF,))), says="scl_slope inf"),
    Fault(
        5,
        "a spacing of 0",
        header("t2", (PIXDIM + 4, "<f", (0,))),
        says="spacing (0.0, 1.0, 1.0) mm, expected positive",
    ),
    Fault(5, "a negative spacing", header("t2", (PIXDIM + 4, "<f", (-1,))), says="mm, expected positive numbers"),
    Fault(5, "an unknown data type", header("t2", (DATATYPE, "<h", (9999,))), says="unknown data type 9999"),
    Fault(6, "a broken link", broken_link, says="cannot be read"),
    Fault(6, "a folder in place of a file", folder_for_file, says="incomplete (no t1)"),
    Fault(6, "one file for two modalities", copied("t1", "t2"), code=0, says="are the same file"),
]
VOXELS = [
    Fault(7, "a voxel that is NaN", one_voxel("t2", NAN), says="1 voxels are NaN or Inf"),
    Fault(
        7,
        "the same, replaced on request",
        one_voxel("t2", NAN),
        PREPARE + " --data.preparation.nonfinite=zero",
        code=0,
        says="1 voxels",
    ),
    Fault(7, "a constant volume", voxels("t2", lambda a: np.full_like(a, 7)), code=0, says="constant"),
    Fault(7, "the same, prepared", voxels("t2", lambda a: np.full_like(a, 7)), PREPARE, code=0, says="no contrast"),
    Fault(8, "a volume of zeros", voxels("t2", np.zeros_like), says="all"),
    Fault(9, "negative intensities around a background of 0", one_voxel("t2", -20, "int16"), code=0, says="negative"),
    Fault(9, "an outlier of 1e30", one_voxel("t2", 1e30), code=0, says="1e+30"),
    Fault(9, "not skull-stripped", voxels("t2", lambda a: np.maximum(a, 50)), code=0, says="skull"),
]
MASKS = [
    Fault(10, "enhancing tumour as 3 in BraTS 2019's form", enhancing_is_3, says="brats2023"),
    Fault(10, "labels 3 and 4 in BraTS 2019's form", one_voxel("seg", 3, "uint8"), says="brats2015"),
    Fault(10, "label 4 (a cavity in 2024) in BraTS 2023's form", as_2023, says="brats2024"),
    Fault(10, "enhancing tumour that never occurs", without_enhancing, code=0, says="enhancing"),
    Fault(11, "labels of 0.9999", one_voxel("seg", 0.9999), code=0, says="0 refused"),
    Fault(11, "255 for tumour", one_voxel("seg", 255, "uint8"), says="255"),
    Fault(11, "a soft mask", one_voxel("seg", 0.4), says="the mask is off an integer by up to 0.4"),
    Fault(11, "a negative label", one_voxel("seg", -1, "int16"), says="the mask holds values from -1"),
    Fault(11, "NaN in a mask", one_voxel("seg", NAN), says="NaN"),
    Fault(11, "a mask of background only", voxels("seg", np.zeros_like), code=0, says="all background"),
    Fault(12, "a mask of another shape", voxels("seg", lambda a: a[:-1]), says="mask has shape (32, 32, 7)"),
    Fault(
        12,
        "a mask with a flipped affine",
        affine("seg", lambda a: a @ np.diag([-1, 1, 1, 1])),
        says="mask is flipped along x against t1",
    ),
    Fault(
        12,
        "a mask with another spacing",
        affine("seg", lambda a: a @ np.diag([1, 1, 3, 1])),
        says="mask has spacing (1, 1, 3) mm against (1, 1, 1) mm of t1",
    ),
    Fault(
        12,
        "an affine that differs by 0.0005",
        affine("seg", lambda a: a + 5e-4 * np.eye(4, 4, 3)),
        code=0,
        says="0 refused",
    ),
]
SETS = [
    Fault(13, "a case without one modality", removed("t2"), says="(no t2)"),
    Fault(13, "the same, left out on request", removed("t2"), CHECK + " --data.missing=drop", code=0, says="left out"),
    Fault(13, "the same, zeros on request", removed("t2"), FIT + " --data.missing=zero", code=0, says="(no t2)"),
    Fault(14, "one case name under both grades", case_twice, says="expected each name once"),
    Fault(14, "one content under two case names", same_content, code=0, says="same content"),
    Fault(
        15,
        "two scans of a patient on both sides of a split",
        lambda root: [second_scan(root), split_of(lambda n: {"train": n[:1] + n[2:], "val": n[1:2]})(root)],
        FIT + " --data.split_file={work}/split.json",
        says="the split has patients on two sides",
    ),
    Fault(
        15,
        "a split that names a case that does not exist",
        split_of(lambda n: {"train": [*n[1:], "other"], "val": n[:1]}),
        FIT + " --data.split_file={work}/split.json",
        says="other",
    ),
    Fault(
        15,
        "a split that leaves a case out",
        split_of(lambda n: {"train": n[2:], "val": n[:1]}),
        FIT + " --data.split_file={work}/split.json",
        says="leav",
    ),
    Fault(16, "strata too small for every part", nothing, SPLIT, says="validation would be empty"),
    Fault(
        16,
        "a split file without validation that nobody asked for",
        split_of(lambda n: {"train": n, "val": []}),
        FIT + " --data.split_file={work}/split.json",
        says='"val" is empty',
    ),
    Fault(17, "one case", only(1), FIT, says="validation would be empty"),
    Fault(
        18, "a cache that cannot be written", blocked, PREPARE.replace("{work}/cache", "{work}/blocked"), says="blocked"
    ),
]
SETTINGS = [
    Fault(
        18,
        "a run's folder that cannot be made",
        blocked,
        FIT + " --run.directory={work}/blocked/run",
        code=2,
        says="blocked/run: cannot be made (Not a directory); give another folder",
    ),
    Fault(19, "an unknown key", nothing, FIT + " --data.bach_size=3", code=2, says="did you mean --data.batch_size?"),
    Fault(19, "a wrong type", nothing, FIT + " --data.batch_size=many", code=2, says="batch_size"),
    Fault(
        19, "a metric that is never logged", nothing, FIT + " --run.monitor=val/dise_wt", code=2, says="never logged"
    ),
    Fault(
        20,
        "a patch that the strides do not divide",
        nothing,
        FIT + " --data.patch=[30,30]",
        code=2,
        says="nearest 16 or 32",
    ),
    Fault(
        20,
        "a patch larger than the volume: padded",
        nothing,
        FIT + " --data.patch=[64,64]",
        code=0,
        says="best checkpoint",
    ),
    Fault(
        20,
        "regions asked of binary masks",
        nothing,
        FIT + " --data.native_labels=binary --data.labels=regions",
        code=2,
        says="binary",
    ),
    Fault(
        21,
        "a class outside the allow-list",
        nothing,
        FIT + " --model.networks.segmentor=subprocess.Popen",
        code=2,
        says="subprocess.Popen",
    ),
]
SETTINGS += [
    Fault(
        21,
        "a checkpoint of another network",
        nothing,
        FIT + " && test --config segan_small --root={root} --data.cache_dir={work}/cache "
        "--data.preparation.crop=null --data.stratify_by=[] --ckpt_path={work}/run/checkpoints/last.ckpt",
        says="another network",
    ),
    Fault(
        21,
        "a checkpoint of another label scheme",
        nothing,
        FIT + " && test --ckpt_path={work}/run/checkpoints/last.ckpt --config segan_cat_small --root={root} "
        "--data.cache_dir={work}/cache --data.preparation.crop=null --data.stratify_by=[] --data.labels=regions",
        says="labels whole_tumour, the configuration says regions",
    ),
    Fault(
        22,
        "a run's directory again, with another configuration",
        nothing,
        FIT + " && " + FIT + " --data.batch_size=5",
        code=1,
        says="batch_size",
    ),
    Fault(
        22,
        "a run's directory again, with more epochs: continued",
        nothing,
        FIT + " && " + FIT + " --trainer.max_epochs=2",
        code=0,
        says="continuing",
    ),
]
FAULTS = [*FILES, *VOXELS, *MASKS, *SETS, *SETTINGS]

CACHE = "tests/data/prepare/test_cache"
ELSEWHERE = [
    (
        3,
        "4-D files whose layout says which volume is which",
        "tests/data/test_case_files.py::the_modalities_of_a_4d_file_are_told_apart_and_the_mask_comes_last",
    ),
    (
        8,
        "a case of zeros at prediction: an empty mask and a note",
        "tests/inference/test_predictor.py::a_case_of_zeros_is_segmented_as_empty_with_a_note",
    ),
    (
        14,
        "equal contents stay on one side of a split",
        "tests/data/split/test_splits.py::cases_that_must_share_a_side_do_even_through_a_third",
    ),
    (
        16,
        "a region that validation lacks is not available, neither 0 nor 1",
        "tests/evaluation/test_tables.py::means_stand_beside_the_number_of_cases_that_they_are_over",
    ),
    (
        17,
        "fewer validation cases than ranks",
        "tests/data/test_module.py::more_ranks_than_validation_cases_are_refused",
    ),
    (18, "a full disk", CACHE + "_room.py::a_full_disk_is_told_with_needed_and_free_bytes_before_anything_is_written"),
    (
        18,
        "a disk that fills up meanwhile",
        CACHE + "_room.py::a_disk_that_fills_up_while_an_entry_is_written_keeps_the_finished_ones",
    ),
    (
        18,
        "killed 20 times while writing, with a reader at the same time",
        CACHE + "_kills.py::twenty_kills_at_random_moments_neither_tear_a_read_nor_lose_an_entry",
    ),
    (
        18,
        "four processes build one entry",
        CACHE + "_builders.py::of_four_processes_that_ask_for_an_entry_one_builds_it",
    ),
    (18, "any byte of an entry flipped", CACHE + "_damage.py::no_flipped_byte_of_an_entry_is_believed"),
    (18, "a changed source", CACHE + "_damage.py::a_changed_source_is_prepared_anew"),
]
"""Faults that need more than a file and a command: number, what, and the test."""
