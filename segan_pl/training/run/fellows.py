"""The ranks of a run watch one another: when one ends, all end, and each says which it was and why.

A rank in a collective waits for one that is gone: with NCCL for many minutes, with gloo until an error that names an
address. Here every rank holds a connection to rank 0, which the system closes when a process ends, however it ends, so
a rank that is only slow is never taken for dead. One limit is left: a machine that answers nothing for 45 seconds
(without power, or cut off from the network) counts as gone. Processes that rank 0 has started are watched by their exit
codes, and watch rank 0 in turn, already while they start.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

import torch.distributed as dist

from segan_pl.training.run.fellow_words import (
    OPEN,
    TO_CONNECT,
    Fellow,
    as_line,
    ended_by_stop,
    exit_words,
    hello_of,
    keep_open,
)
from segan_pl.training.run.signals import LAUNCHER, Signals, Stopped, exit_code, name_of

# In seconds: the main thread, which often gets an error of its own from a collective, ends the process better.
PATIENCE = 3.0
# The same, where it has begun to end: callbacks may wait in a collective.
LAST_PATIENCE = 4.0
# The same where this rank was told to stop: the dead rank may be one that stops too, and a checkpoint takes a while.
# Less than Slurm's KillWait, 30 s, after which it sends SIGKILL.
STOP_PATIENCE = 15.0
POLL = 0.2
IN_COLLECTIVE = re.compile("gloo|nccl|processgroup|connection (closed|reset)|broken pipe", re.IGNORECASE)


class LostRankError(RuntimeError):
    """Another rank has ended; this one ended for its sake."""


class Fellows:
    """What one rank knows of the others, while a trainer runs.

    Args:
        signals: Of this process; a loss is remembered as their `lost`.
        end: Ends the process, by an exit code; for tests.
    """

    def __init__(self, signals: Signals, end: Callable[[int], Any] = os._exit) -> None:
        self.signals = signals
        self.end = end
        self.rank = self.world = 0
        self.known = threading.Event()
        self.raised = self.closed = False
        self._first = 0
        self._waits_to_stop = False
        self._own: dict[str, Any] | None = None
        self._children: list[subprocess.Popen[Any]] = []
        self._sockets: dict[int, socket.socket] = {}
        self._names: dict[int, Fellow] = {}
        self._left: set[int] = set()
        self._lock = threading.Lock()

    # -- processes that rank 0 started --------------------------------------------------------------------------------

    def watch_family(self, launcher: Any, first: int = 0) -> None:
        """Watch the ranks that this process has started, by their exit codes, or the process that started this one.

        Args:
            launcher: Lightning's, with the processes of its ranks in order; its observer of them, which would kill all,
                this process too, without a word, is left an empty list.
            first: The number, among all ranks, of this node's first, which starts the others of the node.
        """
        self._first = first
        self._children = list(getattr(launcher, "procs", []))
        if self._children:
            launcher.procs.clear()
            launcher.procs = list(self._children)
        parent = os.getppid() if os.environ.get(LAUNCHER) == str(os.getppid()) else 0
        if self._children or parent:
            threading.Thread(target=self._poll, args=(parent,), name="ranks", daemon=True).start()

    def _poll(self, parent: int) -> None:
        while not (self.closed or self.known.is_set()):
            for rank, child in enumerate(self._children, self._first + 1):
                if child.poll() and not (self.signals.stop and ended_by_stop(child.returncode)):
                    # its own words, where it had time for some, are on their way
                    time.sleep(POLL)
                    self.lose(Fellow(rank, socket.gethostname(), child.pid), exit_words(child.returncode))
            if parent and os.getppid() != parent:
                self.lose(Fellow(self._first, socket.gethostname(), parent), exit_words(None))
            time.sleep(POLL)

    # -- connections --------------------------------------------------------------------------------------------------

    def connect(self, rank: int, world: int, address: str) -> None:
        """Connect all ranks to rank 0; called by every rank, as soon as they can talk to one another.

        Args:
            rank: This process's.
            world: How many there are.
            address: Of rank 0's machine.
        """
        self.rank, self.world = rank, world
        server = None
        found: list[Any] = [None]
        if rank == 0:
            family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
            server = socket.create_server(("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6)
            found = [(server.getsockname()[1], secrets.token_hex(16), (0, socket.gethostname(), os.getpid()))]
        dist.broadcast_object_list(found, 0)
        port, token, first = found[0]
        self._names[0] = Fellow(*first)
        if server is not None:
            threading.Thread(target=self._admit, args=(server, token), name="ranks", daemon=True).start()
            return
        try:
            connection = socket.create_connection((address, port), timeout=TO_CONNECT)
            connection.sendall(as_line({"token": token, "name": Fellow(rank, socket.gethostname(), os.getpid())}))
        except OSError as error:
            # A firewall, say: the run goes on without. Of this rank, and no other knows of it.
            text = f"segan_pl: note: rank {rank} cannot watch rank 0, and notices its end late: {error}"
            print(text, file=sys.stderr, flush=True)
            return
        self._keep(0, connection, connection.makefile())

    def _admit(self, server: socket.socket, token: str) -> None:
        """Accept connections until all ranks are in; others than ranks (port scans, health probes) may come too."""
        with server:
            server.settimeout(POLL)
            while len(self._sockets) < self.world - 1 and not self.closed:
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                except OSError:
                    time.sleep(POLL)
                    continue
                # a thread for each: one that says nothing keeps no other waiting
                threading.Thread(target=self._greet, args=(connection, token), name="ranks", daemon=True).start()

    def _greet(self, connection: socket.socket, token: str) -> None:
        """Keep a connection that is a rank's."""
        if (hello := hello_of(connection, token)) is None:
            return
        name, lines = hello
        self._names[name.rank] = name
        self._keep(name.rank, connection, lines)
        if self._own is not None:  # it comes late: this rank has ended, or has lost another
            self._tell(self._own)

    def _keep(self, rank: int, connection: socket.socket, lines: TextIO) -> None:
        keep_open(connection)
        self._sockets[rank] = connection
        threading.Thread(target=self._listen, args=(rank, connection, lines), name="ranks", daemon=True).start()

    def _listen(self, rank: int, connection: socket.socket, lines: TextIO) -> None:
        """Read one connection until its end."""
        with contextlib.suppress(OSError, ValueError), connection, lines:
            for line in lines:
                told = json.loads(line)
                if "lost" in told:
                    self.lose(Fellow(*told["lost"]), told["why"])
                elif "stopped" in told:
                    self._left.add(rank)
                    self._follow(int(told["stopped"]))
                elif "left" in told:
                    self._left.add(rank)
        if rank not in self._left and not self.closed:
            code = None
            if 0 < rank <= len(self._children):
                # the connection ends a moment before the process
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = self._children[rank - 1].wait(1.0)
            if code is not None and self.signals.stop and ended_by_stop(code):
                return
            self.lose(self._names.get(rank, Fellow(rank, "", 0)), exit_words(code))

    # -- ends ---------------------------------------------------------------------------------------------------------

    def tell(self, error: BaseException) -> None:
        """Tell the others that this rank ends, and by what; not where it ends for the sake of one that is lost.

        An error in the middle of a collective is most often the end of another rank, which is known in a moment.
        """
        self.raised = True
        text = " ".join(f"{type(error).__name__}: {error}".split())
        if IN_COLLECTIVE.search(text):
            self.known.wait(PATIENCE)
        if isinstance(error, Stopped):
            self._tell({"stopped": int(error.code or 0)})
        elif not self.known.is_set():
            own = Fellow(self.rank, socket.gethostname(), os.getpid())
            self._tell({"lost": own, "why": f"ended with {text[:300]}"})

    def _tell(self, told: dict[str, Any]) -> None:
        self._own = told
        for connection in [*self._sockets.values()]:
            with contextlib.suppress(OSError):
                connection.sendall(as_line(told))

    def close(self) -> None:
        """Leave: from here on each rank ends by itself."""
        if self._own is None and not self.known.is_set():
            self._tell({"left": True})
        self.closed = True
        for connection in self._sockets.values():
            OPEN.discard(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def _follow(self, code: int) -> None:
        """Another rank was stopped: this one, if it does not stop by itself, as one outside of training cannot."""
        time.sleep(PATIENCE + LAST_PATIENCE)
        if not (self.signals.stop or self.closed):
            self.signals.last_word("another rank was told to stop")
            self._end(code)

    def lose(self, fellow: Fellow, why: str) -> None:
        """End this process, since a rank has ended; where it was told to stop, later, if it does not stop by itself."""
        where = f" ({fellow.host}, process {fellow.process})" if fellow.process else ""
        lost = f"rank {fellow.rank}{f' of {self.world}' if self.world else ''}{where} {why}: look at its log"
        with self._lock:
            # one that ends by itself needs no other reason
            if self._ends(fellow) or self._waits_to_stop:
                return
            if self.signals.stop:
                self._waits_to_stop = True
                target: Callable[..., None] = self._end_unless_stopped
            else:
                self.signals.lost = (
                    f"{lost}; this rank cannot go on without it; the same line again goes on from the run's last "
                    f"checkpoint"
                )
                self.known.set()
                target = self._end_after_patience
        if self.known.is_set():
            self._tell({"lost": fellow, "why": why})
        threading.Thread(target=target, args=(fellow, lost), name="ranks", daemon=True).start()

    def _ends(self, fellow: Fellow) -> bool:
        """Whether this rank ends in any case, or the other one has said that it does."""
        return self.closed or self.known.is_set() or self._own is not None or fellow.rank in self._left

    def _end_unless_stopped(self, fellow: Fellow, lost: str) -> None:
        # The batch at whose end the stop would be carried out never ends where a collective waits for the dead rank.
        limit = time.monotonic() + STOP_PATIENCE
        while time.monotonic() < limit:
            if self._ends(fellow) or self.signals.over:
                self._waits_to_stop = False
                return
            time.sleep(POLL)
        self.known.set()
        by = name_of(self.signals.stop)
        text = f"segan_pl: stopped by {by}, without a checkpoint of this moment ({lost})"
        print(text, file=sys.stderr, flush=True)
        self._end(exit_code(self.signals.stop))

    def _end_after_patience(self, *_: Any) -> None:
        time.sleep(PATIENCE)
        if self.raised:
            time.sleep(LAST_PATIENCE)
        if not self.signals.over:
            print(f"segan_pl: error: {self.signals.lost}", file=sys.stderr, flush=True)
        self._end(1)

    def _end(self, code: int) -> None:
        for process in self._children:
            with contextlib.suppress(OSError):
                process.kill()
        self.end(code)
