"""Runs are carried out one by one or side by side, each in its own process; none that is finished is repeated."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from segan_pl.data.case_pool import cores
from segan_pl.errors import UsageError
from segan_pl.experiments.process import STOPPED, Children, carry_out
from segan_pl.experiments.runs import Outcome, Run, is_finished, load_runs, run_state, save_runs, write_state
from segan_pl.experiments.standing import require_unchanged
from segan_pl.training.run.launch import in_step


class LocalRunner:
    """A `Runner` that starts processes on this machine."""

    waits, writes = True, True

    def __init__(
        self, parallel: int = 1, devices: Sequence[str] = (), *, progress: Callable[[str], None] = print
    ) -> None:
        """Prepare to carry out runs.

        Args:
            parallel: The number of runs side by side.
            devices: GPUs, which the runs take in turn (CUDA_VISIBLE_DEVICES); empty leaves the choice to the runs.
                Without GPUs the cores are shared out among the runs that go side by side (OMP_NUM_THREADS, unless it
                is set).
            progress: Is told one line when a run starts and when it ends.

        Raises:
            UsageError: `parallel` is below 1.
        """
        if parallel < 1:
            raise UsageError(f"--parallel {parallel}: expected at least 1")
        self.parallel = parallel
        self.devices = tuple(devices)
        self.progress = progress

    def run_all(self, runs: Sequence[Run], directory: Path) -> Outcome:
        """Carry out the runs that have not finished; the same call continues a study.

        Raises:
            UsageError: As `save_runs` and `require_unchanged`; or another process carries out or submits runs in this
                folder.
        """
        with alone(directory):
            require_unchanged(runs, directory)
            save_runs(runs, directory)
            return self._outcome(runs, directory)

    def _outcome(self, runs: Sequence[Run], directory: Path) -> Outcome:
        """Start what is ready, until nothing is left or can be started."""
        own = {run.name for run in runs}
        kept = [run.name for run in runs if is_finished(directory, run.name)]
        done, failed, skipped = set(kept), dict[str, str](), dict[str, str]()
        left = [run for run in runs if run.name not in done]
        running: dict[Future[int], tuple[Run, str]] = {}
        free = [(self.devices or ("",))[number % max(1, len(self.devices))] for number in range(self.parallel)]
        children = Children()

        def is_met(need: str) -> bool:
            # what is not in this list may be of an earlier list of the same folder
            return need in done or (need not in own and is_finished(directory, need))

        def skip(run: Run, need: str) -> None:
            left.remove(run)
            skipped[run.name] = need
            write_state(directory, run, "skipped", error=need)

        with ThreadPoolExecutor(self.parallel) as pool, children.ended_by_interruption():
            while True:
                for run in list(left):
                    hopeless = [need for need in run.needs if need in failed or need in skipped]
                    if hopeless:
                        skip(run, hopeless[0])
                    elif free and all(map(is_met, run.needs)):
                        left.remove(run)
                        device = free.pop(0)
                        environment = self._environment(device)
                        future = pool.submit(carry_out, run, directory, environment, self.progress, children)
                        running[future] = run, device
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    run, device = running.pop(future)
                    free.append(device)
                    if (code := future.result()) == 0:
                        done.add(run.name)
                    elif code in STOPPED:
                        failed[run.name] = "stopped"
                    else:
                        state = run_state(directory, run.name) or {}
                        failed[run.name] = str(state.get("error") or f"exit code {code}")
        for run in list(left):  # each needs a run of an earlier list that has not finished
            skip(run, next(need for need in run.needs if not is_met(need)))
        return Outcome(tuple(run.name for run in runs if run.name in done), failed, skipped, tuple(kept))

    def _environment(self, device: str) -> dict[str, str]:
        """What a run's process finds in its environment beyond ours."""
        if device:
            return {"CUDA_VISIBLE_DEVICES": device}
        if self.parallel > 1 and "OMP_NUM_THREADS" not in os.environ:
            return {"OMP_NUM_THREADS": str(max(1, cores() // self.parallel))}
        return {}


def run_one(directory: Path, name: str, *, progress: Callable[[str], None] = print) -> int:
    """Carry out one run of a study's folder, as a job of a cluster does.

    In a Slurm job srun starts it, so that each task of the job is a rank of `fit`; other commands take one task.

    Returns:
        0 when it has finished, now or earlier; else its exit code, 1 when one that it needs has not finished.

    Raises:
        UsageError: There is no such study or run.
    """
    runs = {run.name: run for run in load_runs(directory)}
    if name not in runs:
        raise UsageError(f"{directory}: no run {name}; known: {', '.join(runs)}")
    if is_finished(directory, name):
        progress(f"{name}: finished earlier")
        return 0
    unmet = [one for one in runs[name].needs if not is_finished(directory, one)]
    if unmet:
        write_state(directory, runs[name], "skipped", error=unmet[0])
        progress(f"{name}: needs {', '.join(unmet)}, which has not finished")
        return 1
    launcher, environment = in_job(runs[name])
    children = Children()
    with ThreadPoolExecutor(1) as pool, children.ended_by_interruption():
        return pool.submit(carry_out, runs[name], directory, environment, progress, children, launcher).result()


def in_job(run: Run) -> tuple[tuple[str, ...], dict[str, str]]:
    """What starts a run in a Slurm job, and what its environment needs; nothing elsewhere."""
    if "SLURM_JOB_ID" not in os.environ or in_step():
        return (), {}
    # a rank that fails before the ranks have found one another would keep them waiting
    ranks = ("--kill-on-bad-exit=1",) if run.arguments[0] == "fit" else ("--nodes=1", "--ntasks=1")
    # srun does not take this one from the job
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    return ("srun", *ranks), {"SRUN_CPUS_PER_TASK": cpus} if cpus else {}


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the study's folder; its lock dies with this process.

    Raises:
        UsageError: Another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{directory}: another process carries out or submits runs in this folder; wait for it, or choose "
                f"another --output"
            ) from None
        yield
