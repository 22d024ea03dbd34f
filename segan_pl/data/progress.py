"""How far a command is: a bar on a terminal, a line every so often elsewhere; both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


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
        with _bar(total, label) as advance:
            yield advance
    else:
        yield _PlainLines(total, done)


@contextmanager
def _bar(total: int, label: str) -> Iterator[Advance]:
    """A bar of rich, imported here, since workers and batch jobs never show one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


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
