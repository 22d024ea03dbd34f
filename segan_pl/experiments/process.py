"""One run as a process: started, stopped with us, and how it ended."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from segan_pl.data.case import CaseError
from segan_pl.experiments.runs import (
    PLACEHOLDER,
    Run,
    State,
    filled,
    is_finished,
    run_folder,
    run_state,
    write_state,
)

POLL_SECONDS = 0.2
COMMAND = (sys.executable, "-m", "segan_pl")
STOPPED = (129, 130, 143, -signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a run that was told to stop: it has not failed, and the next call continues it."""


class Children:
    """The processes under way: an interruption reaches each of them, and then this one."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], lock: int
    ) -> subprocess.Popen[bytes] | None:
        """Start a command in a session of its own, so that Ctrl-C reaches it through us, once; None after a stop.

        It inherits `lock`, so that a call after our sudden death knows that it is still under way.
        """
        with log.open("ab") as file, self._lock:
            if self.stopped:
                return None
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
        """Inside, Ctrl-C and SIGTERM stop the runs, which keep their last checkpoint, and raise afterwards."""

        def raise_exit(number: int, frame: object) -> None:
            raise SystemExit(128 + number)

        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, raise_exit)
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


def carry_out(
    run: Run,
    directory: Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None],
    children: Children,
) -> int:
    """Carry out one run and record how it ended; returns the exit code.

    Everything happens under the run's lock: a second caller waits, and neither moves nor records the first one's work.
    """
    held = directory / "logs" / f"{run.name}.lock"
    held.parent.mkdir(parents=True, exist_ok=True)
    with _held(held, run.name, progress, children) as lock:
        if lock is None:
            return STOPPED[1]
        # another caller may have finished the run while we waited for the lock
        if is_finished(directory, run.name):
            progress(f"{run.name}: finished elsewhere")
            return 0
        try:
            arguments = filled(run, directory)
        except CaseError as error:
            write_state(directory, run, "failed", exit_code=1, error=str(error))
            return 1
        set_aside_failed(run, directory, progress)
        log = held.with_suffix(".log")
        begin = log.stat().st_size if log.exists() else 0
        progress(f"{run.name}: started")
        started, clock = datetime.now().astimezone().isoformat(timespec="seconds"), time.monotonic()
        process = children.start([*COMMAND, *arguments], log, environment, lock)
        if process is None:
            return STOPPED[1]
        code = process.wait()
        children.ended(process)
        seconds = round(time.monotonic() - clock, 1)
        if code in STOPPED:
            progress(f"{run.name}: stopped after {seconds:.0f} s")
            return code
        why = "" if code == 0 else last_words(log, begin) or f"exit code {code}"
        if code < 0:
            why = f"killed by signal {-code}{' (out of memory?)' if code == -signal.SIGKILL else ''}"
        state: State = "failed" if code else "finished"
        write_state(directory, run, state, exit_code=code, seconds=seconds, started=started, error=why)
        progress(f"{run.name}: {f'failed ({why})' if code else 'finished'} in {seconds:.0f} s")
        return code


def set_aside_failed(run: Run, directory: Path, progress: Callable[[str], None]) -> None:
    """Make way for a run that failed with other arguments: its folder is moved, as it would refuse the new ones.

    The record of the failure goes with it. A stop writes none, so the next call would else take the new, half-trained
    folder for the one that failed. First the folder, then the record: after a kill between them the next call finds no
    folder and drops the record; the other way round it would begin in the failed one. Called with the run's lock held.
    """
    state, folder = run_state(directory, run.name), run_folder(directory, run.name)
    if state is None or state["state"] != "failed" or tuple(state["arguments"]) == run.arguments:
        return
    if folder.exists() and _trained_last(state["arguments"], folder):
        number = 1
        while (other := folder.with_name(f"{folder.name}.failed{number}")).exists():
            number += 1
        folder.rename(other)
        progress(f"{run.name}: failed with other arguments before; that folder is now {other}")
    (directory / "logs" / f"{run.name}.json").unlink()


def _trained_last(arguments: Sequence[str], folder: Path) -> bool:
    """Whether these arguments trained last in a run's folder, by its command.txt; True where it has none.

    Arguments that failed before they trained, as mistyped ones do, are not those of the folder, whose run was stopped.
    """
    file = folder / "command.txt"
    if not file.is_file():
        return True
    words = [".*" if PLACEHOLDER.search(one) else re.escape(shlex.quote(one)) for one in arguments]
    last, _, _ = file.read_text(encoding="utf-8").rpartition(" --run.directory ")  # a folder can be written otherwise
    return re.search(f" {' '.join(words)}$", last) is not None


def last_words(log: Path, begin: int) -> str:
    """The error that a run's output ends with, since `begin` bytes; its last line where it names none."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.partition("segan_pl: error: ")[2] for line in lines if "segan_pl: error: " in line]
    return (errors or lines or [""])[-1][:300]


@contextmanager
def _held(file: Path, name: str, progress: Callable[[str], None], children: Children) -> Iterator[int | None]:
    """Hold a run's lock, once a process that an earlier call left behind has let go of it.

    Yields:
        The lock's file descriptor; None when we were stopped while waiting.
    """
    said = False
    with file.open("w") as held:
        while not children.stopped:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    progress(f"{name}: still under way since an earlier call; waiting for it")
                said = True
                time.sleep(POLL_SECONDS)
            else:
                yield held.fileno()
                return
        yield None
