"""What a run was and what it logged: config.yaml, command.txt, environment.json, metrics.csv."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from segan_pl import __version__
from segan_pl.callbacks.readings import batches_seen, readings
from segan_pl.files import write_whole
from segan_pl.run import has_trained

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
        if not has_trained(self.directory):  # of a run that failed before its first epoch
            for name in ("command.txt", "environment.json"):
                (self.directory / name).unlink(missing_ok=True)
        if self.config is not None:
            write_whole(self.directory / "config.yaml", self.config)
        with (self.directory / "command.txt").open("a", encoding="utf-8") as file:
            file.write(shlex.join(sys.argv) + "\n")
        write_environment(self.directory / "environment.json")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.monotonic()
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has scores of its own."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row; scores of an earlier epoch's validation are not repeated."""
        if not trainer.is_global_zero:
            return
        scalars = {k: v for k, v in readings(trainer).items() if self._validated or not k.startswith("val/")}
        seconds = round(time.monotonic() - self._started, 3)
        fixed = {"epoch": trainer.current_epoch, "batches_seen": batches_seen(trainer), "seconds": seconds}
        write_row(self.directory / "metrics.csv", {**scalars, **fixed})


def write_row(path: Path, row: Mapping[str, float]) -> None:
    """Add an epoch to metrics.csv, replacing rows of this epoch and later ones (a run resumed from before them).

    Columns only grow: a new one is empty in earlier rows. The file is replaced at once, never torn.
    """
    earlier = [old for old in read_rows(path) if int(old["epoch"]) < row["epoch"]]
    rows = [*earlier, {name: _cell(value) for name, value in row.items()}]
    columns = list(dict.fromkeys([*FIRST_COLUMNS, *(name for one in rows for name in one)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv, oldest first; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_environment(path: Path) -> None:
    """Describe this process's surroundings; those of earlier starts of the same run move to "earlier"."""
    earlier: list[Any] = []
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        earlier = [*before.pop("earlier", []), before]
    write_whole(path, json.dumps({**environment(), "earlier": earlier}, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Code, packages and machine, as plain values."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git": git_state(Path(__file__).resolve().parents[2]),
        "segan_pl": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "hostname": socket.gethostname(),
        "process": os.getpid(),
    }


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Revision of a checkout and whether it has changes; None where the folder is not the top of one."""
    top = _git(checkout, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != checkout:  # an installed package may lie inside somebody's repository
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cell(value: float) -> str:
    """Integers as they are, other numbers with seven digits."""
    return str(value) if isinstance(value, int) else f"{value:.7g}"
