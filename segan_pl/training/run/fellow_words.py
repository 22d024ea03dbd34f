"""What ranks that watch one another say, the connections through which they say it, and how a process ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from typing import Any, NamedTuple, TextIO

from segan_pl.training.run.signals import exit_code

TO_CONNECT = 20.0  # seconds
# A machine that loses its power closes no connection. The kernel asks after 15 s of silence, then every 10 s; after
# three questions without an answer, 45 s in all, the connection breaks. Shorter breaks of a network end no run.
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
LONGEST_HELLO = 2000  # characters
OPEN: set[socket.socket] = set()


class Fellow(NamedTuple):
    """A rank, as others name it.

    Attributes:
        rank: Its number.
        host: Its machine.
        process: Its number there.
    """

    rank: int
    host: str
    process: int


def hello_of(connection: socket.socket, token: str) -> tuple[Fellow, TextIO] | None:
    """The rank behind a new connection, by its first line, and what reads the following ones; None where it is none.

    Such a connection is closed. Waits for at most `TO_CONNECT` seconds.
    """
    connection.settimeout(TO_CONNECT)
    lines = connection.makefile()  # one for all: it may have read what follows
    hello: Any = None
    with contextlib.suppress(OSError, ValueError):
        hello = json.loads(lines.readline(LONGEST_HELLO))
    if isinstance(hello, dict) and hello.get("token") == token:
        return Fellow(*hello["name"]), lines
    lines.close()
    connection.close()
    return None


def keep_open(connection: socket.socket) -> None:
    """Have the system ask now and then whether the other machine lives, and forked processes close the connection."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    OPEN.add(connection)


def as_line(told: dict[str, Any]) -> bytes:
    """What one rank says to another."""
    return json.dumps(told).encode() + b"\n"


def ended_by_stop(code: int) -> bool:
    """Whether an exit code is that of a process that was told to stop, by a handler or without one."""
    return any(code in (exit_code(number), -number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))


def exit_words(code: int | None) -> str:
    """How a process ended, by its exit code; None where only its silence is known."""
    if code is None:
        return "ended without a word (killed, out of memory, or its machine is gone)"
    if code < 0:
        memory = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{memory}"
    return f"ended with exit code {code}"


def _in_child() -> None:
    # A loader's worker may outlive its rank for seconds, and would keep the connections open so long.
    while OPEN:
        with contextlib.suppress(OSError):
            os.close(OPEN.pop().detach())


os.register_at_fork(after_in_child=_in_child)
