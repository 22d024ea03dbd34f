"""Rows of docs/reliability.md: signals, shared memory and the surroundings."""

from __future__ import annotations

from tests.reliability.faults import Fault

TITLE = "Signals, shared memory and the surroundings"
FAULTS: list[Fault] = []
STOPPING = "tests/training/run/test_stopping.py::"
RANKS = "tests/training/run/test_stopping_ranks.py::"
SHARED = "tests/training/test_shared_memory.py::"
PLACES = "tests/training/run/test_surroundings.py::"
ELSEWHERE: list[tuple[str, str]] = [
    (
        "srun on the PATH, SLURM_*, WANDB_*, another launcher's RANK and MASTER_ADDR, CUDA_VISIBLE_DEVICES, "
        "OMP_NUM_THREADS, LC_ALL=C, no HOME, TMPDIR on another file system, not root, a path with a blank: tests pass",
        PLACES + "tests_pass_wherever_they_are_called",
    ),
    (
        "the same, from a path with a blank: fit warns of nothing and notes srun in one line",
        PLACES + "fit_runs_wherever_it_is_called_and_warns_of_nothing",
    ),
    (
        "`validate` or `test` is killed: the checkpoint's configuration was in no temporary file",
        "tests/cli/test_main.py::a_checkpoint_alone_is_enough_to_test_it",
    ),
    (
        "the output's reader leaves (`| head`): the command ends without a word, exit 141 as other tools",
        "tests/cli/test_program.py::a_reader_that_leaves_ends_a_command_without_a_word",
    ),
    (
        "a Slurm job of several tasks without srun: the run starts its own ranks",
        PLACES + "a_job_without_srun_starts_its_own_ranks",
    ),
    (
        "processes of srun or torchrun, tasks, nodes or visible GPUs that are not those of the trainer's settings: "
        "refused before PyTorch is imported",
        "tests/training/run/test_launch.py::a_mismatch_is_one_line_with_what_would_be_right",
    ),
    (
        "ranks of torchrun on one node and on two, of srun, of srun in a job called bash: one run",
        "tests/training/run/test_launched_ranks.py::two_ranks_train_one_run_whoever_started_them",
    ),
    (
        "two nodes that Lightning starts by one command each (NODE_RANK): the second does not ask for the folder",
        PLACES + "of_several_nodes_one_command_each_the_first_node_has_the_first_rank",
    ),
    (
        "make in a checkout whose path has a blank",
        PLACES + "make_takes_a_checkout_whose_path_has_a_blank",
    ),
    (
        "a home that is missing or read-only: prepared cases go to $TMPDIR, said in a note",
        "tests/data/prepare/test_cache.py::a_home_that_cannot_be_written_is_not_the_default_folder",
    ),
    (
        "a home that may not be entered: the same",
        "tests/data/prepare/test_cache.py::a_home_that_may_not_be_entered_is_not_the_default_folder",
    ),
    (
        "a folder of that name in $TMPDIR that is a link, or another user's",
        "tests/data/prepare/test_cache.py::a_folder_in_tmpdir_that_somebody_else_made_is_no_cache",
    ),
    (
        "SIGTERM in training, in validation or at an epoch's end: last.ckpt of that batch, exit 143, an exact resume",
        STOPPING + "a_stopped_run_that_goes_on_ends_with_the_weights_and_scores_of_one_that_nobody_stopped",
    ),
    (
        "Ctrl-C (exit 130) and a closed terminal (SIGHUP, exit 129): the same",
        STOPPING + "ctrl_c_and_a_closed_terminal_leave_a_checkpoint_too",
    ),
    (
        "SIGTERM to one of two ranks, to both, to their group, or twice, while preparing, in training, in validation: "
        "both end within 10 s (more on a busy machine), exit 143",
        RANKS + "two_ranks_end_together_whichever_was_told",
    ),
    (
        "a second SIGTERM to one of two ranks in the middle of a long step: both end at once",
        RANKS + "a_second_signal_ends_both_ranks_in_the_middle_of_a_step",
    ),
    (
        "a rank that raises, is killed or is out of memory, in training, in validation or while preparing: the other "
        "ends within 10 s (more on a busy machine) and says which rank and why",
        "tests/training/run/test_lost_ranks.py::when_a_rank_ends_the_other_ends_and_says_why",
    ),
    (
        "a rank that is gone without a word, on another machine too: its connection breaks, and all ranks know",
        "tests/training/run/test_fellows.py::a_connection_that_breaks_is_a_rank_that_ended_without_a_word",
    ),
    ("SIGTERM while preparing: exit 143 at once", STOPPING + "a_stop_while_preparing_ends_at_once"),
    (
        "a second signal: the end at once; one stop that a launcher delivers twice is one",
        STOPPING + "the_second_signal_ends_at_once_but_for_the_same_one_delivered_twice",
    ),
    ("SIGUSR1: last.ckpt is written, training goes on", STOPPING + "sigusr1_writes_a_checkpoint_and_training_goes_on"),
    (
        "Ctrl-C in a terminal also reaches the loader's workers: they stay for the batch that is finished",
        STOPPING + "workers_are_not_in_the_runs_process_group",
    ),
    (
        "SIGUSR1, then SIGTERM, to every process of a job, the loader's workers too (systemd, Slurm): both checkpoints",
        STOPPING + "a_signal_that_also_reaches_the_loaders_workers_costs_no_checkpoint",
    ),
    (
        "Slurm's signal to requeue (SIGUSR1 under srun): last.ckpt of that batch, then scontrol requeue, exit 143",
        STOPPING + "slurms_signal_stops_the_run_with_a_checkpoint_and_requeues_the_job",
    ),
    ("a requeue that Slurm refuses: said, with the reason", STOPPING + "a_job_that_cannot_be_requeued_says_so"),
    (
        "Ctrl-C after the last batch (an upload, the demonstration's table): exit 130 at once",
        STOPPING + "ctrl_c_after_training_ends_the_command_and_says_so",
    ),
    (
        "a stop that comes between the last batch and the end: training is complete, said, exit 0",
        STOPPING + "a_stop_that_no_batch_follows_is_answered",
    ),
    (
        "a stop of `validate`, which speaks of no training",
        STOPPING + "a_scoring_that_is_stopped_speaks_of_no_training",
    ),
    (
        "a stop on a full disk: says which checkpoint the run goes on from",
        STOPPING + "a_full_disk_at_a_stop_leaves_the_checkpoint_before",
    ),
    (
        "a stop under fast_dev_run: no file, and no promise to go on",
        STOPPING + "a_run_without_a_whole_checkpoint_does_not_promise_to_go_on",
    ),
    (
        "/dev/shm too small for the workers that were asked for (Docker's 64 MB): refused with room, need and remedies",
        SHARED + "workers_that_a_real_small_shared_memory_does_not_hold_are_refused",
    ),
    (
        "/dev/shm that fills in training: the run ends with exit 1 instead of waiting for ever",
        SHARED + "a_shared_memory_that_fills_in_training_ends_the_run_instead_of_letting_it_wait",
    ),
    (
        "a killed fit leaves no folder of its own in $TMPDIR: it has none",
        STOPPING + "a_fit_has_no_folder_among_the_temporary_files_that_a_kill_could_leave",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
