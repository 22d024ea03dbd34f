"""A study as Slurm job arrays, which submitit writes and submits: one array for each stage, each after the one before.

A job's process becomes `python -m segan_pl.experiments STUDY RUN`, so that signals, exit code and requeueing are ours
(`training.run.requeue`) and none of submitit's: it would ignore SIGTERM, write its checkpoint within the handler of the
signal on rank 0 alone, count every signal of a job's first ten minutes as a time-out, and give up after three.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import submitit

from segan_pl.errors import UsageError
from segan_pl.experiments.cluster import Cluster
from segan_pl.experiments.local import alone
from segan_pl.experiments.runs import Run, is_finished, save_runs
from segan_pl.experiments.standing import ENDING, remember_jobs, require_unchanged, settled


def stages(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs by how many others must run before them, one after the other."""
    depth: dict[str, int] = {}
    for run in runs:
        depth[run.name] = 1 + max((depth[name] for name in run.needs if name in depth), default=-1)
    levels = range(max(depth.values(), default=-1) + 1)
    return [[run for run in runs if depth[run.name] == level] for level in levels]


def start(directory: str, *name: str) -> None:
    """In a job: become the process that carries out one run, or without a name the trials of a search."""
    os.execv(sys.executable, [sys.executable, "-m", "segan_pl.experiments", directory, *name])


class Executor(submitit.SlurmExecutor):
    """Submitit's, which also shows its script on machines without Slurm."""

    @classmethod
    def affinity(cls) -> int:
        """How well it fits this machine."""
        return 2


class SlurmRunner:
    """A `Runner` that hands the runs to sbatch and does not wait for them."""

    waits, writes = False, True

    def __init__(self, cluster: Cluster, *, parallel: int = 0, progress: Callable[[str], None] = print) -> None:
        """Prepare to submit runs.

        Args:
            cluster: What each job asks for.
            parallel: The number of jobs of an array that may run at the same time; 0 for no limit.
            progress: Is told one line for each array.
        """
        self.cluster = cluster
        self.parallel = parallel
        self.progress = progress

    def run_all(self, runs: Sequence[Run], directory: Path) -> None:
        """Submit the runs that have not finished and whose jobs neither wait nor run.

        A job whose run needs one that has not finished ends with exit code 1 and says so. A stage waits until the stage
        before it has ended, successful or not, so that one failed run stops only those that need it.

        Raises:
            UsageError: Slurm refuses; a job that waits or runs is to carry out another run of this name; or as
                `submitting` and `save_runs`.
        """
        with self.submitting(directory, [run.name for run in runs]) as held:
            require_unchanged(runs, directory)
            save_runs(runs, directory)
            self.tell(held, [run.name for run in runs])
            left = [run for run in runs if run.name not in held and not is_finished(directory, run.name)]
            if not left and not held:
                self.progress("every run has finished; nothing is submitted")
            before: list[str] = []
            for stage in stages(left):
                needed = {held[need][0] for run in stage for need in run.needs if need in held}
                names = [run.name for run in stage]
                before = [self.submit({name: (name,) for name in names}, directory, [*before, *sorted(needed)])]
                self.progress(f"job {before[0]}: {len(names)} runs ({', '.join(names)})")

    @contextmanager
    def submitting(self, directory: Path, names: Collection[str]) -> Iterator[dict[str, tuple[str, str]]]:
        """Hold a folder while jobs are submitted; yields what waits or runs of it, as `settled` for those of `names`.

        Raises:
            UsageError: There is no Slurm, it does not answer, or another process holds the folder.
        """
        if missing := [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]:
            raise UsageError(f"no {', '.join(missing)} here; call this on a login node of the cluster")
        if re.search("%[jtAa]", str(directory.resolve())):
            raise UsageError(f"{directory}: sbatch takes %j, %t, %A and %a for numbers; choose another --output")
        with alone(directory):
            yield settled(directory, names, self.progress)

    def tell(self, held: Mapping[str, tuple[str, str]], names: Collection[str]) -> None:
        """Say which of these jobs are not submitted again."""
        for name in names:
            if name in held:
                job, how = held[name]
                later = "; repeat this once it has left the queue" if how.startswith(ENDING) else ""
                self.progress(f"{name}: job {job} is under way ({how}), not submitted again{later}")

    def submit(
        self,
        calls: Mapping[str, tuple[str, ...]],
        directory: Path,
        after: Sequence[str] = (),
        *,
        tell_script: bool = False,
    ) -> str:
        """Submit one array, and keep its jobs' numbers.

        Args:
            calls: Name to what follows the folder in `start`, for each job.
            directory: The study's folder.
            after: Numbers of jobs that must have ended before.
            tell_script: Whether Slurm's signal goes to the jobs' scripts, which pass it on, and not to their steps: for
                those that start one step after the other and may be between two.

        Returns:
            The array's number.

        Raises:
            UsageError: Slurm refuses.
        """
        place = str(directory.resolve())
        executor = self._executor(directory, len(calls), after, tell_script=tell_script)
        try:
            jobs = executor.submit_array([partial(start, place, *arguments) for arguments in calls.values()])
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if "sbatch" in line] or [str(error)]
            raise UsageError(f"Slurm refused the job: {' '.join(said[-1].split())}") from error
        numbers = [str(job.job_id) for job in jobs]
        remember_jobs(directory, dict(zip(calls, numbers, strict=True)))
        return numbers[0].partition("_")[0]

    def script(self, directory: Path, count: int = 1) -> str:
        """What sbatch would be given for this many runs; nothing is written."""
        executor = self._executor(directory, count, [])
        if count > 1:
            executor.parameters["map_count"] = count
        return str(executor._make_submission_file_text(executor._submitit_command_str, ""))

    def _executor(self, directory: Path, count: int, after: Sequence[str], *, tell_script: bool = False) -> Executor:
        """Submitit's of one stage."""
        folder = directory.resolve() / "slurm"
        # exec, so that a signal to the script (--signal=B:...) reaches the run
        executor = Executor(folder, python=f"exec {shlex.quote(sys.executable)}")
        place = str(folder).replace("%", "%%")
        ours: dict[str, Any] = {
            "job-name": re.sub(r"[^\w.+-]", "_", directory.resolve().name) or "study",
            "output": f"{place}/{'%A_%a' if count > 1 else '%j'}.out",
            # submitit's own would be SIGUSR2, by which our ranks tell one another to stop; SIGCONT says nothing
            "signal": "SIGCONT@1",
        }
        if after:
            ours["dependency"] = f"afterany:{':'.join(after)}"
        ours |= self.cluster.sbatch
        if tell_script and ":" not in str(ours["signal"]):
            ours["signal"] = f"B:{ours['signal']}"
        executor.update_parameters(
            use_srun=False,
            stderr_to_stdout=True,
            array_parallelism=self.parallel or max(count, 1),
            setup=list(self.cluster.setup) or None,
            # submitit's own are 5 minutes and a key that a cluster with accounts may refuse
            time=None,
            wckey=None,
            # with submitit's own spelling, so that these take the place of its values
            additional_parameters={name.replace("-", "_"): value for name, value in ours.items()},
        )
        return executor
