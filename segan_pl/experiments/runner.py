"""Who carries out the runs of a study: this machine, Slurm, or nobody in a dry run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from jsonargparse import ArgumentParser, Namespace

from segan_pl.errors import UsageError
from segan_pl.experiments.cluster import read_cluster
from segan_pl.experiments.local import LocalRunner
from segan_pl.experiments.runs import Outcome, Run, command_lines, require_sound
from segan_pl.experiments.slurm import SlurmRunner


class Runner(Protocol):
    """Carries out the runs of a study.

    Attributes:
        parallel: The number of runs that are under way at the same time; 0 where nothing limits it.
        waits: Whether `run_all` returns when the runs have ended, so that later runs can depend on their results.
        writes: Whether anything is written or started.
        progress: Is told one line for each thing that happens.
    """

    parallel: int
    waits: bool
    writes: bool
    progress: Callable[[str], None]

    def run_all(self, runs: Sequence[Run], directory: Path) -> Outcome | None:
        """Carry out the runs that have not finished; the same call continues a study.

        Args:
            runs: In an order in which each run comes after those that it needs.
            directory: The study's folder.

        Returns:
            What became of the runs; None where they have not been run when this returns.

        Raises:
            UsageError: The runs contradict each other or the folder, or the runner cannot do its work here.
        """
        ...


class DryRunner:
    """Shows the commands of the runs, and neither writes nor starts anything."""

    waits, writes = False, False

    def __init__(self, parallel: int = 1, progress: Callable[[str], None] = print) -> None:
        self.parallel = parallel
        self.progress = progress

    def run_all(self, runs: Sequence[Run], directory: Path) -> None:
        """Show one line for each run."""
        require_sound(runs)
        for line in command_lines(runs, directory):
            self.progress(line)


def add_runner_options(parser: ArgumentParser) -> None:
    """Add --output, --parallel, --devices, --dry_run, --slurm, --cluster and --slurm_options to a command's parser."""
    # not in a group: the parser knows the arguments that were added to itself, for the nearest match of a wrong one
    add = parser.add_argument
    add("--output", type=str, required=True, help="the study's folder; the same command continues it")
    add("--parallel", type=int, default=0, help="runs side by side (default 1, or one for each device)")
    add("--devices", type=list[str], default=[], help="GPUs, each for one run at a time, e.g. [0,1]")
    add("--dry_run", type=bool, default=False, help="print the commands, run none")
    add("--slurm", type=bool, default=False, help="submit job arrays instead of running here")
    add("--cluster", type=str | None, help="what each job asks for: a YAML file, or one of configs/cluster by name")
    add(
        "--slurm_options", type=list[str], default=[], help="of sbatch, e.g. [--partition=gpu,--gpus=1,--time=08:00:00]"
    )


def runner_of(settings: Namespace, progress: Callable[[str], None] = print) -> Runner:
    """The runner that the options of `add_runner_options` ask for.

    Args:
        settings: The parsed command line.
        progress: Is told one line for each thing that happens.

    Raises:
        UsageError: Options that exclude each other, a negative number of runs, or as `read_cluster`.
    """
    if settings.parallel < 0:
        raise UsageError(f"--parallel {settings.parallel}: expected at least 1")
    for name in ("cluster", "slurm_options"):
        if settings[name] and not settings.slurm:
            raise UsageError(f"--{name} is given without --slurm; add --slurm, or leave it out")
    if settings.slurm and settings.devices:
        raise UsageError("--devices and --slurm exclude each other; ask Slurm for GPUs with --slurm_options")
    parallel = settings.parallel or max(1, len(settings.devices))
    # read in a dry run too, which says what would be refused
    file = read_cluster(settings.cluster, option="--cluster")
    try:
        cluster = replace(file, options=(*file.options, *settings.slurm_options))
    except UsageError as error:  # of the file's own none is left
        raise UsageError(f"--slurm_{error}") from None
    if settings.dry_run:
        return DryRunner(parallel, progress)
    if settings.slurm:
        return SlurmRunner(cluster, parallel=settings.parallel, progress=progress)
    return LocalRunner(parallel, settings.devices, progress=progress)
