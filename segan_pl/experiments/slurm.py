"""A study as Slurm job arrays: one array a stage, each after the one before."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.experiments.trials import Trial, is_finished, save_trials
from segan_pl.files import write_whole


@dataclass(frozen=True)
class SlurmOptions:
    """How jobs are asked for.

    Attributes:
        options: Of sbatch, for every job, e.g. ("--partition=gpu", "--gpus=1", "--time=08:00:00").
        at_once: Jobs of an array that may run at a time; 0 for no limit.
        python: The interpreter that the jobs start.
    """

    options: tuple[str, ...] = ()
    at_once: int = 0
    python: str = sys.executable


def stages(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials by how many others must run before them, one after the other."""
    depth: dict[str, int] = {}
    for trial in trials:
        depth[trial.name] = 1 + max((depth[name] for name in trial.needs if name in depth), default=-1)
    levels = range(max(depth.values(), default=-1) + 1)
    return [[trial for trial in trials if depth[trial.name] == level] for level in levels]


def submit_study(trials: Sequence[Trial], directory: Path, slurm: SlurmOptions | None = None) -> list[str]:
    """Write the scripts and hand them to sbatch; what has finished is left out.

    A job whose trial needs one that has not finished ends with exit code 1 and says so. A stage waits until the one
    before has ended, well or not, so that one failed trial stops only those that need it.

    Returns:
        A line a submitted array.

    Raises:
        UsageError: There is no sbatch, or it refuses.
    """
    save_trials(trials, directory)
    left = [trial for trial in trials if not is_finished(directory, trial.name)]
    asked = slurm or SlurmOptions()
    scripts = [_write_script(level, stage, directory, asked) for level, stage in enumerate(stages(left))]
    if scripts and shutil.which("sbatch") is None:
        raise UsageError(f"--slurm: no sbatch here; submit {scripts[0]} and those beside it on a login node")
    lines: list[str] = []
    before: str | None = None
    for script, stage in zip(scripts, stages(left), strict=True):
        waits = [f"--dependency=afterany:{before}"] if before else []
        before = _submit(["sbatch", "--parsable", *waits, str(script)])
        lines.append(f"job {before}: {len(stage)} trials ({', '.join(trial.name for trial in stage)})")
    return lines or ["every trial has finished; nothing is submitted"]


def _submit(command: Sequence[str]) -> str:
    """The number that sbatch gave the job."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"{shlex.join(command)} refused: {' '.join(done.stderr.split()) or done.returncode}")
    return done.stdout.strip().split(";")[0]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name) or "study"


def _option(option: str) -> str:
    """An option whose value may hold spaces; sbatch reads its lines as a shell does."""
    name, equals, value = option.partition("=")
    return f"{name}={_quoted(value)}" if equals else option


def _quoted(value: str) -> str:
    return f'"{value}"' if re.search(r"\s", value) else value


def _write_script(level: int, stage: Sequence[Trial], directory: Path, slurm: SlurmOptions) -> Path:
    """One stage's array; a task's number is its place in the list of names."""
    limit = f"%{slurm.at_once}" if slurm.at_once else ""
    names = " ".join(shlex.quote(trial.name) for trial in stage)
    one = shlex.join([slurm.python, "-m", "segan_pl.experiments", str(directory.resolve())])
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={_safe(directory.resolve().name)}",
        f"#SBATCH --array=0-{len(stage) - 1}{limit}",
        f"#SBATCH --output={_quoted(str(directory.resolve()).replace('%', '%%') + '/slurm/%A_%a.out')}",
        *(f"#SBATCH {_option(option)}" for option in slurm.options),
        f"names=({names})",
        f'exec {one} "${{names[$SLURM_ARRAY_TASK_ID]}}"',
    ]
    script = directory / "slurm" / f"stage{level}.sh"
    write_whole(script, "\n".join(lines) + "\n")
    return script
