"""Rows of docs/reliability.md: Lightning's own flags."""

from __future__ import annotations

from tests.reliability.faults import FIT, Fault, nothing, split_of

TITLE = "Lightning's own flags"
FAULTS: list[Fault] = [
    Fault(
        19,
        "fewer validation cases than there are, asked for",
        nothing,
        f"{FIT} --data.val_fraction=0.4 --trainer.limit_val_batches=1",
        0,
        "scored 1 of 2 cases, as asked (--trainer.limit_val_batches 1)",
    ),
    Fault(19, "one batch and one case, as a try", nothing, f"{FIT} --trainer.fast_dev_run=true", 0, "no file was left"),
    Fault(
        19,
        "Lightning's clipping of gradients",
        nothing,
        f"{FIT} --trainer.gradient_clip_val=1",
        2,
        "give --model.clip_gradient",
    ),
    Fault(
        19,
        "Lightning's accumulation of gradients",
        nothing,
        f"{FIT} --trainer.accumulate_grad_batches=2",
        2,
        "give --model.accumulate",
    ),
    Fault(
        19,
        "an end counted in optimiser steps",
        nothing,
        f"{FIT} --trainer.max_steps=10",
        2,
        "counts the steps of all optimisers, two a batch where two networks alternate",
    ),
    Fault(
        19,
        "weights in half precision",
        nothing,
        f"{FIT} --trainer.precision=16-true",
        2,
        "give 16-mixed or bf16-mixed",
    ),
    Fault(
        19,
        "a callback that needs a logger, without one",
        nothing,
        f"{FIT} --trainer.callbacks+=LearningRateMonitor",
        2,
        "writes to a logger, and there is none",
    ),
    Fault(
        19,
        "a debug file before the system file, which would replace its settings",
        nothing,
        "fit --config debug_fast --config segan_cat_small --root={root}",
        2,
        "trainer.max_epochs; give the system file first",
    ),
    Fault(
        16,
        "no validation, asked for",
        nothing,
        f"{FIT} --data.val_fraction=0",
        0,
        "nothing was validated, so no checkpoint was chosen; last checkpoint:",
    ),
    Fault(
        16,
        "a split file without validation, asked for",
        split_of(lambda names: {"train": names, "val": []}),
        f"{FIT} --data.split_file={{work}}/split.json --data.val_fraction=0",
        0,
        "nothing was validated",
    ),
    Fault(
        16,
        "no validation and no end",
        nothing,
        f"{FIT} --data.val_fraction=0 --trainer.max_epochs=-1",
        2,
        "without validation nothing stops the run early; give --trainer.max_epochs",
    ),
    Fault(
        16,
        "no validation and a split file that has some",
        split_of(lambda names: {"train": names[:3], "val": names[3:]}),
        f"{FIT} --data.split_file={{work}}/split.json --data.val_fraction=0",
        2,
        "which has 2 validation cases",
    ),
    Fault(
        21,
        "a class of a package that was not allowed",
        nothing,
        f"{FIT} --model.networks.segmentor=mypackage.Net",
        2,
        "if you trust it, set SEGAN_PL_ALLOW_IMPORTS=mypackage",
    ),
    Fault(19, "an end before the first batch", nothing, f"{FIT} --trainer.max_time=00:00:00:00", 1, "no checkpoint"),
]
ELSEWHERE: list[tuple[str, str]] = [
    (
        "such a class in a configuration file or a checkpoint",
        "tests/cli/test_main.py::a_file_or_a_checkpoint_that_names_such_a_class_says_the_same",
    ),
    (
        "a run without validation in `validate`, `test`, `compare`, `report`, `predict` and `postprocess`",
        "tests/training/test_without_validation.py::the_other_commands_know_such_a_run",
    ),
    (
        "a run that may not go through, tried in seconds (`-c debug_fast`)",
        "tests/cli/test_debug_configs.py::fast_is_one_batch_and_one_case_to_a_checkpoint_in_seconds",
    ),
    (
        "a network that may not learn (`-c debug_overfit`)",
        "tests/cli/test_debug_configs.py::overfit_lowers_the_loss_of_a_few_slices",
    ),
    (
        "a run that takes long (`-c debug_profile`)",
        "tests/cli/test_debug_configs.py::profile_leaves_its_table_in_the_runs_folder",
    ),
    (
        "an argument of the Trainer that docs/trainer.md does not know",
        "tests/cli/test_trainer_flags.py::the_page_and_the_table_know_every_argument_of_the_installed_trainer",
    ),
    (
        "a part of the test cases scored after all of them",
        "tests/cli/test_trainer_flags.py::a_limit_on_validation_is_kept_and_said_and_the_whole_table_of_a_test_stays",
    ),
    (
        "`overfit_batches`, whose sampler is not ours",
        "tests/cli/test_trainer_flags.py::overfitting_repeats_the_same_batches_in_every_epoch",
    ),
    (
        "an `overfit_batches` run that stopped within an epoch goes on",
        "tests/data/sample/test_sampling.py::overfitting_goes_on_within_an_epoch_and_the_next_ones_are_whole",
    ),
    (
        "a large `--trainer.max_epochs` on the line, without validation: it is an end",
        "tests/training/test_without_validation.py::a_large_number_of_epochs_is_no_end_in_a_file_and_one_on_the_line",
    ),
    (
        "a `--run.monitor` that is never logged, without validation: nothing uses it",
        "tests/training/test_without_validation.py::a_score_that_nothing_uses_is_not_refused",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
