"""Trainings of seconds as jobs of Slurm: submitted, held at a place, compared."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.cluster.slurm import Slurm, wait_for
from tests.cohort import SYSTEM

PROJECT = Path(__file__).resolve().parents[2]
HELD = "callbacks: [{class_path: tests.cluster.held.Hold}], max_epochs: 2, "
ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
PROGRAM = (sys.executable, "-m", "segan_pl")


@dataclass
class Runs:
    """Submits trainings of two epochs, each in a folder of its own.

    Args:
        slurm: The cluster.
        cohort: The folder of the cases.
        prepared: The cache.
        folder: Of the runs.
    """

    slurm: Slurm
    cohort: Path
    prepared: Path
    folder: Path

    def __post_init__(self) -> None:
        text = SYSTEM % (self.cohort, self.prepared, self.folder / "runs")
        self.config = self.folder / "tiny.yaml"
        self.config.write_text(text.replace("max_epochs: 2, ", HELD))
        self.slurm.environment |= {"PYTHONPATH": str(PROJECT), "SEGAN_PL_ALLOW_IMPORTS": "tests.cluster.held"}
        self._whole: dict[int, Run] = {}

    def new(self, name: str, ranks: int = 1, kind: type[Run] | None = None) -> Run:
        """A run that nobody has submitted yet."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return (kind or Run)(self, folder, ranks)

    def whole(self, ranks: int) -> Run:
        """The run that nobody stopped, made once."""
        if ranks not in self._whole:
            run = self.new(f"whole{ranks}", ranks)
            run.submit()
            run.finish()
            self._whole[ranks] = run
        return self._whole[ranks]


class Run:
    """One training; it stays the same run when it is submitted again.

    Args:
        runs: Where it belongs.
        folder: Of its own.
        ranks: It trains on.
    """

    before, signal = "srun ", ("--signal=USR1",)
    """What its script says before the command, and how scancel tells it what Slurm tells before the time is up."""

    def __init__(self, runs: Runs, folder: Path, ranks: int) -> None:
        self.runs, self.slurm, self.folder, self.ranks = runs, runs.slurm, folder, ranks
        self.directory, self.log = folder / "run", folder / "output"
        self.job = ""

    def command(self, *more: str) -> list[str]:
        """`segan_pl fit`, with a loader's worker where there are several ranks."""
        settings = {"config": self.runs.config, "run.directory": self.directory, "run.preview_every": 0}
        settings |= {"trainer.devices": self.ranks, "data.batch_size": 12 // self.ranks, "data.workers": self.ranks - 1}
        return [*PROGRAM, "fit", *(f"--{name}={value}" for name, value in settings.items()), *more]

    def submit(self, holds: Sequence[str] = (), *options: str, more: Sequence[str] = (), before: str = "srun ") -> None:
        """Submit it, to be held at a place in each start of the job."""
        given = (f"--ntasks-per-node={self.ranks}", f"--export=ALL,HOLDS={';'.join(holds)}", "--requeue", *options)
        self.job = self.slurm.submit(self.folder, f"{self.before}{shlex.join(self.command(*more))}", *given)

    @property
    def jobs(self) -> list[str]:
        """The numbers of its jobs."""
        return [self.job]

    def until_held(self, place: str) -> None:
        """Wait until all ranks wait there."""
        wait_for(lambda: self.said().count(f"held at {place}") == self.ranks, self.words)

    def finish(self, seconds: float = 120) -> None:
        """Wait for its end, which must be a good one."""
        for number in self.jobs:
            job = self.slurm.wait(number, ENDS, seconds)
            assert job["JobState"] == "COMPLETED", self.words()

    def said(self) -> str:
        """What it has printed, in all starts."""
        return self.log.read_text() if self.log.exists() else ""

    def words(self) -> str:
        return f"{self.said()}\n{self.slurm.job(self.job)}\n{self.slurm.words()}"

    def tell(self) -> None:
        """What Slurm does before the job's time is up."""
        self.slurm.client("scancel", *self.signal, self.job)

    def limit(self, minutes: int) -> None:
        """Give its job another time limit."""
        self.slurm.client("scontrol", "update", f"JobId={self.job}", f"TimeLimit={minutes}")

    def trained(self) -> list[Run]:
        """What it has trained: itself."""
        return [self]

    def checkpoint(self) -> dict[str, Any]:
        """last.ckpt."""
        return torch.load(self.directory / "checkpoints" / "last.ckpt", weights_only=True)

    def scores(self) -> list[dict[str, str]]:
        """metrics.csv without what is of the process."""
        with (self.directory / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: v for k, v in row.items() if k.startswith(("val/", "epoch", "batches"))} for row in rows]


def require_equal(one: Run, other: Run) -> None:
    """Weights, optimisers and scores are the same to the bit."""
    first, second = one.checkpoint(), other.checkpoint()
    for part in ("state_dict", "optimizer_states", "epoch", "global_step"):
        compared = list(zip(leaves(first[part]), leaves(second[part]), strict=True))
        assert compared
        assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in compared), part
    assert one.scores() == other.scores()


def leaves(tree: Any) -> list[Any]:
    """All values in nested dictionaries and lists, with the keys."""
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in (key, *leaves(value))]
    return [leaf for value in tree for leaf in leaves(value)] if isinstance(tree, list | tuple) else [tree]
