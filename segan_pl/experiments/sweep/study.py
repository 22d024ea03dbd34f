"""A sweep as a study: its trials are runs, which the same call continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.experiments.process import lock_run, set_aside_failed
from segan_pl.experiments.runner import Runner
from segan_pl.experiments.runs import Outcome, Run, is_finished, run_state, save_runs
from segan_pl.experiments.slurm import SlurmRunner
from segan_pl.experiments.standing import under_way
from segan_pl.experiments.sweep.file import SweepFile, filled_arguments
from segan_pl.experiments.sweep.journal import WORK
from segan_pl.experiments.sweep.search import Search, Trial, grid


@dataclass(frozen=True)
class Plan:
    """A sweep that is about to run.

    Attributes:
        sweep: The file.
        arguments: Of every trial, from the command on, without its own.
        count: Trials in all.
        seed: Of random and bayes.
    """

    sweep: SweepFile
    arguments: tuple[str, ...]
    count: int
    seed: int

    def run(self, trial: Trial) -> Run:
        """The run of a trial; values are written as W&B's agent writes them."""
        own = [f"--{name}={value}" for name, value in trial.values.items()]
        return Run(trial.name, (*self.arguments, *own), values=dict(trial.values))


def plan(sweep: SweepFile, extra: Sequence[str] = (), *, count: int | None = None, seed: int = 0) -> Plan:
    """What a call will do.

    Args:
        sweep: The file.
        extra: Arguments of every trial in addition to the file's own.
        count: Trials in all; default a whole grid, or the file's `run_cap`.
        seed: Of random and bayes.

    Raises:
        UsageError: The extra arguments fix what is searched or share a folder, or no number of trials is known.
    """
    names = [argument.partition("=")[0] for argument in extra]
    for name in names:
        if name.lstrip("-") in {one.name for one in sweep.parameters}:
            raise UsageError(f"{name} after --: the sweep {sweep.path.stem} varies it; leave it out")
    if "--run.directory" in names:
        raise UsageError("--run.directory after --: each trial has a folder of its own; use --output")
    if extra and not extra[0].startswith("-"):
        raise UsageError(f"{extra[0]!r} after --: expected options of segan_pl fit, e.g. -- --data.root /data")
    asked = count if count is not None else sweep.run_cap
    if asked is None and sweep.method != "grid":
        raise UsageError(f"--count: {sweep.path.name} is a {sweep.method} search without an end; say how many trials")
    if asked is not None and asked < 1:
        raise UsageError(f"--count {asked}: expected at least 1")
    whole = len(grid(sweep.parameters)) if sweep.method == "grid" else asked or 0
    return Plan(sweep, tuple(filled_arguments(sweep.fixed, extra)), min(asked or whole, whole), seed)


def run_sweep(asked: Plan, directory: Path, runner: Runner) -> tuple[Outcome | None, list[Run]]:
    """Carry out, show or submit the trials that have not finished.

    Returns:
        What became of the runs, None where none was run here; and the runs of the sweep so far.

    Raises:
        UsageError: The folder holds another sweep, jobs take trials of it, or as `Runner.run_all`.
    """
    bayes = asked.sweep.method == "bayes"
    search = Search(asked.sweep, directory, seed=asked.seed, write=runner.writes)
    if bayes and isinstance(runner, SlurmRunner):
        _submit_workers(asked, search, runner)
        return None, []
    if bayes:
        if runner.writes:
            _require_no_workers(directory)
        # what an earlier call left unfinished comes first
        runs = fresh = [asked.run(trial) for trial in search.trials[: asked.count]]
        told = Outcome()
        while True:
            if fresh and (ended := runner.run_all(fresh, search.directory)):
                told += ended
            search.tell()
            if len(runs) >= asked.count:
                return told if runner.writes else None, runs
            fresh = [asked.run(trial) for trial in search.propose(min(runner.parallel, asked.count - len(runs)))]
            runs = [*runs, *fresh]
            if not runner.writes:
                runner.run_all(fresh, search.directory)
                runner.progress(f"# and {asked.count - len(runs)} more, which follow from the results")
                return None, []
    runs = [asked.run(trial) for trial in search.choose(asked.count)]
    outcome = runner.run_all(runs, directory)
    search.tell()
    return outcome, runs


def _submit_workers(asked: Plan, search: Search, runner: SlurmRunner) -> None:
    """Submit an array of workers; the same call again submits those whose jobs have ended while trials are left.

    What failed before is left to the workers again.

    Raises:
        UsageError: Workers are under way with other arguments; or as `SlurmRunner.submitting`, `.submit`, `save_runs`.
    """
    directory = search.directory
    names = [f"worker {number}" for number in range(1, (runner.parallel or 1) + 1)]
    with runner.submitting(directory, names) as held:
        with search.shared():
            work = {"arguments": list(asked.arguments), "count": asked.count}
            if held and search.study.user_attrs[WORK]["arguments"] != work["arguments"]:
                jobs = ", ".join(job for job, _ in held.values())
                raise UsageError(
                    f"{directory}: job {jobs} takes trials with other arguments; cancel it (scancel), or wait for it"
                )
            runs = [asked.run(trial) for trial in search.trials[: asked.count]]
            save_runs(runs, directory)
            _open_failed(runs, directory, runner.progress)
            search.study.set_user_attr(WORK, work)
        runner.tell(held, held)
        left = asked.count - sum(is_finished(directory, run.name) for run in runs)
        new = [name for name in names if name not in held][: max(0, left - len(held))]
        if new:
            job = runner.submit(dict.fromkeys(new, ()), directory, tell_script=True)
            more = "" if runner.parallel else "; --parallel N submits N"
            runner.progress(f"job {job}: {len(new)} workers for {left} trials{more}")
        elif not left:
            runner.progress("every trial has finished; nothing is submitted")


def _require_no_workers(directory: Path) -> None:
    """Raise UsageError where jobs take trials of a search that is to be carried out here."""
    if held := under_way(directory):
        jobs = ", ".join(job for job, _ in held.values())
        raise UsageError(f"{directory}: job {jobs} takes trials of this search; wait for it, or cancel it (scancel)")


def _open_failed(runs: list[Run], directory: Path, progress: Callable[[str], None]) -> None:
    """Take the records of failures away, by which workers know what not to take again."""
    for run in runs:
        state = run_state(directory, run.name)
        if state is not None and state["state"] == "failed" and (lock := lock_run(directory, run.name)) is not None:
            with lock:
                set_aside_failed(run, directory, progress)
                (directory / "logs" / f"{run.name}.json").unlink(missing_ok=True)


def chosen_runs(sweep: SweepFile, directory: Path) -> list[Run]:
    """The runs that earlier calls chose for a folder, to be looked at: without their arguments.

    Raises:
        UsageError: The folder has none, or those of another search.
    """
    trials = Search(sweep, directory, write=False).trials
    if not trials:
        raise UsageError(f"{directory}: no trial of a sweep is there; run or submit it without --report first")
    return [Run(trial.name, (), values=trial.values) for trial in trials]
