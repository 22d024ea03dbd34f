"""A sweep as a study: its trials are runs, which the same call continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.experiments.runner import Runner
from segan_pl.experiments.runs import Outcome, Run
from segan_pl.experiments.sweep.file import SweepFile, filled_arguments
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
        UsageError: The folder holds another sweep, bayes is to be submitted, or as `Runner.run_all`.
    """
    bayes = asked.sweep.method == "bayes"
    if bayes and runner.writes and not runner.waits:
        raise UsageError("--slurm: bayes chooses a trial by the results of others; use --parallel, or method random")
    search = Search(asked.sweep, directory, seed=asked.seed, write=runner.writes)
    if bayes:
        return _run_rounds(asked, search, runner)
    runs = [asked.run(trial) for trial in search.choose(asked.count)]
    outcome = runner.run_all(runs, directory)
    search.tell()
    return outcome, runs


def _run_rounds(asked: Plan, search: Search, runner: Runner) -> tuple[Outcome | None, list[Run]]:
    """Rounds of runs side by side, each chosen by the results of all before it."""
    # what an earlier call left unfinished comes first
    runs = fresh = [asked.run(trial) for trial in search.trials[: asked.count]]
    outcome = Outcome()
    while True:
        if fresh and (ended := runner.run_all(fresh, search.directory)):
            outcome += ended
        search.tell()
        if len(runs) >= asked.count:
            return outcome if runner.writes else None, runs
        fresh = [asked.run(trial) for trial in search.propose(min(runner.parallel, asked.count - len(runs)))]
        runs = [*runs, *fresh]
        if not runner.writes:
            runner.run_all(fresh, search.directory)
            runner.progress(f"# and {asked.count - len(runs)} more, which follow from the results")
            return None, []


def chosen_runs(sweep: SweepFile, directory: Path) -> list[Run]:
    """The runs that earlier calls chose for a folder, to be looked at: without their arguments.

    Raises:
        UsageError: The folder has none, or those of another search.
    """
    trials = Search(sweep, directory, write=False).trials
    if not trials:
        raise UsageError(f"{directory}: no trial of a sweep is there; run or submit it without --report first")
    return [Run(trial.name, (), values=trial.values) for trial in trials]
