"""Trials run one after the other or side by side, each in a process of its own; what is finished is not run again."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segan_pl.data.case_pool import cores
from segan_pl.errors import UsageError
from segan_pl.experiments.processes import STOPPED, Children, carry_out
from segan_pl.experiments.trials import (
    Trial,
    is_finished,
    load_trials,
    save_trials,
    trial_state,
    with_directory,
    write_state,
)


@dataclass(frozen=True)
class Outcome:
    """What became of a study's trials, by name.

    Attributes:
        finished: Now or earlier.
        failed: Ended with an exit code other than 0, with what it said last.
        skipped: Not run, because one that they need has failed.
        kept: Those of `finished` that an earlier call had finished.
    """

    finished: tuple[str, ...]
    failed: Mapping[str, str]
    skipped: Mapping[str, str]
    kept: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 only when every trial has finished."""
        return 1 if self.failed or self.skipped else 0

    def lines(self) -> list[str]:
        """What failed and why, then the counts."""
        total = len(self.finished) + len(self.failed) + len(self.skipped)
        earlier = f" ({len(self.kept)} of them earlier)" if self.kept else ""
        return [
            *(f"failed: {name}: {why}" for name, why in self.failed.items()),
            *(f"skipped: {name}: needs {why}, which has not finished" for name, why in self.skipped.items()),
            f"{total} trials, {len(self.finished)} finished{earlier}, {len(self.failed)} failed, "
            f"{len(self.skipped)} skipped",
        ]


def command_lines(trials: Sequence[Trial], directory: Path) -> list[str]:
    """The commands that a study stands for, placeholders as they are."""
    return [shlex.join(["segan_pl", *with_directory(trial, directory)]) for trial in trials]


def run_study(
    trials: Sequence[Trial],
    directory: Path,
    *,
    parallel: int = 1,
    devices: Sequence[str] = (),
    progress: Callable[[str], None] = print,
) -> Outcome:
    """Run what has not finished; the same call continues it.

    Args:
        trials: In an order in which each comes after those that it needs.
        directory: The study's folder; one process at a time runs trials in it.
        parallel: Trials side by side.
        devices: GPUs, one a trial, by turns (CUDA_VISIBLE_DEVICES); empty leaves it to the trials. Without GPUs the
            cores are shared out among the trials that run side by side (OMP_NUM_THREADS, unless it is set).
        progress: Told a line when a trial starts and ends.

    Raises:
        UsageError: As `save_trials`; `parallel` is below 1; or another process runs trials in this folder.
    """
    if parallel < 1:
        raise UsageError(f"--parallel {parallel}: expected at least 1")
    with _alone(directory):
        save_trials(trials, directory)
        return _Execution(trials, directory, parallel, devices, progress).outcome()


def run_one(directory: Path, name: str, *, progress: Callable[[str], None] = print) -> int:
    """Run one trial of a study's folder, as a job of a cluster does.

    Returns:
        0 when it has finished, now or earlier; else its exit code, 1 when one that it needs has not finished.

    Raises:
        UsageError: No such study or trial.
    """
    trials = {trial.name: trial for trial in load_trials(directory)}
    if name not in trials:
        raise UsageError(f"{directory}: no trial {name}; known: {', '.join(trials)}")
    if is_finished(directory, name):
        progress(f"{name}: finished earlier")
        return 0
    unmet = [one for one in trials[name].needs if not is_finished(directory, one)]
    if unmet:
        write_state(directory, trials[name], "skipped", error=unmet[0])
        progress(f"{name}: needs {', '.join(unmet)}, which has not finished")
        return 1
    children = Children()
    with ThreadPoolExecutor(1) as pool, children.ended_by_interruption():
        return pool.submit(carry_out, trials[name], directory, {}, progress, children).result()


class _Execution:
    """One call's work: starts what is ready, until nothing is left or can be."""

    def __init__(
        self,
        trials: Sequence[Trial],
        directory: Path,
        parallel: int,
        devices: Sequence[str],
        progress: Callable[[str], None],
    ) -> None:
        self.trials = trials
        self.directory = directory
        self.parallel = parallel
        self.slots = list(devices) or [""] * parallel
        self.progress = progress
        self.kept = [trial.name for trial in trials if is_finished(directory, trial.name)]
        self.done = set(self.kept)
        self.failed: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.children = Children()

    def outcome(self) -> Outcome:
        left = [trial for trial in self.trials if trial.name not in self.done]
        running: dict[Future[int], tuple[Trial, str]] = {}
        free = [self.slots[number % len(self.slots)] for number in range(self.parallel)]
        with ThreadPoolExecutor(self.parallel) as pool, self.children.ended_by_interruption():
            while left or running:
                left = self._without_hopeless(left)
                for trial in [one for one in left if set(one.needs) <= self._known()][: len(free)]:
                    left.remove(trial)
                    slot = free.pop(0)
                    running[pool.submit(self._run, trial, slot)] = (trial, slot)
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    trial, slot = running.pop(future)
                    free.append(slot)
                    self._note(trial, future.result())
        for trial in left:  # they need one that an earlier list has, and that has not finished
            unmet = next(name for name in trial.needs if name not in self._known())
            self.skipped[trial.name] = unmet
            write_state(self.directory, trial, "skipped", error=unmet)
        finished = tuple(trial.name for trial in self.trials if trial.name in self.done)
        return Outcome(finished, self.failed, self.skipped, tuple(self.kept))

    def _known(self) -> set[str]:
        """Names that count as finished: of this list, or of the folder's earlier lists."""
        named = {name for trial in self.trials for name in trial.needs}
        elsewhere = named - {trial.name for trial in self.trials}
        return self.done | {name for name in elsewhere if is_finished(self.directory, name)}

    def _without_hopeless(self, left: list[Trial]) -> list[Trial]:
        """Skip, and record, the trials that need one which failed or was skipped."""
        kept = []
        for trial in left:
            ended = [name for name in trial.needs if name in self.failed or name in self.skipped]
            if ended:
                self.skipped[trial.name] = ended[0]
                write_state(self.directory, trial, "skipped", error=ended[0])
            else:
                kept.append(trial)
        return kept

    def _run(self, trial: Trial, slot: str) -> int:
        threads = max(1, cores() // self.parallel)
        shared = self.parallel > 1 and not slot and "OMP_NUM_THREADS" not in os.environ
        share = {"OMP_NUM_THREADS": str(threads)} if shared else {}
        return carry_out(trial, self.directory, share | _visible(slot), self.progress, self.children)

    def _note(self, trial: Trial, code: int) -> None:
        if code == 0:
            self.done.add(trial.name)
            return
        state = {} if code in STOPPED else trial_state(self.directory, trial.name) or {}
        why = "stopped" if code in STOPPED else f"exit code {code}"
        self.failed[trial.name] = str(state.get("error") or why)


def _visible(slot: str) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": slot} if slot else {}


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the study's folder; its lock dies with this process."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{directory}: another process runs trials in this folder; wait for it, or choose another --output"
            ) from None
        yield
