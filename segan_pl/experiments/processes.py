"""One trial as a process: started, stopped with us, and how it ended."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from segan_pl.data.volume import CaseError
from segan_pl.experiments.trials import Trial, filled, write_state

COMMAND = (sys.executable, "-m", "segan_pl")
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a trial that was told to stop: it has not failed, it goes on with the next call."""


class Children:
    """The processes under way: an interruption reaches each of them, and then this one."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], lock: int
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, so that Ctrl-C reaches it through us, once.

        It inherits `lock`, so that a call after our sudden death knows that it is still under way.
        """
        with log.open("ab") as file, self._lock:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                pass_fds=(lock,),
            )
            self._processes.add(process)
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process."""
        with self._lock:
            self._processes.discard(process)

    @contextmanager
    def ended_by_interruption(self) -> Iterator[None]:
        """Inside, Ctrl-C and SIGTERM stop the trials, which keep their last checkpoint, and raise afterwards."""
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _raise_exit)
        try:
            yield
        except BaseException:
            self.stop()
            raise
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)

    def stop(self) -> None:
        """Ask every process to end, and start no more."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.terminate()


def _raise_exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def carry_out(
    trial: Trial,
    directory: Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None],
    children: Children,
) -> int:
    """Run one trial to its end and record it; returns the exit code."""
    try:
        arguments = filled(trial, directory)
    except CaseError as error:
        write_state(directory, trial, "failed", exit_code=1, error=str(error))
        return 1
    if children.stopped:
        return STOPPED[0]
    log = directory / "trials" / f"{trial.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started, clock = datetime.now().astimezone().isoformat(timespec="seconds"), time.monotonic()
    progress(f"{trial.name}: started")
    begin = log.stat().st_size if log.exists() else 0
    with _held(directory / "trials" / f"{trial.name}.lock", trial.name, progress) as lock:
        process = children.start([*COMMAND, *arguments], log, environment, lock)
        code = process.wait()
    children.ended(process)
    seconds = round(time.monotonic() - clock, 1)
    if code in STOPPED:
        progress(f"{trial.name}: stopped after {seconds:.0f} s")
        return code
    why = _why(code, log, begin)
    state: dict[str, object] = {"exit_code": code, "seconds": seconds, "started": started, "error": why}
    write_state(directory, trial, "finished" if code == 0 else "failed", **state)
    progress(f"{trial.name}: {'finished' if code == 0 else f'failed ({why})'} in {seconds:.0f} s")
    return code


def _why(code: int, log: Path, begin: int) -> str:
    """What is said of an exit code; nothing of 0."""
    if code < 0:
        return f"killed by signal {-code}{' (out of memory?)' if code == -signal.SIGKILL else ''}"
    return "" if code == 0 else last_words(log, begin) or f"exit code {code}"


def last_words(log: Path, begin: int) -> str:
    """The error that a trial's output ends with, since `begin` bytes; its last line where it names none."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.partition("segan_pl: error: ")[2] for line in lines if "segan_pl: error: " in line]
    return (errors or lines or [""])[-1][:300]


@contextmanager
def _held(file: Path, name: str, progress: Callable[[str], None]) -> Iterator[int]:
    """Hold a trial's lock, once a process that an earlier call left behind has let go of it; its file descriptor."""
    with file.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"{name}: still under way since an earlier call; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield held.fileno()
