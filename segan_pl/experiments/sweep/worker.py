"""Workers of a search: processes on any machines that take trials, one after the other, from one journal.

A worker holds the lock of the trial that it carries out, and the trial's process inherits it. So a trial whose lock is
free and that has not ended was left by a worker that died or was stopped, and the next one to look takes it on.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from segan_pl.errors import UsageError
from segan_pl.experiments.local import in_job
from segan_pl.experiments.process import STOPPED, Children, carry_out_locked, lock_run
from segan_pl.experiments.runs import Run, run_state, save_runs
from segan_pl.experiments.sweep.journal import WORK, kept_study, kept_sweep
from segan_pl.experiments.sweep.search import Search
from segan_pl.experiments.sweep.study import Plan


def work(directory: Path, *, progress: Callable[[str], None] = print) -> int:
    """Carry out trials of a search until none is left to be taken.

    Returns:
        0, or 1 when one has failed here; the exit code of a stop, after which another worker goes on with the trial.

    Raises:
        UsageError: The folder holds no search that was submitted; or as `Search`.
    """
    kept = kept_study(directory)
    if kept is None or WORK not in kept.user_attrs:
        raise UsageError(f"{directory}: holds no search for workers; `segan_pl sweep FILE --slurm` makes one")
    search, failed, children = Search(kept_sweep(kept, directory), directory), False, Children()

    def carry_out(run: Run, lock: TextIO) -> int:
        launcher, environment = in_job(run)
        with lock:
            return carry_out_locked(run, directory, environment, progress, children, launcher, lock=lock.fileno())

    with ThreadPoolExecutor(1) as pool, children.ended_by_interruption():
        while not children.out_of_time and (taken := _take(search)) is not None:
            if children.out_of_time:  # the signal came while it was taken
                taken[1].close()
                break
            # in another thread, since this one handles signals
            code = pool.submit(carry_out, *taken).result()
            if code in STOPPED:
                return code
            failed = failed or code != 0
    if children.out_of_time:  # the signal came between two trials
        progress(children.requeue(keeps=True))
        return STOPPED[2]
    progress("no trial is left to be taken")
    return int(failed)


def _take(search: Search) -> tuple[Run, TextIO] | None:
    """A trial that nobody carries out, with its lock: one that was left, else a new one; None when there is none."""
    directory = search.directory
    with search.shared():
        search.tell()
        said = search.study.user_attrs[WORK]
        asked = Plan(search.sweep, tuple(said["arguments"]), said["count"], search.seed)
        for trial in search.open:
            # an open one with a record has failed
            if trial.number > asked.count or run_state(directory, trial.name) is not None:
                continue
            if (lock := lock_run(directory, trial.name)) is None:
                continue
            if run_state(directory, trial.name) is not None:  # it ended before its worker let go of the lock
                lock.close()
                continue
            run = asked.run(trial)
            save_runs([run], directory)  # the worker that proposed it may have been killed before
            return run, lock
        if len(search.trials) >= asked.count:
            return None
        (trial,) = search.propose(1)
        run = asked.run(trial)
        save_runs([run], directory)
        if (lock := lock_run(directory, run.name)) is None:  # of a folder whose journal was taken away
            raise UsageError(f"{directory}: {run.name} is under way and not in the journal; choose another --output")
        return run, lock
