"""A run's options and its folder: where it lies, what is written there, and what it must not replace."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from segan_pl.data.outputs import Kind, Output
from segan_pl.data.split.record import Split, some
from segan_pl.errors import UsageError
from segan_pl.recipe import flatten

FREE = (
    "run.",
    "model.schedule.",
    "model.subsets",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.max_steps",
    "trainer.default_root_dir",
    "trainer.logger",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "ckpt_path",
    "data.workers",
    "data.prepare_workers",
    "data.cache_dir",
)
"""Settings that may differ when a run directory is continued: its length, folders, ranks, loggers and schedule."""


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
        monitor: The score that chooses the best checkpoint and stops early, e.g. val/dice_wt.
        patience: Validations without improvement before training stops (paper: 300 epochs).
        keep_best: How many best checkpoints stay.
        preview_every: Validations between two preview pictures; 0 for none.
        loggers: Who is told besides metrics.csv (docs/trackers.md): any of wandb, mlflow, tensorboard, trackio, csv.
        wandb_offline: Keep what W&B logs on the disk, for `wandb sync` to send later.
        log_best_checkpoint: Give W&B, MLflow and trackio the best checkpoint as an artifact when training ends.
        health: Of a game that has collapsed for two epochs (docs/critics.md): "warn" says so, "stop" ends the run too,
            "off" does not look.
        plain_every: Seconds without a line where there is no terminal, after which one says how far the epoch is.
        precision_safe: Whether the system trains as well in bfloat16 as in 32 bits: where --trainer.precision is not
            given, it then takes bf16-mixed on hardware that has instructions for it.
        validation_share: Of an epoch's time; where validation takes more, a line says how seldom to validate instead.
    """

    experiment: str = "segan_pl"
    root: str = "runs"
    directory: str | None = None
    monitor: str = "val/dice_wt"
    patience: int = 300
    keep_best: int = 1
    preview_every: int = 1
    loggers: list[Literal["wandb", "mlflow", "tensorboard", "trackio", "csv"]] = field(default_factory=list)
    wandb_offline: bool = False
    log_best_checkpoint: bool = False
    health: Literal["off", "warn", "stop"] = "warn"
    plain_every: float = 300.0
    precision_safe: bool = False
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
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID", "0")
    name = os.environ.get("WANDB_RUN_ID") or (f"slurm{job}.{step}" if job else None)
    if name:
        there = sorted(folder.glob(f"*_{name}"))
        if there:
            return there[-1]
    path = folder / f"{datetime.now():%Y%m%d-%H%M%S}_{name or secrets.token_hex(3)}"
    os.environ["SEGAN_PL_RUN_DIRECTORY"] = str(path)
    return path


def scored_directory(options: RunOptions, checkpoint: str | None) -> Path:
    """Where `validate` and `test` write: the run that the checkpoint came from, or a new one."""
    if options.directory is None and checkpoint:
        home = Path(checkpoint).resolve().parent
        if home.name == "checkpoints":
            return home.parent
    return run_directory(options)


def has_trained(directory: Path) -> bool:
    """Whether a run's folder holds what training made, and not only the records of a run that failed before."""
    made = (*directory.glob("checkpoints/*.ckpt"), *directory.glob("scores/*"), *directory.glob("metrics.csv"))
    return bool(made)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings that differ, "key: before -> now", without those that are free to."""
    old, new = flatten(before), flatten(now)
    return [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(FREE)
    ]


FIT = "segan_pl fit"
KINDS = {
    "config.yaml": Kind(FIT, r"seed_everything: [^\n]*\ntrainer:\n  accelerator: "),
    "split.json": Kind(FIT, r'\{\s*"train": \['),
    "cases.csv": Kind(FIT, "case,patient,grade,institution,part,modalities,absent"),
    "metrics.csv": Kind(FIT, "epoch,batches_seen,seconds"),
}
# whose first bytes tell nothing, written once config.yaml is there
AFTER_CONFIG = ("command.txt", "environment.json")
SCORES = Kind(
    "segan_pl validate or test", "case,(subset,modalities,)?patient,grade,institution,([^\n]*,)?region,status,tp,"
)


def require_own_run(
    directory: Path,
    given: str,
    reads: Iterable[Path] = (),
    split_file: Path | None = None,
    root: str | None = None,
) -> None:
    """Refuse a folder with files that a run would replace and no run wrote, e.g. a data set's own cases.csv.

    What a run writes may look like what other commands write, a split like that of `segan_pl split` and config.yaml
    like the output of --print_config; so of a folder in which no run has begun both are somebody else's.

    Args:
        directory: The run's; it may be missing.
        given: What was typed, as the message begins.
        reads: Configuration files of the command line.
        split_file: The one given, which a run may use where it lies.
        root: The data set's folder, or its manifest, beside whose cases no run begins.

    Raises:
        UsageError: There is one, or the folder is the data set's.
    """
    for name, kind in KINDS.items():
        Output(directory / name, kind, given).require_free()
    config, split = directory / "config.yaml", directory / "split.json"
    # the checkpoints hold the configuration, too
    lost = any(directory.glob("checkpoints/*.ckpt"))
    if not lost and not config.exists():
        where = Path(root or "").expanduser()
        if root and lies_at(where.parent if where.is_file() else where, directory):
            raise UsageError(f"{given}: is the folder of the data set; give another folder")
        for name in AFTER_CONFIG:
            if (directory / name).exists():
                raise UsageError(
                    f"{given}: holds {name} and no config.yaml of a run; it stays as it is, give another folder"
                )
        if split.exists() and split.stat().st_size and not lies_at(split_file, split):
            raise UsageError(
                f"{given}: holds split.json and no run that wrote it; it stays as it is, give another folder, or use "
                f"it: --data.split_file {split}"
            )
    begun = lost or any((directory / name).exists() for name in AFTER_CONFIG)
    if not begun and any(lies_at(path, config) for path in reads):
        raise UsageError(f"{given}: {config} is a file that the command reads; it stays as it is, give another folder")


def require_split_in_place(split: Split, file: Path) -> None:
    """Refuse a split file in the run's own folder that the run could not use as it is.

    Args:
        split: What the run uses.
        file: The run's split.json, which is the split file that was given.

    Raises:
        UsageError: Cases of the file cannot be used, so the run would have to write another one.
    """
    unused = sorted(Split.load(file, val="free").named - split.named)
    if unused:
        raise UsageError(
            f"--data.split_file {file}: lies in --run.directory, where the run has to leave {len(unused)} of its cases "
            f"out ({some(unused)}: incomplete or without mask); it stays as it is, give another --run.directory"
        )


def lies_at(file: Path | None, place: Path) -> bool:
    """Whether a file is the one in a place, by whatever name."""
    return file is not None and file.exists() and place.exists() and file.samefile(place)
