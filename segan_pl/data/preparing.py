"""Many cases into the cache at once: processes, a progress bar, and a report in which no case is lost."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segan_pl.data.cache import Cache
from segan_pl.data.volume import Case, CaseError

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


@dataclass(frozen=True)
class PrepareReport:
    """What became of the cases.

    Attributes:
        given: Number of cases asked for.
        used: Names of those that the cache now holds, in the order given.
        refused: (name, one line that says why), in the order given.
        built: How many of `used` were not there before.
        notes: What the preparation of the used cases noted.
    """

    given: int
    used: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    built: int
    notes: tuple[str, ...]

    def summary(self) -> str:
        """The line that ends every command that works through cases."""
        return f"{self.given} given, {len(self.used)} used, {len(self.refused)} refused"

    def lines(self) -> list[str]:
        """Notes, refusals, and the summary last."""
        return [
            *(f"note: {note}" for note in self.notes),
            *(f"refused: {why}" for _, why in self.refused),
            self.summary(),
        ]


@dataclass(frozen=True)
class _Outcome:
    """One case's end; crosses process borders."""

    built: bool = False
    notes: tuple[str, ...] = ()
    refusal: str | None = None


class _Advance(Protocol):
    def __call__(self) -> None: ...


def prepare_all(cases: Sequence[Case], cache: Cache, workers: int = 1, progress: bool = True) -> PrepareReport:
    """Build the entries that are missing; a case that cannot be used is reported, the others are finished.

    Args:
        cases: Names are unique.
        cache: Where to.
        workers: Processes; 1 works in this one. They are spawned, so a script needs its `__main__` guard.
        progress: Show a bar on a terminal, and a line every so often elsewhere (both on stderr).
    """
    outcomes = {case.name: outcome for case in cases if (outcome := _held(cache, case)) is not None}
    missing = [case for case in cases if case.name not in outcomes]
    with _shown(len(missing), progress) as advance:
        for name, outcome in _outcomes(missing, cache, workers):
            outcomes[name] = outcome
            advance()
    ordered = [(case.name, outcomes[case.name]) for case in cases]
    return PrepareReport(
        given=len(cases),
        used=tuple(name for name, outcome in ordered if outcome.refusal is None),
        refused=tuple((name, outcome.refusal) for name, outcome in ordered if outcome.refusal is not None),
        built=sum(outcome.built for _, outcome in ordered),
        notes=tuple(note for _, outcome in ordered for note in outcome.notes),
    )


def _outcomes(cases: Sequence[Case], cache: Cache, workers: int) -> Iterator[tuple[str, _Outcome]]:
    """Each case's outcome as it comes."""
    if workers <= 1 or len(cases) <= 1:
        yield from ((case.name, _build(cache, case)) for case in cases)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(cases)), mp_context=context) as pool:
        futures = {pool.submit(_build, cache, case): case.name for case in cases}
        for future in as_completed(futures):
            name = futures[future]
            try:
                yield name, future.result()
            except BrokenProcessPool:
                why = "a preparing process was killed, perhaps for memory; use fewer workers and start again"
                yield name, _Outcome(refusal=f"{name}: {why}")


def _held(cache: Cache, case: Case) -> _Outcome | None:
    """The outcome of a case whose entry is there already; no process is started for those."""
    try:
        return _Outcome(False, tuple(cache.record(case)["notes"])) if cache.holds(case) else None
    except CaseError as error:
        return _Outcome(refusal=str(error))


def _build(cache: Cache, case: Case) -> _Outcome:
    """One case, with its refusal as a value, so that it neither stops the others nor needs to be pickled."""
    try:
        return _Outcome(True, tuple(cache.record(case)["notes"]))
    except CaseError as error:
        return _Outcome(refusal=str(error))
    except MemoryError:
        return _Outcome(refusal=f"{case.name}: not enough memory; use fewer workers")


@contextmanager
def _shown(total: int, progress: bool) -> Iterator[_Advance]:
    """A function to call after each case."""
    console = Console(stderr=True)
    if not progress or total == 0:
        yield lambda: None
    elif console.is_terminal:
        columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("preparing", total=total)
            yield lambda: bar.advance(task)
    else:
        yield _PlainLines(total)


class _PlainLines:
    """A line every so often, and one at the end."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.last = self.start

    def __call__(self) -> None:
        self.done += 1
        now = time.monotonic()
        if self.done == self.total or now - self.last >= PLAIN_SECONDS:
            self.last = now
            print(f"prepared {self.done} of {self.total} in {now - self.start:.0f} s", file=sys.stderr, flush=True)
