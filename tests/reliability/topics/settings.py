"""Rows of docs/reliability.md: shipped settings and those that do not fit together."""

from __future__ import annotations

from tests.reliability.faults import Fault, nothing

FIT = (
    "fit --config segan_cat --config brats --root={root} --data.cache_dir={work}/cache "
    "--run.directory={work}/run --data.preparation.crop=null --trainer.accelerator=cpu"
)

TITLE = "Shipped settings and those that do not fit together"
FAULTS: list[Fault] = [
    Fault(
        20,
        "a number of loader workers that is none",
        nothing,
        FIT + " --data.workers=-1",
        code=2,
        says="--data.workers -1: expected auto, or at least 0, which loads in the training process",
    ),
    Fault(
        20,
        "two configuration files that disagree about preparation",
        nothing,
        FIT.replace("brats", "albunet_preparation") + " --data.workers=-1",
        code=2,
        says="note: albunet_preparation replaces data.preparation.scaling of segan_cat: percentile -> zscore",
    ),
]
ELSEWHERE: list[tuple[str, str]] = [
    (
        "too little shared memory for automatic workers (Docker's 64 MB)",
        "tests/data/sample/test_loading.py::no_more_workers_than_half_of_the_free_shared_memory_holds",
    ),
    (
        "automatic workers without /dev/shm",
        "tests/data/sample/test_loading.py::what_is_small_or_has_no_shared_memory_is_loaded_in_the_training_process",
    ),
    (
        "ranks on one machine that would each take all cores for workers",
        "tests/data/sample/test_loading.py::ranks_of_a_machine_share_its_cores_and_tasks_of_slurm_have_their_own",
    ),
    (
        "a data file after a system of other preparation, labels or modalities (`-c albunet3d -c brats`)",
        "tests/experiments/test_shipped.py::the_brats_file_leaves_every_system_as_it_is",
    ),
    (
        "a data set that lacks a modality of the system (`-c albunet2d -c lgg`): a note",
        "tests/experiments/test_shipped.py::a_system_goes_without_what_the_data_lack_in_its_own_order_with_a_note",
    ),
    (
        "a schedule longer or shorter than the run: a note; null follows the run, also when it goes on",
        "tests/training/test_schedules.py::a_schedule_longer_than_the_run_is_said_at_the_start",
    ),
    (
        "a schedule as long as a run without an end",
        "tests/training/test_schedules.py::a_run_without_an_end_is_refused_before_its_first_batch",
    ),
    (
        "a shipped file names a section that its paper does not have",
        "tests/experiments/test_shipped.py::every_section_that_a_shipped_file_names_is_one_of_its_paper",
    ),
    (
        "gain and gamma of z-scores, of [-1, 1] and of native values: padding stays what it is",
        "tests/data/sample/test_sampling.py::intensities_vary_and_padding_does_not",
    ),
    (
        "brightness and gamma of 3-D patches of z-scores: the same",
        "tests/data/sample/test_intensities.py::brightness_contrast_and_gamma_leave_the_background_alone",
    ),
    (
        "the time left of a run that patience ends",
        "tests/training/callbacks/test_progress.py::a_run_that_patience_may_end_promises_its_earliest_end_only",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
