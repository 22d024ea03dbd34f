"""Rows of docs/reliability.md: run folders, checkpoints and what is monitored."""

from __future__ import annotations

from tests.reliability.faults import FIT, Fault, nothing

TITLE = "Run folders, checkpoints and what is monitored"
FAULTS = [
    Fault(
        16,
        "a count as the score that chooses the checkpoint",
        nothing,
        f"{FIT} --run.monitor=val/empty_prediction",
        2,
        "val/empty_prediction can choose no checkpoint: neither more nor less of it is better",
    ),
]
ELSEWHERE: list[tuple[str, str]] = [
    (
        "last.ckpt damaged, cut off, empty or gone: `fit` goes on from the newest whole checkpoint",
        "tests/training/run/test_continuing.py::a_damaged_or_missing_one_is_replaced_by_the_newest_whole_one",
    ),
    (
        "`--ckpt_path` next to a damaged last.ckpt",
        "tests/training/run/test_continuing.py::a_checkpoint_on_the_line_works_beside_a_damaged_last_one",
    ),
    (
        "a trained run without any whole checkpoint",
        "tests/training/run/test_continuing.py::a_trained_run_without_a_whole_checkpoint_is_refused_with_what_helps",
    ),
    (
        "torn or empty config.yaml, environment.json, split.json, metrics.csv; YAML tags that name classes",
        "tests/training/run/test_continuing.py::a_damaged_record_is_told_with_its_name_before_any_work",
    ),
    (
        "YAML tags that name classes in a checkpoint's configuration",
        "tests/training/run/test_continuing.py::tags_in_a_checkpoints_configuration_are_refused_and_run_nothing",
    ),
    (
        "two `fit` in one `--run.directory` on one machine",
        "tests/training/run/test_lease.py::a_second_holder_is_refused_with_the_firsts_host_process_and_age",
    ),
    (
        "two `fit` in one `--run.directory` on two machines",
        "tests/training/run/test_lease.py::a_holder_elsewhere_that_goes_on_touching_is_alive",
    ),
    (
        "a run was killed and left its lease, here",
        "tests/training/run/test_lease.py::a_killed_holder_of_this_machine_is_found_dead_at_once",
    ),
    (
        "a run was killed and left its lease, on another machine",
        "tests/training/run/test_lease.py::a_holder_elsewhere_that_is_silent_for_long_is_dead",
    ),
    (
        "a run's machine slept, and another process took the folder over",
        "tests/training/run/test_lease.py::the_holder_touches_its_lease_and_notices_when_it_is_taken_over",
    ),
    (
        "a run's lease cannot be read for a while (a stale file handle, no free descriptor)",
        "tests/training/run/test_lease.py::a_lease_that_cannot_be_read_for_a_while_stays_its_holders",
    ),
    ("a run's lease is deleted", "tests/training/run/test_lease.py::a_lease_that_somebody_deleted_is_laid_down_again"),
    (
        "a run was killed and its parent never waits for it (a container without init)",
        "tests/training/run/test_lease.py::a_holder_that_ended_and_that_nobody_waited_for_is_dead",
    ),
    (
        "two processes go on with one killed run at once",
        "tests/training/run/test_lease.py::of_two_that_bury_one_stale_lease_at_once_exactly_one_gets_the_folder",
    ),
    (
        "a network file system asks for a link again whose answer was lost",
        "tests/training/run/test_lease.py::a_link_that_is_asked_for_again_locks_nobody_out",
    ),
    (
        "a file system without links, and a lease that was buried by mistake",
        "tests/training/run/test_lease.py::who_buries_a_live_lease_by_mistake_gives_it_back",
    ),
    (
        "`--ckpt_path` of another run in a folder that has trained: said that it is not used",
        "tests/training/run/test_continuing.py::a_checkpoint_of_another_run_that_is_not_taken_is_named",
    ),
    (
        "fewer epochs than a run or a `--ckpt_path` already has: said, and the run stays as it is",
        "tests/cli/test_trainer_flags.py::a_run_that_has_its_epochs_says_so_and_stays_as_it_is",
    ),
    (
        "a run that goes on within an epoch: its progress counts the batches of before, and its pace does not",
        "tests/training/callbacks/test_progress.py::a_run_that_goes_on_within_an_epoch_counts_the_batches_of_before",
    ),
    (
        "patience with several validations in an epoch, or one in several: the earliest end counts them",
        "tests/training/callbacks/test_progress.py::the_earliest_end_counts_the_validations_of_an_epoch",
    ),
    (
        "`demo` whose best validation lies within an epoch",
        "tests/cli/commands/test_demo.py::the_best_validation_may_lie_within_an_epoch",
    ),
    (
        "a loader's worker is killed",
        "tests/data/sample/test_resume_and_loss.py::a_loader_worker_that_is_killed_ends_the_run_with_one_line",
    ),
    (
        "the cache is deleted while a run uses it",
        "tests/data/sample/test_resume_and_loss.py::a_cache_that_is_deleted_while_it_is_used_is_told_with_what_helps",
    ),
    (
        "a checkpoint is continued in a new folder and nothing better comes",
        "tests/training/callbacks/test_kept_checkpoints.py::a_new_folder_calls_no_worse_checkpoint_the_best",
    ),
    (
        "a run's folder is moved and goes on",
        "tests/training/callbacks/test_kept_checkpoints.py::a_run_whose_folder_was_moved_knows_its_best_checkpoints",
    ),
    (
        "another number of ranks, or another batch, from a checkpoint on",
        "tests/training/test_within_epoch.py::"
        "with_another_joined_batch_an_epoch_that_was_broken_off_begins_again_and_that_is_said",
    ),
    (
        "the best validation lies within an epoch (`--trainer.val_check_interval 0.5`)",
        "tests/training/callbacks/test_kept_checkpoints.py::the_best_validation_within_an_epoch_is_kept_with_its_own_weights",
    ),
    (
        "an epoch goes on after its validation: its end has no score",
        "tests/training/callbacks/test_kept_checkpoints.py::a_score_belongs_to_no_checkpoint_of_later_weights",
    ),
    (
        "a run stops within an epoch and goes on from there",
        "tests/training/test_within_epoch.py::a_run_that_goes_on_within_an_epoch_ends_as_one_that_never_stopped",
    ),
    (
        "epochs without validation (`--trainer.check_val_every_n_epoch 2`) repeat no earlier score on the console",
        "tests/training/callbacks/test_progress.py::an_epoch_without_validation_prints_no_earlier_score",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
