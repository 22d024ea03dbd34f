"""One trial as a process: started, stopped with us, and how it ended."""

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

from segan_pl.data.volume import CaseError
from segan_pl.experiments.trials import (
    PLACEHOLDER,
    Trial,
    filled,
    is_finished,
    run_folder,
    trial_state,
    write_state,
)

POLL_SECONDS = 0.2
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
    """Run one trial to its end and record it; returns the exit code.

    All under its lock: a second caller waits, and neither moves nor records what the first is at work on.
    """
    held = directory / "trials" / f"{trial.name}.lock"
    held.parent.mkdir(parents=True, exist_ok=True)
    with _held(held, trial.name, progress, children) as lock:
        if lock is None:
            return STOPPED[0]
        if is_finished(directory, trial.name):  # by whoever held the lock before
            progress(f"{trial.name}: finished elsewhere")
            return 0
        try:
            arguments = filled(trial, directory)
        except CaseError as error:
            write_state(directory, trial, "failed", exit_code=1, error=str(error))
            return 1
        set_aside_failed(trial, directory, progress)
        log = held.with_suffix(".log")
        begin = log.stat().st_size if log.exists() else 0
        progress(f"{trial.name}: started")
        started, clock = datetime.now().astimezone().isoformat(timespec="seconds"), time.monotonic()
        process = children.start([*COMMAND, *arguments], log, environment, lock)
        if process is None:
            return STOPPED[0]
        code = process.wait()
        children.ended(process)
        return _recorded(trial, directory, code, (started, clock), _why(code, log, begin), progress)


def _recorded(
    trial: Trial,
    directory: Path,
    code: int,
    start: tuple[str, float],
    why: str,
    progress: Callable[[str], None],
) -> int:
    """Keep how a trial ended, while its lock is still held; returns its exit code."""
    started, clock = start
    seconds = round(time.monotonic() - clock, 1)
    if code in STOPPED:
        progress(f"{trial.name}: stopped after {seconds:.0f} s")
        return code
    state: dict[str, object] = {"exit_code": code, "seconds": seconds, "started": started, "error": why}
    write_state(directory, trial, "finished" if code == 0 else "failed", **state)
    progress(f"{trial.name}: {'finished' if code == 0 else f'failed ({why})'} in {seconds:.0f} s")
    return code


def set_aside_failed(trial: Trial, directory: Path, progress: Callable[[str], None]) -> None:
    """Make way for a trial that failed with other arguments: its run is moved, as it would refuse the new ones.

    The record of the failure goes with it. A stop writes none, so the next call would else take the new, half-trained
    run for the one that failed. First the run, then the record: after a kill between them the next call finds no run
    and drops the record; the other way round it would begin in the failed run. Called with the trial's lock held.
    """
    state, run = trial_state(directory, trial.name), run_folder(directory, trial.name)
    if state is None or state["state"] != "failed" or tuple(state["arguments"]) == trial.arguments:
        return
    if run.exists() and _is_run_of(state["arguments"], run):
        number = 1
        while (other := run.with_name(f"{run.name}.failed{number}")).exists():
            number += 1
        run.rename(other)
        progress(f"{trial.name}: failed with other arguments before; that run is now {other}")
    (directory / "trials" / f"{trial.name}.json").unlink()


def _is_run_of(arguments: Sequence[str], run: Path) -> bool:
    """Whether these arguments trained last in a run's folder, by its command.txt; True where it has none.

    Arguments that failed before they trained, as mistyped ones do, are not those of the run, which was stopped.
    """
    file = run / "command.txt"
    if not file.is_file():
        return True
    words = [".*" if PLACEHOLDER.search(one) else re.escape(shlex.quote(one)) for one in arguments]
    last, _, _ = file.read_text(encoding="utf-8").rpartition(" --run.directory ")  # a folder can be written otherwise
    return re.search(f" {' '.join(words)}$", last) is not None


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
def _held(file: Path, name: str, progress: Callable[[str], None], children: Children) -> Iterator[int | None]:
    """Hold a trial's lock, once a process that an earlier call left behind has let go of it.

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
