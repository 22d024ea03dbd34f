"""What a run was, what it logged and what it scored: config.yaml, environment.json, metrics.csv, scores and split."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from segan_pl import __version__
from segan_pl.data.module import MRIDataModule
from segan_pl.data.outputs import Output
from segan_pl.evaluation.kept import validation_name
from segan_pl.evaluation.saved_files import json_file, metrics_rows
from segan_pl.evaluation.tables import subsets_file, write_scores, write_table
from segan_pl.files import csv_text, write_whole
from segan_pl.training.callbacks.readings import (
    batch_in_epoch,
    batches_seen,
    learning_rates,
    of_epoch,
    readings,
)
from segan_pl.training.run.folder import SCORES, has_trained, lies_at

PACKAGES = ("torch", "lightning", "monai", "numpy", "nibabel")
FIRST_COLUMNS = ("epoch", "batches_seen", "seconds")


class RunRecord(Callback):
    """Writes a run's record into its directory, on rank 0; a resumed run adds to it and loses nothing.

    Args:
        directory: The run's.
        config: Text of config.yaml; None leaves it out.
    """

    def __init__(self, directory: str | Path, config: str | None = None) -> None:
        self.directory = Path(directory)
        self.config = config
        self._started = time.monotonic()
        self._validated = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what runs, where, and from which command line."""
        if not trainer.is_global_zero:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        # of a run that failed before its first epoch
        if not has_trained(self.directory):
            for name in ("command.txt", "environment.json"):
                (self.directory / name).unlink(missing_ok=True)
        if self.config is not None:
            write_whole(self.directory / "config.yaml", self.config)
        with (self.directory / "command.txt").open("a", encoding="utf-8") as file:
            file.write(shlex.join(sys.argv) + "\n")
        place, earlier = self.directory / "environment.json", list[Any]()
        if place.exists():  # an earlier start of the same run
            before = json_file(place)
            earlier = [*before.pop("earlier", []), before]
        write_whole(place, json.dumps({**environment(), "earlier": earlier}, indent=2) + "\n")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.monotonic()
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row for a validation within the epoch; note one at its end, whose scores the epoch's row gets."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validated = batch_in_epoch(trainer) is None
        if not self._validated:
            scores = {name: value for name, value in readings(trainer).items() if name.startswith("val/")}
            self._add_row(trainer, {"batch": batch_in_epoch(trainer) or 0, **scores})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row; scores of an earlier epoch's validation are not repeated."""
        logged = of_epoch(trainer, validated=self._validated)
        # a logged number has seven digits, a rate all of its own
        self._add_row(trainer, {**logged, **learning_rates(trainer, pl_module)})

    def _add_row(self, trainer: pl.Trainer, scalars: Mapping[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        seconds = round(time.monotonic() - self._started, 3)
        self._started = time.monotonic()
        fixed = {"epoch": trainer.current_epoch, "batches_seen": batches_seen(trainer), "seconds": seconds}
        write_row(self.directory / "metrics.csv", {**scalars, **fixed})


def write_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to metrics.csv, replacing those of this moment and later ones (a run resumed from before them).

    Columns only grow: a new one is empty in earlier rows. The file is replaced at once, never torn.
    """
    earlier = [old for old in metrics_rows(path) if position(old) < position(row)]
    # Whole numbers as they are, others with seven digits.
    text = {name: str(value) if isinstance(value, int) else f"{value:.7g}" for name, value in row.items()}
    rows = [*earlier, text]
    columns = list(dict.fromkeys([*FIRST_COLUMNS, *(name for one in rows for name in one)]))
    write_whole(path, csv_text(rows, columns))


def position(row: Mapping[str, Any]) -> tuple[int, float]:
    """The place of a row in metrics.csv: its epoch, and the batch of a validation within it; the epoch's own last."""
    return int(row["epoch"]), float(row.get("batch") or math.inf)


def environment() -> dict[str, Any]:
    """Code, packages and machine, as plain values."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git": git_state(Path(__file__).resolve().parents[3]),
        "segan_pl": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "hostname": socket.gethostname(),
        "process": os.getpid(),
    }


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Revision of a checkout and whether it has changes; None where the folder is not the top of one."""
    top = _git(checkout, "rev-parse", "--show-toplevel")
    # an installed package may lie inside somebody's repository
    if top is None or Path(top).resolve() != checkout:
        return None
    changes = _git(checkout, "status", "--porcelain")
    return {"revision": _git(checkout, "rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """A git command's output; None where git is absent or refuses."""
    command: Sequence[str] = ("git", "-C", str(folder), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


class CaseScores(Callback):
    """Writes the split once, and one CSV row for each case and region after every validation.

    Args:
        directory: The run's folder; scores go to scores/val_epoch_0007.csv, of a validation within an epoch to
            scores/val_epoch_0007_batch_0120.csv, or to `name` after `test` or `validate`;
            those of subsets of the modalities, where they were counted, to the same name with _subsets.
        name: File for a single scoring.
        data: Whose split and table of cases are kept; None keeps the scores alone.
    """

    def __init__(self, directory: Path, name: str | None = None, *, data: MRIDataModule | None = None) -> None:
        self.directory = directory
        self.name = name
        self.data = data

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse to replace a file that is not ours before anything is scored, where its name is known by then."""
        if self.name:
            self._require_free(self.directory / "scores" / self.name)

    def _require_free(self, file: Path) -> None:
        for place in (file, subsets_file(file)):
            Output(place, SCORES, f"scores of {self.directory}").require_free()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep split.json and cases.csv; a split that was given in its place stays, as does that of a trained run."""
        data = self.data
        if not trainer.is_global_zero or data is None or data.split is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "split.json"
        given = Path(data.split_file).expanduser() if data.split_file else None
        if not file.exists() or not (lies_at(given, file) or has_trained(self.directory)):
            data.split.save(file)
        write_table(self.directory / "cases.csv", data.case_table())

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the module has gathered its counts."""
        if not trainer.sanity_checking:
            name = validation_name(trainer.current_epoch, batch_in_epoch(trainer))
            self._write(trainer, pl_module, f"val_{name}.csv")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same for the test cases."""
        self._write(trainer, pl_module, "test.csv")

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule, name: str) -> None:
        if trainer.is_global_zero:
            scoring: Any = pl_module.scoring
            file = self.directory / "scores" / (self.name or name)
            self._require_free(file)
            write_scores(file, scoring.case_scores, scoring.computed, scoring.policy)
            if scoring.subset_scores:
                write_table(
                    subsets_file(file), [row.row(scoring.metrics, scoring.policy) for row in scoring.subset_scores]
                )
