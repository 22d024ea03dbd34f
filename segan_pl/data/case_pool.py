"""One function over many cases in processes, how far it is, and what it notes.

A case that kills its process costs no other.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")
# Cases handed out a process: the next one waits while the last one is finished.
AHEAD = 2


def cores() -> int:
    """Cores that this process may use, as a scheduler or taskset says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over_cases(
    work: Callable[[Item], Result], cases: Sequence[Item], *, workers: int
) -> Iterator[tuple[Item, Result | None]]:
    """(case, result) as they come; None for a case whose process was killed, even when it was alone.

    Args:
        work: Importable from a new process, with its arguments.
        cases: Or other things, each worked on once, unless a process is killed: then those under way are done again,
            one at a time, so that the case that kills is known by name and memory is for one, and the rest as before.
        workers: Processes; with 1 this process does the work.

    Raises:
        RuntimeError: No process can be started at all.
    """
    count = min(workers, len(cases))
    if count <= 1:
        yield from ((case, work(case)) for case in cases)
        return
    left = deque(cases)
    finished = False
    while left:
        lost: list[Item] = []
        with _pool(count) as pool:
            under_way: dict[Future[Result], Item] = {}
            while (left or under_way) and not lost:
                while left and len(under_way) < AHEAD * count:
                    case = left.popleft()
                    try:
                        under_way[pool.submit(work, case)] = case
                    except BrokenProcessPool:
                        lost.append(case)
                        break
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    case = under_way.pop(future)
                    try:
                        yield case, future.result()
                        finished = True
                    except BrokenProcessPool:
                        lost.append(case)
        lost += under_way.values()
        if lost and not finished:
            # Where not even an empty process starts, as in a script without its guard, no case is to blame.
            with _pool(1) as pool:
                try:
                    pool.submit(cores).result()
                except BrokenProcessPool:
                    raise RuntimeError(
                        "worker processes cannot start; guard the script with `if __name__ == '__main__':`, or use 1 "
                        "worker"
                    ) from None
        yield from _one_at_a_time(work, lost)


def _one_at_a_time(work: Callable[[Item], Result], cases: Sequence[Item]) -> Iterator[tuple[Item, Result | None]]:
    """As `over_cases`, in one other process at a time, a new one after each that was killed."""
    left = list(cases)
    while left:
        with _pool(1) as pool:
            while left:
                case = left.pop(0)
                try:
                    yield case, pool.submit(work, case).result()
                except BrokenProcessPool:
                    yield case, None
                    break


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """New interpreters (a fork of a process with threads may hang), which an interruption ends at once."""
    # a worker imports a script without guard
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # in silence: as many tracebacks as workers would hide what the parent says
        os._exit(1)
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            # what it writes must appear whole or not at all
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C and what asks for a checkpoint to the parent, and end with it, however it ends."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


# Between two lines where there is no terminal.
PLAIN_SECONDS = 10.0


Advance = Callable[[], None]  # called after each case


@contextmanager
def shown(total: int, label: str = "preparing", done: str = "prepared", *, enabled: bool = True) -> Iterator[Advance]:
    """A function to call after each of `total` cases.

    Args:
        total: 0 shows nothing.
        label: Before the bar.
        done: In the plain line, "<done> 3 of 10 in 20 s".
        enabled: False shows nothing.
    """
    if not enabled or total == 0:
        yield lambda: None
    elif sys.stderr.isatty():
        # Imported here, since workers and batch jobs never show a bar.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
    else:
        yield _PlainLines(total, done)


class _PlainLines:
    """A line every so often, and one at the end."""

    def __init__(self, total: int, done: str) -> None:
        self.total, self.done, self.count, self.start = total, done, 0, time.monotonic()
        self.last = self.start

    def __call__(self) -> None:
        self.count += 1
        now = time.monotonic()
        if self.count == self.total or now - self.last >= PLAIN_SECONDS:
            self.last = now
            print(f"{self.done} {self.count} of {self.total} in {now - self.start:.0f} s", file=sys.stderr, flush=True)


# Cases named in a note that holds for more.
EXAMPLES = 3
_PART = re.compile(r"([a-z]\w*): (.+)", re.DOTALL)


def grouped(notes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """One line for each thing noted, whatever number of cases and of their files it holds for.

    Args:
        notes: (case, note); a note may begin with the case's name, then with one of its parts: "a: t1: no contrast".

    Returns:
        "a: t1, t2: no contrast", or "5 cases: t1, t2: no contrast: a, b, c and 2 more".
    """
    cases: dict[str, dict[str, None]] = {}
    parts: dict[str, dict[str, None]] = {}
    for name, note in notes:
        text = note.removeprefix(f"{name}: ")
        found = _PART.fullmatch(text)
        part, text = (found[1], found[2]) if found else ("", text)
        cases.setdefault(text, {})[name] = None
        parts.setdefault(text, {}).update({part: None} if part else {})
    lines = []
    for text, found_in in cases.items():
        names, some = list(found_in), ", ".join(parts[text])
        said = f"{some}: {text}" if some else text
        rest = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
        many = f"{len(names)} cases: {said}: {', '.join(names[:EXAMPLES])}{rest}"
        lines.append(f"{names[0]}: {said}" if len(names) == 1 else many)
    return tuple(lines)
