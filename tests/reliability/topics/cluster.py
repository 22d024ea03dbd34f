"""Rows of docs/reliability.md: what ends a job of a real Slurm."""

from __future__ import annotations

from tests.reliability.faults import Fault

TITLE = "A cluster (a real Slurm of one node)"
FAULTS: list[Fault] = []
ONE = "tests/cluster/test_one_rank.py::"
TWO = "tests/cluster/test_two_ranks.py::"
WORKERS = "tests/experiments/sweep/test_worker.py::"
LIMITS = "tests/cluster/test_time_limits.py::"

ELSEWHERE: list[tuple[str, str]] = [
    (
        "a requeue in mid-epoch, then scancel in validation, on 2 ranks under srun: weights, optimisers and scores "
        "equal to the bit",
        TWO + "two_ranks_that_are_requeued_in_mid_epoch_and_cancelled_in_validation_end_as_one_that_nobody_stopped",
    ),
    (
        "a requeue, a preemption, a slurmd that dies and comes back, and a failing node, in one run: the same",
        ONE + "a_run_that_is_requeued_preempted_and_loses_its_node_ends_as_one_that_nobody_stopped",
    ),
    (
        "a job without srun: the signal to its script requeues it; a full disk at the next one: said, the checkpoint "
        "before stays, the job fails and is not requeued",
        ONE + "a_job_without_srun_is_requeued_by_the_signal_to_its_script_and_fails_where_the_disk_is_full",
    ),
    (
        "the signal that `--signal` asks for before the time limit: a checkpoint, and the job is requeued",
        LIMITS + "the_signal_that_the_script_asks_for_requeues_the_job",
    ),
    (
        "a time limit that ends a validation: a checkpoint, a word, and the validation is repeated",
        LIMITS + "a_time_limit_that_ends_a_validation_leaves_a_checkpoint_and_a_word",
    ),
    (
        "tasks that are not the ranks which are asked for: the job fails at once, in one line, and leaves no folder",
        "tests/cluster/test_mismatches.py::a_mismatch_fails_the_job_at_once_with_what_would_be_right",
    ),
    (
        "a run of a job array on 2 tasks, requeued by the signal: both train it, and what needs it waits",
        TWO + "a_run_of_an_array_trains_on_all_tasks_is_requeued_and_what_needs_it_waits",
    ),
    (
        "of two workers of a search one is killed and one requeued: no trial is lost or carried out twice, each ends "
        "as one that nobody stopped",
        "tests/cluster/test_searches.py::of_two_workers_one_is_killed_and_one_is_requeued_and_the_trials_end_as_if_"
        "nobody_had_stopped_them",
    ),
    (
        "a worker of a search is killed, and its trial with it (without Slurm): another takes the trial on",
        WORKERS + "what_a_killed_worker_leaves_another_takes_on_in_its_folder_and_no_other_trial_is_started_twice",
    ),
    (
        "a worker is killed and its trial's process lives on: nobody begins that trial until it has ended",
        WORKERS + "a_trial_whose_process_outlives_its_worker_is_left_to_it",
    ),
    (
        "the same command right after scancel: waits for the job's end, and says so",
        "tests/experiments/test_slurm.py::a_job_that_is_being_cancelled_is_waited_for_and_then_submitted_again",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
NOTE = """
Stopped again and again, by a program that starts the same Slurm: each start is stopped at its second batch, then
weights, optimisers and scores are compared with those of runs that nobody stopped.

    .venv/bin/python -m tests.cluster.soak --requeues 20 --cancels 20

On 2 cores that many other programs used, hence the seconds (the last row had an eighth of a core). The rows of the
search and of the run are of two sittings.

| what | stopped by | stops | equal to the bit | seconds |
|---|---|---|---|---|
| a search of 4 workers | requeue | 20 | 4 of 4 runs | 675 |
| a search of 4 workers | scancel | 20 | 4 of 4 runs | 671 |
| a run of 2 ranks | requeue | 20 | 1 of 1 runs | 1010 |
| a run of 2 ranks | scancel | 20 | 1 of 1 runs | 2900 |
"""
