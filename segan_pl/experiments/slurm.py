"""A study as Slurm job arrays: one array for each stage, each after the one before."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from segan_pl.data.outputs import Kind, Output
from segan_pl.errors import UsageError
from segan_pl.experiments.runs import Run, is_finished, save_runs


def stages(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs by how many others must run before them, one after the other."""
    depth: dict[str, int] = {}
    for run in runs:
        depth[run.name] = 1 + max((depth[name] for name in run.needs if name in depth), default=-1)
    levels = range(max(depth.values(), default=-1) + 1)
    return [[run for run in runs if depth[run.name] == level] for level in levels]


class SlurmRunner:
    """A `Runner` that hands the runs to sbatch and does not wait for them."""

    waits, writes = False, True

    def __init__(
        self,
        options: Sequence[str] = (),
        *,
        parallel: int = 0,
        python: str = sys.executable,
        progress: Callable[[str], None] = print,
    ) -> None:
        """Prepare to submit runs.

        Args:
            options: Of sbatch, for every job, e.g. ("--partition=gpu", "--gpus=1", "--time=08:00:00").
            parallel: The number of jobs of an array that may run at the same time; 0 for no limit.
            python: The interpreter that the jobs start.
            progress: Is told one line for each array.
        """
        self.options = tuple(options)
        self.parallel = parallel
        self.python = python
        self.progress = progress

    def run_all(self, runs: Sequence[Run], directory: Path) -> None:
        """Write the scripts and submit them; runs that have finished are left out.

        A job whose run needs one that has not finished ends with exit code 1 and says so. A stage waits until the stage
        before it has ended, successful or not, so that one failed run stops only those that need it.

        Raises:
            UsageError: There is no sbatch, or it refuses; or as `save_runs`.
        """
        save_runs(runs, directory)
        parts = stages([run for run in runs if not is_finished(directory, run.name)])
        scripts = [self._write_script(level, stage, directory) for level, stage in enumerate(parts)]
        if not scripts:
            self.progress("every run has finished; nothing is submitted")
        elif shutil.which("sbatch") is None:
            raise UsageError(f"--slurm: no sbatch here; submit {scripts[0]} and the scripts next to it on a login node")
        before: str | None = None
        for script, stage in zip(scripts, parts, strict=True):
            waits = [f"--dependency=afterany:{before}"] if before else []
            command = ["sbatch", "--parsable", *waits, str(script)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                said = " ".join(done.stderr.split()) or done.returncode
                raise UsageError(f"{shlex.join(command)} refused: {said}")
            before = done.stdout.strip().split(";")[0]
            self.progress(f"job {before}: {len(stage)} runs ({', '.join(run.name for run in stage)})")

    def _write_script(self, level: int, stage: Sequence[Run], directory: Path) -> Path:
        """Write the script of one stage; the number of a task is its place in the list of names."""
        limit = f"%{self.parallel}" if self.parallel else ""
        names = " ".join(shlex.quote(run.name) for run in stage)
        name = re.sub(r"[^\w.+-]", "_", directory.resolve().name) or "study"
        one = shlex.join([self.python, "-m", "segan_pl.experiments", str(directory.resolve())])
        lines = [
            "#!/bin/bash",
            f"#SBATCH --job-name={name}",
            f"#SBATCH --array=0-{len(stage) - 1}{limit}",
            f"#SBATCH --output={_quoted(str(directory.resolve()).replace('%', '%%') + '/slurm/%A_%a.out')}",
            *(f"#SBATCH {_option(option)}" for option in self.options),
            f"names=({names})",
            f'exec {one} "${{names[$SLURM_ARRAY_TASK_ID]}}"',
        ]
        script = directory / "slurm" / f"stage{level}.sh"
        kind = Kind("segan_pl ... --slurm", "#!/bin/bash\n#SBATCH --job-name=.*segan_pl.experiments")
        return Output(script, kind, f"--output {directory}").write("\n".join(lines) + "\n")


def _option(option: str) -> str:
    """An option whose value may hold spaces; sbatch reads its lines as a shell does."""
    name, equals, value = option.partition("=")
    return f"{name}={_quoted(value)}" if equals else option


def _quoted(value: str) -> str:
    return f'"{value}"' if re.search(r"\s", value) else value
