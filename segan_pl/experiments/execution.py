"""How a command that stands for many runs carries them out: shown, run here, or submitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from segan_pl.errors import UsageError
from segan_pl.experiments.running import Outcome, command_lines, run_study
from segan_pl.experiments.slurm import SlurmOptions, submit_study
from segan_pl.experiments.trials import Trial, require_sound


@dataclass(frozen=True)
class ExecutionOptions:
    """Where a study lies, and who runs its trials: as the command line says it.

    Attributes:
        directory: The study's folder.
        parallel: Trials side by side on this machine, or jobs of an array at a time; 0 for one a device here, and no
            limit there.
        devices: GPUs to deal out, one a trial.
        dry_run: Print the commands, run none.
        slurm: Submit the trials as job arrays instead of running them here.
        slurm_options: Of sbatch, for every job.
    """

    directory: Path
    parallel: int = 0
    devices: tuple[str, ...] = ()
    dry_run: bool = False
    slurm: bool = False
    slurm_options: tuple[str, ...] = ()


def add_execution_options(parser: ArgumentParser) -> None:
    """Add --output, --parallel, --devices, --dry-run, --slurm and --slurm_options to a command's parser."""
    group = parser.add_argument_group("Where the runs go, and who runs them")
    group.add_argument("--output", type=str, required=True, help="the study's folder; the same command continues it")
    group.add_argument("--parallel", type=int, default=0, help="runs side by side (default 1, or one a device)")
    group.add_argument("--devices", type=list[str], default=[], help="GPUs to deal out, one a run, e.g. [0,1]")
    group.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    group.add_argument("--slurm", action="store_true", help="submit job arrays instead of running here")
    group.add_argument(
        "--slurm_options", type=list[str], default=[], help="of sbatch, e.g. [--partition=gpu,--gpus=1,--time=08:00:00]"
    )


def execution_options(settings: Namespace) -> ExecutionOptions:
    """The options that `add_execution_options` added, out of a parsed command line.

    Raises:
        UsageError: Options that exclude each other, or a negative number of runs.
    """
    if settings.parallel < 0:
        raise UsageError(f"--parallel {settings.parallel}: expected at least 1")
    if settings.slurm_options and not settings.slurm:
        raise UsageError("--slurm_options are given without --slurm; add --slurm, or leave them out")
    if settings.slurm and settings.devices:
        raise UsageError("--devices and --slurm exclude each other; ask Slurm for GPUs with --slurm_options")
    return ExecutionOptions(
        Path(settings.output).expanduser(),
        settings.parallel,
        tuple(settings.devices),
        settings.dry_run,
        settings.slurm,
        tuple(settings.slurm_options),
    )


def execute(
    trials: Sequence[Trial], options: ExecutionOptions, *, progress: Callable[[str], None] = print
) -> Outcome | None:
    """Show, submit or run the trials.

    Returns:
        What became of them; None where none was run here.

    Raises:
        UsageError: As `run_study` and `submit_study`.
    """
    directory = options.directory
    if options.dry_run:
        require_sound(trials)
        for line in command_lines(trials, directory):
            progress(line)
        return None
    if options.slurm:
        asked = SlurmOptions(tuple(options.slurm_options), at_once=options.parallel)
        for line in submit_study(trials, directory, asked):
            progress(line)
        return None
    parallel = options.parallel or max(1, len(options.devices))
    return run_study(trials, directory, parallel=parallel, devices=options.devices, progress=progress)
