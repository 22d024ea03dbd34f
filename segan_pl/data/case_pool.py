"""One function over many cases in processes, such that one case that kills its process costs no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from segan_pl.data.volume import Case

Result = TypeVar("Result")
AHEAD = 2  # cases handed out a process: the next one waits while the last one is finished


def cores() -> int:
    """Cores that this process may use, as a scheduler or taskset says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over_cases(
    work: Callable[[Case], Result], cases: Sequence[Case], *, workers: int
) -> Iterator[tuple[Case, Result | None]]:
    """(case, result) as they come; None for a case whose process was killed, even when it was alone.

    Args:
        work: Importable from a new process, with its arguments.
        cases: Each is worked on once, unless a process is killed: then those that were under way are worked on again,
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
        lost: list[Case] = []
        with _pool(count) as pool:
            under_way: dict[Future[Result], Case] = {}
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
            _require_workers()
        yield from _one_at_a_time(work, lost)


def _require_workers() -> None:
    """Raise RuntimeError where not even an empty process starts, as in a script without its guard."""
    with _pool(1) as pool:
        try:
            pool.submit(cores).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "worker processes cannot start; guard the script with `if __name__ == '__main__':`, or use 1 worker"
            ) from error


def _one_at_a_time(work: Callable[[Case], Result], cases: Sequence[Case]) -> Iterator[tuple[Case, Result | None]]:
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
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()  # what it writes must appear whole or not at all
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
