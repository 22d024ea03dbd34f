"""Lightning's own options (`--trainer.*`): which values are refused before any work.

docs/trainer.md lists every argument of the Trainer; tests/cli/test_trainer_flags.py holds the page and this table
against the installed Trainer's signature.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Union, get_args

from segan_pl.errors import UsageError

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
STRATEGY_CLASSES = ("PhaseDDP", "DDPStrategy", "SingleDeviceStrategy")
HALVED = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")
PROFILERS = ("simple", "advanced", "pytorch")
EVERY = ("fit", "validate", "test")


class Rule(NamedTuple):
    """Values of one argument that are refused.

    Attributes:
        refuses: Whether a value, as it was parsed, is one of them.
        why: The reason and our option, after "--trainer.NAME VALUE: ".
        commands: Where the rule holds; elsewhere the argument has nothing to do and is let pass, since `validate` and
            `test` take a checkpoint's whole configuration.
    """

    refuses: Callable[[Any], bool]
    why: str
    commands: tuple[str, ...] = ("fit",)


def whole_numbers_first(function: Callable[..., Any]) -> None:
    """Let an argument that is a whole number or a share be read as a whole number where it is typed as one.

    `--trainer.limit_val_batches 1` is one batch, 1.0 is all of them, and jsonargparse takes the first type that fits.
    Which is first follows from what was imported before: `typing` keeps Optional[Union[float, int]] of another library
    (MONAI's) and gives it where Lightning asks for the reverse.
    """
    hints = inspect.unwrap(function).__annotations__
    for name, hint in hints.items():
        if {int, float} <= {*(kinds := get_args(hint))}:
            hints[name] = Union[(int, *(kind for kind in kinds if kind is not int))]


def _given(value: Any) -> bool:
    return value is not None


def _outside(*, low: float = -math.inf, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: value is not None and not low <= value <= high


def _is(*values: Any) -> Callable[[Any], bool]:
    """Whether the value is one of these; 0 is not False here, nor 1 True."""
    return lambda value: any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)


def _other_strategy(value: Any) -> bool:
    path = class_path(value)
    if value is None:
        return False
    return path.rpartition(".")[2] not in STRATEGY_CLASSES if path else value not in STRATEGIES


REFUSED: dict[str, Rule] = {
    "strategy": Rule(
        _other_strategy,
        f"expected {', '.join(STRATEGIES)}; for several devices --trainer.devices N is enough; the others start "
        f"processes that do not know the run, or were not made for networks that alternate",
        EVERY,
    ),
    "precision": Rule(
        _is(*HALVED),
        "would halve the weights too, for which no objective was made; give 16-mixed or bf16-mixed",
        EVERY,
    ),
    "logger": Rule(
        _is(True),
        "metrics.csv is always written; give --run.loggers [tensorboard], [wandb], [mlflow], [trackio] or several",
    ),
    "max_epochs": Rule(
        lambda value: value is not None and (value == 0 or value < -1),
        "nothing would be trained; give at least 1, or -1 for no end",
    ),
    "min_epochs": Rule(_outside(low=0), "expected at least 0"),
    "max_steps": Rule(
        lambda value: value not in (None, -1),
        "counts the steps of all optimisers, two a batch where two networks alternate, and may end in mid-epoch; give "
        "--trainer.max_epochs or --trainer.max_time",
    ),
    "min_steps": Rule(_given, "counts the steps of all optimisers; give --trainer.min_epochs"),
    "limit_train_batches": Rule(_is(0, 0.0), "nothing would be trained; to score a checkpoint, segan_pl validate"),
    "limit_val_batches": Rule(_is(0, 0.0), "nothing would be scored; give 1.0", ("validate",)),
    "limit_test_batches": Rule(_is(0, 0.0), "nothing would be scored", ("test",)),
    "limit_predict_batches": Rule(_given, "there is no predict here; segan_pl predict is a command of its own", EVERY),
    "val_check_interval": Rule(_is(0, 0.0), "expected a share of an epoch, a number of batches or a time above 0"),
    "num_sanity_val_steps": Rule(_outside(low=-1), "expected a number of cases, or -1 for all"),
    "check_val_every_n_epoch": Rule(
        _outside(low=1),
        "expected at least 1; to train without validation, --trainer.limit_val_batches 0 or --data.val_fraction 0",
    ),
    "enable_checkpointing": Rule(
        _is(False),
        "a run keeps its best and its last checkpoint; a try that leaves nothing is --trainer.fast_dev_run 1",
    ),
    "accumulate_grad_batches": Rule(_outside(high=1), "the networks take their steps by hand; give --model.accumulate"),
    "gradient_clip_val": Rule(
        _outside(high=0),
        "the networks take their steps by hand; give --model.clip_gradient, the largest norm of a network",
    ),
    "gradient_clip_algorithm": Rule(_given, "--model.clip_gradient clips a network's norm; there is no other way"),
    "use_distributed_sampler": Rule(
        _is(True),
        "the data module parts batches and cases over ranks itself, each case on one rank; leave it out",
    ),
    "profiler": Rule(
        lambda value: isinstance(value, str) and value not in PROFILERS,
        f"expected {', '.join(PROFILERS)}, or a class of lightning.pytorch.profilers",
        EVERY,
    ),
    "barebones": Rule(
        _is(True), "would leave out scores and checkpoints; to see where a run's time goes, -c debug_profile", EVERY
    ),
    "default_root_dir": Rule(_given, "everything of a run lies in its folder; give --run.directory or --run.root"),
    "model_registry": Rule(_given, "checkpoints are files in the run's folder; there is no registry"),
}
"""By argument of the Trainer."""

REFUSED_CALLBACKS = {
    "GradientAccumulationScheduler": "give --model.accumulate",
    "StochasticWeightAveraging": "give --model.averaging, a moving average of the segmentor's weights",
    "WeightAveraging": "give --model.averaging",
    "EMAWeightAveraging": "give --model.averaging",
    "BackboneFinetuning": "give --finetuning.frozen and --finetuning.unfreeze_epoch",
    "BatchSizeFinder": "give --data.batch_size; the batch is a part of the objective",
    "LearningRateFinder": "it knows one optimiser; give --model.optimizers.default.init_args.lr",
}
"""Of Lightning's callbacks, those that take the optimisers or the data into their own hands; and our option."""

TAKE_FILES = ("wandb", "mlflow", "trackio")
NEED_A_LOGGER = ("LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor")


def require_flags(trainer: Mapping[str, Any], run: Mapping[str, Any], command: str) -> None:
    """Refuse what cannot be done as it is meant, before anything is made.

    Args:
        trainer: The parsed `--trainer.*`; classes are not built yet.
        run: The parsed `--run.*`.
        command: "fit", "validate" or "test".

    Raises:
        UsageError: The first of them, in one line with our option.
    """
    for name, rule in REFUSED.items():
        if command in rule.commands and rule.refuses(value := trainer.get(name)):
            typed = str(value).lower() if isinstance(value, bool) else class_path(value) or str(value)
            raise UsageError(f"--trainer.{name} {typed}: {rule.why}")
    if command == "fit":
        _require_epochs(trainer)
        own = bool(run.get("loggers"))
        if run.get("wandb_offline") and "wandb" not in (run.get("loggers") or []):
            raise UsageError(
                "--run.wandb_offline true: W&B is not asked for; give --run.loggers [wandb] too, or leave it out"
            )
        if run.get("log_best_checkpoint") and not {*TAKE_FILES} & {*(run.get("loggers") or [])}:
            raise UsageError(
                f"--run.log_best_checkpoint true: no tracker that takes files is asked for; give --run.loggers with "
                f"one of {', '.join(TAKE_FILES)}, or leave it out"
            )
        if trainer.get("logger") is False and own:
            raise UsageError("--trainer.logger false and --run.loggers: give one of them")
        for name in [class_path(one).rpartition(".")[2] for one in listed(trainer.get("callbacks"))]:
            if name in REFUSED_CALLBACKS:
                raise UsageError(f"--trainer.callbacks {name}: {REFUSED_CALLBACKS[name]}")
            if name in NEED_A_LOGGER and not (own or trainer.get("logger")):
                raise UsageError(
                    f"--trainer.callbacks {name}: writes to a logger, and there is none; give --run.loggers "
                    f"[tensorboard] (metrics.csv holds the learning rates without it)"
                )


def _require_epochs(trainer: Mapping[str, Any]) -> None:
    """Refuse numbers of epochs that contradict each other."""
    last, least, every = (trainer.get(name) for name in ("max_epochs", "min_epochs", "check_val_every_n_epoch"))
    if last in (None, -1) or trainer.get("fast_dev_run"):
        return
    if least is not None and least > last:
        raise UsageError(f"--trainer.min_epochs {least} and --trainer.max_epochs {last}: expected no more than the end")
    if every is not None and every > last and trainer.get("limit_val_batches") not in (0, 0.0):
        raise UsageError(
            f"--trainer.check_val_every_n_epoch {every} and --trainer.max_epochs {last}: no epoch would be validated, "
            f"so none could be the best; give --trainer.check_val_every_n_epoch {last} or less, or, to train without "
            f"validation, --trainer.limit_val_batches 0"
        )


def class_path(value: Any) -> str:
    """The class that a value of the configuration names; "" where it names none."""
    get = getattr(value, "get", None)
    return str(get("class_path") or "") if get else ""


def listed(value: Any) -> list[Any]:
    """A list as it is, one value as a list of it, None as an empty one."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
