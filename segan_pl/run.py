"""A run: its options, its directory, and what is written there."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from segan_pl.errors import UsageError

FREE = (
    "run.",
    "model.schedule.",
    "model.subsets",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.max_steps",
    "ckpt_path",
    "data.workers",
    "data.prepare_workers",
    "data.cache_dir",
)
"""Settings that may differ when a run directory is continued: its length, places, onlookers and schedule."""


class RunDirectoryError(ValueError):
    """A run directory that holds another configuration; the message lists the differences."""


@dataclass(frozen=True)
class RunOptions:
    """Where a run goes, what chooses its best checkpoint, and who is told.

    Attributes:
        experiment: Folder of runs that belong together.
        root: Folder of all experiments.
        directory: This run's own folder, instead of <root>/<experiment>/<date>_<id>; continued when it holds a run
            with the same configuration.
        monitor: The score that chooses the best checkpoint and stops early; larger is better.
        patience: Validations without improvement before training stops (paper: 300 epochs).
        keep_best: How many best checkpoints stay.
        preview_every: Validations between two preview pictures; 0 for none.
        wandb: Weights & Biases: "off", "online", or "offline".
        tensorboard: Write TensorBoard files (needs the extra `tensorboard`).
        plain_every: Seconds between two lines of progress where there is no terminal.
        validation_share: Of an epoch's time; where validation takes more, a line says how seldom to validate instead.
    """

    experiment: str = "segan_pl"
    root: str = "runs"
    directory: str | None = None
    monitor: str = "val/dice_wt"
    patience: int = 300
    keep_best: int = 1
    preview_every: int = 1
    wandb: Literal["off", "online", "offline"] = "off"
    tensorboard: bool = False
    plain_every: float = 30.0
    validation_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.validation_share <= 1:
            raise UsageError(f"--run.validation_share {self.validation_share}: expected a share above 0 and up to 1")


def run_directory(options: RunOptions) -> Path:
    """The run's folder, made by nobody yet.

    A W&B run is found again by its id (WANDB_RUN_ID), a requeued Slurm job by its job and step; processes started by
    this one take its folder from the environment, so that all ranks agree.
    """
    if options.directory:
        return Path(options.directory).expanduser().resolve()
    inherited = os.environ.get("SEGAN_PL_RUN_DIRECTORY")
    if inherited and os.environ.get("LOCAL_RANK"):
        return Path(inherited)
    folder = Path(options.root).expanduser().resolve() / options.experiment
    name = os.environ.get("WANDB_RUN_ID") or slurm_step()
    if name:
        there = sorted(folder.glob(f"*_{name}"))
        if there:
            return there[-1]
    path = folder / f"{datetime.now():%Y%m%d-%H%M%S}_{name or secrets.token_hex(3)}"
    os.environ["SEGAN_PL_RUN_DIRECTORY"] = str(path)
    return path


def slurm_step() -> str | None:
    """The Slurm job and step that this process belongs to, which a requeued job keeps; None outside Slurm."""
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID", "0")
    return f"slurm{job}.{step}" if job else None


def continue_from(
    directory: Path, config: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None
) -> Path | None:
    """The checkpoint to continue from: None for a new run, also in the folder of one that trained no epoch.

    Args:
        directory: The run's.
        config: Its settings now.
        defaults: Of settings, by dotted key, that runs of an earlier version did not have.

    Raises:
        RunDirectoryError: The folder holds a run with another configuration.
    """
    saved = directory / "config.yaml"
    if not saved.is_file() or not (has_trained(directory) or is_training(directory)):
        return None
    now = flatten(config)
    filled = {key: value for key, value in (defaults or {}).items() if key in now}
    differing = differences({**filled, **flatten(yaml.safe_load(saved.read_text()))}, now)
    if differing:
        raise RunDirectoryError(
            f"{directory} holds a run with another configuration ({'; '.join(differing[:5])}); "
            f"choose another --run.directory or the same settings"
        )
    last = directory / "checkpoints" / "last.ckpt"
    return last if last.is_file() else None


def has_trained(directory: Path) -> bool:
    """Whether a run's folder holds what training made, and not only the records of a run that failed before."""
    made = (*directory.glob("checkpoints/*.ckpt"), *directory.glob("scores/*"), *directory.glob("metrics.csv"))
    return bool(made)


def is_training(directory: Path) -> bool:
    """Whether the process that last began in a run's folder is another one that lives on this machine.

    It may be in its first epoch, which leaves nothing yet. Of another machine's processes nothing is known.
    """
    try:
        record = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
        process, host = int(record["process"]), record["hostname"]
        if host != socket.gethostname() or process == os.getpid():
            return False
        os.kill(process, 0)
    except PermissionError:  # somebody else's lives
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings that differ, "key: before -> now", without those that are free to."""
    old, new = flatten(before), flatten(now)
    return [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(FREE)
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
