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
from typing import Any, TextIO

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
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
from segan_pl.training.run.lease import IN_USE
from segan_pl.training.run.requeue import in_batch_job_without_srun, requeue_job
from segan_pl.training.run.signals import TRAINS

POLL_SECONDS = 0.2
COMMAND = (sys.executable, "-m", "segan_pl")
STOPPED = (129, 130, 143, -signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a run that was told to stop: it has not failed, and the next call continues it."""
BY_SIGUSR1 = (128 + signal.SIGUSR1, -signal.SIGUSR1)
"""Those of a command that does not know Slurm's signal that the job's time is nearly up, and was ended by it."""
WAIT, MOST_WAIT = 10.0, 600.0
"""Seconds between two tries, and of all of them, of a run whose folder another process still trains in."""
KEEPS = ("predict", "prepare", "sweep")
"""Commands that do not train, and whose next start keeps what the one before has written."""
MOST_REPEATS = 3
"""Starts of a job after its first one, until a run that can save nothing is not queued again for want of time."""


class Children:
    """The processes under way: an interruption reaches each of them, and then this one."""

    def __init__(self) -> None:
        self._processes: dict[subprocess.Popen[bytes], bool] = {}
        self._lock = threading.Lock()
        self.stopped = self.out_of_time = self.requeued = False

    def start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], lock: int, *, trains: bool
    ) -> subprocess.Popen[bytes] | None:
        """Start a command in a session of its own, so that Ctrl-C reaches it through us, once; None after a stop.

        Only one that `trains` knows what SIGUSR1 means. It inherits `lock`, so that a call after our sudden death knows
        that it is still under way.
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
            self._processes[process] = trains
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process."""
        with self._lock:
            del self._processes[process]

    def requeue(self, *, keeps: bool) -> str:
        """Start no more, and have Slurm queue this job again unless a run that trains does; what came of it.

        Args:
            keeps: Whether the next start goes on where this one was stopped; another is not repeated without end.
        """
        with self._lock:
            if self.requeued or any(self._processes.values()):
                return ""
            self.requeued = True
        self.stop()
        if not keeps and int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MOST_REPEATS:
            return f"the job's time is too short, it began {MOST_REPEATS + 1} times and is not queued again; give more"
        return requeue_job()

    @contextmanager
    def ended_by_interruption(self) -> Iterator[None]:
        """Inside, Ctrl-C and SIGTERM stop the runs, which keep their last checkpoint, and raise afterwards.

        SIGUSR1 is for the runs that train: each writes a checkpoint, and in a batch job of Slurm has the job queued
        again. There it means that the job's time is nearly up, so other runs, which can save nothing, are stopped.
        """

        def raise_exit(number: int, frame: object) -> None:
            raise SystemExit(128 + number)

        def pass_on(number: int, frame: object) -> None:
            # not under the lock, which this thread may hold
            self.out_of_time = in_batch_job_without_srun()
            for process, trains in list(self._processes.items()):
                if trains:
                    process.send_signal(number)
                elif self.out_of_time:
                    process.terminate()

        handlers: dict[int, Any] = {signal.SIGTERM: raise_exit, signal.SIGUSR1: pass_on}
        in_main = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, handlers[number]) for number in handlers} if in_main else {}
        try:
            yield
        except BaseException:
            self.stop()
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

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
    launcher: Sequence[str] = (),
) -> int:
    """Carry out one run and record how it ended; returns the exit code.

    Everything happens under the run's lock: a second caller waits, and neither moves nor records the first one's work.
    """
    with _held(run, directory, progress, children) as lock:
        if lock is None:
            return STOPPED[1]
        # another caller may have finished the run while we waited for the lock
        if is_finished(directory, run.name):
            progress(f"{run.name}: finished elsewhere")
            return 0
        return carry_out_locked(run, directory, environment, progress, children, launcher, lock=lock.fileno())


def carry_out_locked(
    run: Run,
    directory: Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None],
    children: Children,
    launcher: Sequence[str] = (),
    *,
    lock: int,
) -> int:
    """The same for a caller that holds the run's lock, by its file descriptor."""
    try:
        arguments = filled(run, directory)
    except CaseError as error:
        write_state(directory, run, "failed", exit_code=1, error=str(error))
        return 1
    set_aside_failed(run, directory, progress)
    log = directory / "logs" / f"{run.name}.log"
    begin = log.stat().st_size if log.exists() else 0
    progress(f"{run.name}: started")
    started, clock = datetime.now().astimezone().isoformat(timespec="seconds"), time.monotonic()
    trains = arguments[0] in TRAINS
    code = IN_USE
    while code == IN_USE and time.monotonic() - clock < MOST_WAIT:
        process = children.start([*launcher, *COMMAND, *arguments], log, environment, lock, trains=trains)
        if process is None:
            return STOPPED[1]
        code = process.wait()
        children.ended(process)
        if code == IN_USE:
            # what an earlier job's killed worker started still writes its checkpoint: srun does not pass our lock on
            progress(f"{run.name}: {last_words(log, begin)}; waiting for it")
            time.sleep(WAIT)
    seconds = round(time.monotonic() - clock, 1)
    # Slurm itself may have sent it SIGUSR1, under srun
    by_signal = not trains and code in BY_SIGUSR1 and in_batch_job_without_srun()
    # a stop that took longer than Slurm waits
    killed = children.stopped and code in (128 + signal.SIGKILL, -signal.SIGKILL)
    # Slurm queues the job again, or ends it
    lost = code != 0 and re.search(r"^srun: error: (Node failure on \S+)", _said(log, begin), re.MULTILINE)
    if code in STOPPED or by_signal or killed or lost:
        progress(f"{run.name}: stopped after {seconds:.0f} s{f' ({lost[1]})' if lost else ''}")
        if (by_signal or (children.out_of_time and not trains)) and (
            said := children.requeue(keeps=arguments[0] in KEEPS)
        ):
            progress(said)
        return code if code in STOPPED else STOPPED[2]
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
    lines = [line.strip() for line in _said(log, begin).splitlines() if line.strip()]
    errors = [line.partition("segan_pl: error: ")[2] for line in lines if "segan_pl: error: " in line]
    return (errors or lines or [""])[-1][:300]


def _said(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode("utf-8", "replace")


def lock_run(directory: Path, name: str) -> TextIO | None:
    """The lock of a run, until the file is closed here and in the run's process; None while another call holds it."""
    file = directory / "logs" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError as error:
        lock.close()
        raise UsageError(
            f"{file}: cannot be locked ({error.strerror}); choose an --output on a file system with flock"
        ) from error
    return lock


@contextmanager
def _held(run: Run, directory: Path, progress: Callable[[str], None], children: Children) -> Iterator[TextIO | None]:
    """Hold a run's lock, once a process that an earlier call left behind has let go of it.

    Yields:
        The lock; None when we were stopped while waiting.
    """
    said = False
    while not children.stopped:
        if (lock := lock_run(directory, run.name)) is not None:
            with lock:
                yield lock
            return
        if not said:
            progress(f"{run.name}: still under way since an earlier call; waiting for it")
        said = True
        time.sleep(POLL_SECONDS)
    yield None
