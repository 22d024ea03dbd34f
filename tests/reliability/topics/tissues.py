"""Rows of docs/reliability.md: data sets of tissues, cases without labels, and what is held out."""

from __future__ import annotations

from tests.reliability.faults import Fault

TITLE = "Data sets of tissues, and what is held out of training"
FAULTS: list[Fault] = []
_LAYOUTS = "tests/data/layouts/test_tissues.py::"
_HELD = "tests/data/split/test_holding_out.py::"
_MONDAL = "tests/data/split/test_mondal.py::"
ELSEWHERE: list[tuple[str, str]] = [
    (
        "half of an Analyze pair of iSEG is missing",
        f"{_LAYOUTS}voxels_of_iseg_without_their_header_are_found_and_the_reader_says_what_is_missing",
    ),
    (
        "an Analyze pair whose voxels are too few or too many, or with a fifth axis",
        "tests/data/io/test_pairs.py::an_analyze_pair_of_a_wrong_size_or_with_more_axes_is_refused",
    ),
    ("one image of iSEG in two formats", f"{_LAYOUTS}two_formats_of_one_image_of_iseg_are_refused"),
    (
        "iSEG-2017 and 2019 in one folder: their subjects have the same names",
        f"{_LAYOUTS}both_years_of_iseg_have_the_same_subjects_and_are_refused_together",
    ),
    (
        "MRBrainS13's T1_1mm, which lies on another grid",
        f"{_LAYOUTS}mrbrains13_never_takes_the_t1_of_another_grid_and_says_so",
    ),
    (
        "two masks for one case of MRBrainS13",
        f"{_LAYOUTS}of_the_two_masks_of_mrbrains13_that_of_all_labelled_cases_is_taken_and_the_other_by_name",
    ),
    (
        "MRBrainS18 without a registered inversion recovery",
        f"{_LAYOUTS}mrbrains18_takes_registered_images_and_says_where_there_is_none",
    ),
    (
        "an IBSR18 image of another voxel size, or with a broken header",
        f"{_LAYOUTS}of_another_voxel_size_or_a_broken_header_no_scanner_is_told_and_it_is_said",
    ),
    (
        "a tumour's data set and tissues in one folder",
        f"{_LAYOUTS}cases_of_another_layout_in_the_same_folder_are_refused_with_both_named",
    ),
    (
        "predictions for files with a trailing axis, or for Analyze pairs",
        "tests/whole/test_tissues.py::what_is_predicted_lies_in_the_order_of_the_files_and_is_scored_as_nibabel_counts",
    ),
    ("a value that cannot be held out", f"{_HELD}what_cannot_be_held_out_is_refused_in_one_line"),
    (
        "unlabelled cases of a scanner that is held out",
        f"{_HELD}a_run_by_the_file_never_sees_the_scanner_that_is_held_out",
    ),
    ("a subject of Mondal's split is missing", f"{_MONDAL}a_subject_that_is_missing_is_named"),
    ("options that Mondal's split cannot follow", f"{_MONDAL}what_does_not_go_with_it_is_refused_in_one_line"),
]
