"""Lightning's own options: each does what it means, or is refused before any work in one line with our option."""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Union, get_args

import pytest
from lightning.pytorch import Trainer

from segan_pl.__main__ import main
from segan_pl.cli.trainer_flags import REFUSED, REFUSED_CALLBACKS, require_flags, whole_numbers_first
from segan_pl.errors import UsageError
from segan_pl.evaluation.tables import limited
from tests.cohort import QUIET, SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step. but have no"),  # a run without validation
]

ARGUMENTS = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
PAGE = Path(__file__).parents[2] / "docs" / "trainer.md"

Fit = Callable[..., int]


@pytest.fixture
def fit(tmp_path: Path, cohort: Path, prepared: Path) -> Fit:
    """`segan_pl fit` in tmp_path/run; other commands by name."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))

    def run(*arguments: str, command: str = "fit") -> int:
        return main([command, "--config", str(path), f"--run.directory={tmp_path / 'run'}", *arguments])

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(run: Path) -> list[dict[str, str]]:
    """metrics.csv without its clock."""
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows(run / "metrics.csv")]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_page_and_the_table_know_every_argument_of_the_installed_trainer() -> None:
    table, _, _ = PAGE.read_text(encoding="utf-8").partition("\n## ")
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(ARGUMENTS)
    assert set(REFUSED) <= ARGUMENTS


def test_the_page_names_every_refused_callback() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in REFUSED_CALLBACKS if f"`{name}`" not in text] == []


CALLBACK = "lightning.pytorch.callbacks"
REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"barebones": True}, "--trainer.barebones true: .*-c debug_profile"),
    ({"max_epochs": 0}, "--trainer.max_epochs 0: nothing would be trained; give at least 1"),
    ({"max_epochs": -2}, "--trainer.max_epochs -2: "),
    ({"min_epochs": 9, "max_epochs": 2}, "--trainer.min_epochs 9 and --trainer.max_epochs 2"),
    ({"min_epochs": -1}, "expected at least 0"),
    ({"limit_train_batches": 0}, "nothing would be trained"),
    ({"limit_train_batches": 0.0}, "nothing would be trained"),
    ({"limit_predict_batches": 1}, "segan_pl predict"),
    ({"precision": "16-true"}, "give 16-mixed or bf16-mixed"),
    ({"precision": "bf16-true"}, "give 16-mixed or bf16-mixed"),
    ({"strategy": "ddp_spawn"}, "--trainer.strategy ddp_spawn: expected auto, ddp"),
    ({"strategy": "ddp_notebook"}, "--trainer.devices N"),
    ({"strategy": {"class_path": "lightning.pytorch.strategies.FSDPStrategy"}}, "FSDPStrategy: expected auto, ddp"),
    ({"gradient_clip_val": 0.5}, "give --model.clip_gradient"),
    ({"gradient_clip_algorithm": "value"}, "--model.clip_gradient"),
    ({"accumulate_grad_batches": 2}, "give --model.accumulate"),
    ({"max_steps": 3}, "give --trainer.max_epochs"),
    ({"min_steps": 3}, "give --trainer.min_epochs"),
    ({"enable_checkpointing": False}, "--trainer.fast_dev_run 1"),
    ({"logger": True}, r"--run.loggers \[tensorboard\]"),
    ({"default_root_dir": "x"}, "--run.directory"),
    ({"use_distributed_sampler": True}, "over ranks itself"),
    ({"check_val_every_n_epoch": 0}, "expected at least 1"),
    (
        {"check_val_every_n_epoch": 3, "max_epochs": 2},
        "validated.*; give --trainer.check_val_every_n_epoch 2 or less",
    ),
    ({"val_check_interval": 0}, "above 0"),
    ({"val_check_interval": 0.0}, "above 0"),
    ({"num_sanity_val_steps": -2}, "-1 for all"),
    ({"profiler": "xla"}, "expected simple, advanced, pytorch"),
    ({"model_registry": "x"}, "there is no registry"),
    ({"callbacks": [{"class_path": f"{CALLBACK}.LearningRateMonitor"}]}, r"give --run.loggers \[tensorboard\]"),
    ({"callbacks": {"class_path": f"{CALLBACK}.DeviceStatsMonitor"}}, r"give --run.loggers \[tensorboard\]"),
    ({"callbacks": [{"class_path": f"{CALLBACK}.BatchSizeFinder"}]}, "give --data.batch_size"),
]


@pytest.mark.parametrize(("given", "expected"), REFUSALS)
def test_it_is_refused_in_one_line_with_our_option(given: dict[str, object], expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as error:
        require_flags(given, {}, "fit")
    assert str(error.value).startswith(f"--trainer.{next(iter(given))}")
    assert "\n" not in str(error.value)


def test_every_rule_of_fit_has_a_refusal_above() -> None:
    tried = {name for given, _ in REFUSALS for name in given}
    assert {name for name, rule in REFUSED.items() if "fit" in rule.commands} <= tried


def test_the_trainers_own_defaults_and_ours_pass() -> None:
    arguments = inspect.signature(Trainer.__init__).parameters.values()
    defaults = {one.name: one.default for one in arguments if one.name not in ("self", "use_distributed_sampler")}
    for command in ("fit", "validate", "test"):
        require_flags({**defaults, "use_distributed_sampler": False, "num_sanity_val_steps": 1}, {}, command)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--trainer.limit_val_batches=0.1", "--trainer.limit_val_batches 0.1: less than a case of 2"),
        ("--trainer.num_nodes=0", "--trainer: `num_nodes` must be a positive integer, but got 0"),
        ("--trainer.callbacks+=LearningRateMonitor", "--trainer.callbacks LearningRateMonitor: writes to a logger"),
    ],
)
def test_the_command_refuses_before_any_work(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, expected: str
) -> None:
    assert fit(argument) == 2
    assert f"segan_pl: error: {expected}" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_was_trained_with_such_an_option_can_still_be_scored() -> None:
    old = {"logger": True, "max_steps": 5, "default_root_dir": "x", "use_distributed_sampler": True}
    require_flags(old, {}, "test")
    with pytest.raises(UsageError, match="nothing would be scored"):
        require_flags({**old, "limit_test_batches": 0}, {}, "test")
    require_flags({"limit_test_batches": 0}, {}, "fit")  # of the `test` to come


def test_a_logger_that_is_forbidden_and_asked_for_is_refused() -> None:
    with pytest.raises(UsageError, match="give one of them"):
        require_flags({"logger": False}, {"loggers": ["wandb"]}, "fit")
    require_flags({"logger": False}, {"loggers": []}, "fit")


def test_wandb_offline_without_wandb_is_refused() -> None:
    with pytest.raises(UsageError, match=r"W&B is not asked for; give --run.loggers \[wandb\] too"):
        require_flags({}, {"loggers": ["tensorboard"], "wandb_offline": True}, "fit")
    require_flags({}, {"loggers": ["wandb"], "wandb_offline": True}, "fit")


def test_callbacks_that_need_a_logger_pass_where_there_is_one() -> None:
    monitor = {"callbacks": [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]}
    require_flags(monitor, {"loggers": ["tensorboard"]}, "fit")
    require_flags({**monitor, "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger"}}, {}, "fit")


# -- those that do what they mean --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", ["true", "2"])
def test_fast_dev_run_trains_and_scores_so_many_and_leaves_no_file(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], batches: str
) -> None:
    assert fit(f"--trainer.fast_dev_run={batches}", "--run.plain_every=0") == 0
    said = capfd.readouterr().out + caplog.text
    number = 1 if batches == "true" else 2
    assert f"epoch 0 of 0-0, batch {number} of {number}: " in said
    assert "epoch 0 of 0-0: loss segmentor " in said
    assert ("scored 1 of 2 cases, as asked" in said) == (batches == "true")
    assert "fast_dev_run: went through; no file was left" in said
    assert not (tmp_path / "run").exists()


def test_a_limit_on_validation_is_kept_and_said_and_the_whole_table_of_a_test_stays(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert fit("--trainer.limit_val_batches=1", "--trainer.max_epochs=1") == 0
    assert caplog.text.count("1 of 2 cases, as asked (--trainer.limit_val_batches 1)") == 2  # at the start and the end
    assert len(rows(run / "scores" / "val_epoch_0000.csv")) == 1
    checkpoint = f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"
    assert fit(checkpoint, command="test") == 0
    assert fit(checkpoint, "--trainer.limit_test_batches=1", command="test") == 0
    assert len(rows(run / "scores" / "test_last.csv")) == 2
    assert len(rows(run / "scores" / "limited_test_last.csv")) == 1


@pytest.mark.parametrize(
    ("limit", "ranks", "expected"),
    [(1.0, 2, "abcde"), (1, 1, "a"), (1, 2, "ab"), (9, 1, "abcde"), (0.5, 1, "ab"), (0.5, 2, "ab"), (0, 1, "")],
)
def test_the_first_cases_of_each_rank_are_scored(limit: float, ranks: int, expected: str) -> None:
    assert sorted(limited("abcde", limit, ranks)) == list(expected)


def test_overfitting_repeats_the_same_batches_in_every_epoch(fit: Fit, tmp_path: Path) -> None:
    still = ["--model.optimizers.default.init_args.lr=1e-30"]
    line = [*still, "--trainer.max_epochs=3", "--trainer.overfit_batches=2", "--trainer.num_sanity_val_steps=0"]
    assert fit(*line, "--model.networks.segmentor.init_args.bn_momentum=0.0") == 0
    found = losses(tmp_path / "run")
    assert [row["batches_seen"] for row in found] == ["2", "4", "6"]
    assert len({row["train/segmentor_dice"] for row in found}) == 1  # nothing moves, so equal batches lose alike


@pytest.mark.slow
def test_reloading_the_loaders_changes_no_batch(fit: Fit, tmp_path: Path) -> None:
    assert fit("--trainer.reload_dataloaders_every_n_epochs=1") == 0
    (tmp_path / "run").rename(tmp_path / "reloaded")
    assert fit() == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "reloaded")


def test_a_profile_lies_in_the_runs_folder_and_is_named(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit("--trainer.profiler=simple", "--trainer.limit_train_batches=1", "--trainer.max_epochs=1") == 0
    (table,) = (tmp_path / "run").glob("fit-profile*")
    assert f"profile: {table}" in caplog.text
    assert "run_training_batch" in table.read_text()


def test_a_run_too_short_for_a_checkpoint_does_not_end_well(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit("--trainer.max_time=00:00:00:00") == 1
    assert "no checkpoint was written" in caplog.text
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_that_has_its_epochs_says_so_and_stays_as_it_is(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert fit() == 0
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    for last in (2, 1):
        caplog.clear()
        assert fit(f"--trainer.max_epochs={last}") == 0
        (said,) = [line for line in caplog.messages if "run" in line and "srun" not in line]
        assert said == f"{run} already has 2 epochs; nothing to train (--trainer.max_epochs {last}); give more"
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == before
    other = [f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}", f"--run.directory={tmp_path / 'other'}"]
    assert fit(*other) == 2
    expected = "checkpoints/last.ckpt already has 2 epochs; give a larger --trainer.max_epochs (now 2)"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert fit(*other, "--trainer.max_epochs=3") == 0


def test_a_run_that_had_ended_and_lost_its_last_checkpoint_ends_well(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit("--trainer.max_epochs=1") == 0
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    assert fit("--trainer.max_epochs=1") == 0
    assert "last.ckpt is missing: the run goes on from epoch0000" in caplog.text
    assert "no checkpoint was written" not in caplog.text


def test_a_validation_after_more_batches_than_an_epoch_has_is_refused(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.val_check_interval=5") == 2
    assert "--trainer.val_check_interval 5: an epoch has 4 batches" in capsys.readouterr().err


def test_a_checkpoint_callback_of_ones_own_does_not_become_the_best(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.every_n_epochs=2"]
    assert fit(*own, "--trainer.callbacks.save_top_k=-1", "--trainer.limit_train_batches=1") == 0
    best = next(line for line in caplog.messages if line.startswith("best checkpoint: "))
    assert "checkpoints/epoch000" in best
    assert f"next: segan_pl report {tmp_path / 'run'}" in caplog.messages
    assert (tmp_path / "run" / "checkpoints" / "epoch=1-step=2.ckpt").is_file()


def test_a_progress_bar_of_ones_own_takes_the_place_of_ours(fit: Fit, capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.callbacks+=TQDMProgressBar", "--trainer.max_epochs=1") == 0
    assert "epoch 0 of 0-0: " not in capfd.readouterr().out


def test_batch_norm_over_ranks_says_that_one_device_has_none(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    assert fit("--trainer.sync_batchnorm=true", "--trainer.fast_dev_run=1") == 0
    assert "--trainer.sync_batchnorm true changes nothing on one device" in caplog.text


def test_a_whole_number_is_read_as_one_whatever_was_imported_before() -> None:
    def function(limit: Union[float, int, None] = None, share: float = 1.0) -> None:  # noqa: UP007
        """As where MONAI was imported before Lightning."""

    function.__annotations__ = {"limit": Union[float, int, None], "share": float}  # noqa: UP007
    whole_numbers_first(function)
    assert get_args(function.__annotations__["limit"]) == (int, float, type(None))
    assert function.__annotations__["share"] is float
