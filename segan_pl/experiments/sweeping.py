"""A sweep on this machine: its points as trials of a study, which the same call continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.experiments.execution import ExecutionOptions, execute
from segan_pl.experiments.running import Outcome
from segan_pl.experiments.search import Point, Told, draw, grid, propose
from segan_pl.experiments.sweep_file import SweepFile, filled_arguments
from segan_pl.experiments.sweep_points import key_of, load_points, name_of, save_points
from segan_pl.experiments.sweep_table import best_score
from segan_pl.experiments.trials import Trial, run_folder, trial_state


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

    def trial(self, point: Point) -> Trial:
        """A point as a trial; values are written as W&B's agent writes them."""
        own = [f"--{name}={value}" for name, value in point.values.items()]
        return Trial(name_of(self.sweep, point), (*self.arguments, *own), values=dict(point.values))


def plan(sweep: SweepFile, extra: Sequence[str] = (), *, count: int | None = None, seed: int = 0) -> Plan:
    """What a call will do.

    Args:
        sweep: The file.
        extra: Arguments of every trial beside the file's own.
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


def run_sweep(
    asked: Plan, options: ExecutionOptions, *, progress: Callable[[str], None] = print
) -> tuple[Outcome | None, list[Trial]]:
    """Run, show or submit the trials that are not finished.

    Returns:
        What became of them, None where none was run here; and all trials of the sweep so far.

    Raises:
        UsageError: The folder holds another sweep, bayes is to be submitted, or as `execute`.
    """
    if asked.sweep.method == "bayes":
        return _run_bayes(asked, options, progress)
    trials = [asked.trial(point) for point in _points(asked, options)]
    return execute(trials, options, progress=progress), trials


def chosen_trials(sweep: SweepFile, directory: Path) -> list[Trial]:
    """The trials that earlier calls chose for a folder, to be looked at, not run: without their arguments.

    Raises:
        UsageError: The folder has none, or those of another search.
    """
    points = load_points(sweep, directory)
    if not points:
        raise UsageError(f"{directory}: no trial of a sweep is there; run or submit it without --report first")
    return [Trial(name_of(sweep, point), (), values=dict(point.values)) for point in points]


def _points(asked: Plan, options: ExecutionOptions) -> list[Point]:
    """The points of a grid or of random draws; those of an earlier call keep their numbers and names."""
    known = load_points(asked.sweep, options.directory, asked.seed)
    if asked.sweep.method == "random":
        points = [draw(asked.sweep.parameters, number, asked.seed) for number in range(1, asked.count + 1)]
    else:
        before = {key_of(point): point for point in known}
        points, following = [], max((point.number for point in known), default=0)
        for point in grid(asked.sweep.parameters)[: asked.count]:
            following += key_of(point) not in before
            points.append(before.get(key_of(point)) or replace(point, number=following))
    if not options.dry_run:
        of_number = {point.number: point for point in (*known, *points)}
        save_points(asked.sweep, options.directory, list(of_number.values()), asked.seed)
    return points


def _run_bayes(
    asked: Plan, options: ExecutionOptions, progress: Callable[[str], None]
) -> tuple[Outcome | None, list[Trial]]:
    """Rounds of trials side by side, each chosen by the results of all before it."""
    if options.slurm:
        raise UsageError("--slurm: bayes chooses a trial by the results of others; use --parallel, or method random")
    points = load_points(asked.sweep, options.directory, asked.seed)[: asked.count]
    side_by_side = options.parallel or max(1, len(options.devices))
    outcome = Outcome((), {}, {})
    fresh = points  # what an earlier call left unfinished first
    while True:
        if fresh:
            ended = execute([asked.trial(point) for point in fresh], options, progress=progress)
            if ended is None:
                break
            outcome = _joined(outcome, ended)
        if len(points) >= asked.count:
            break
        numbers = range(len(points) + 1, min(len(points) + side_by_side, asked.count) + 1)
        fresh = propose(
            asked.sweep.parameters,
            [Told(point, _score(asked, point, options.directory)) for point in points],
            list(numbers),
            maximize=asked.sweep.goal == "maximize",
            seed=asked.seed,
        )
        points = [*points, *fresh]
        if options.dry_run:
            execute([asked.trial(point) for point in fresh], options, progress=progress)
            progress(f"# and {asked.count - len(points)} more, which follow from the results")
            return None, []
        save_points(asked.sweep, options.directory, points, asked.seed)
    trials = [asked.trial(point) for point in points]
    return (None if options.dry_run else outcome), trials


def _score(asked: Plan, point: Point, directory: Path) -> float | None:
    """A finished trial's score."""
    name = name_of(asked.sweep, point)
    state = trial_state(directory, name)
    if state is None or state["state"] != "finished":
        return None
    found = best_score(run_folder(directory, name), asked.sweep.metric, asked.sweep.goal)
    return found.value if found else None


def _joined(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        (*one.finished, *other.finished),
        {**one.failed, **other.failed},
        {**one.skipped, **other.skipped},
        (*one.kept, *other.kept),
    )
