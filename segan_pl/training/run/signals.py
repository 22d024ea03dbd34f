"""What a training process does when it is told to stop: noticed at once, acted upon where a checkpoint can be written.

A thread reads each signal from Python's wake-up pipe, so it is noticed while the main thread waits in a collective or
computes; what it does never depends on where the main thread is. The callback `Stopping` carries the stop out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, Protocol

from segan_pl.training.run.launch import started_rank

FELLOW = signal.SIGUSR2
"""From one rank of a run to another: "somebody told me to stop"."""
SAVE = signal.SIGUSR1
STOPPING = (FELLOW, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
ALL = (SAVE, *STOPPING)
REQUEUE = -1
"""No signal but what Slurm's means: a stop with a checkpoint, after which the job is queued again."""
TRAINS = ("fit", "demo")
LAUNCHER = "SEGAN_PL_LAUNCHER"  # the variable that names the process which started the other ranks
# In seconds: launchers and process groups deliver one stop twice, and a person's second one comes later.
TWICE = 1.0
GRACE = 5.0  # in seconds: before training the main thread must have ended by itself within this time
# The same for a rank that rank 0 launched: it may wait in a collective, and it owns nothing.
GRACE_OF_FELLOW = 2.0


class Stopped(SystemExit):
    """A run ended by a signal; its exit code is 128 + the signal's number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(exit_code(number))
        self.number = number


def exit_code(number: int) -> int:
    """130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; a fellow rank's stop and Slurm's count as SIGTERM."""
    return 128 + (signal.SIGTERM if number in (FELLOW, REQUEUE) else number)


def name_of(number: int) -> str:
    """A signal as users know it."""
    if number == REQUEUE:
        return "Slurm's signal to requeue"
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(signal.SIGTERM if number == FELLOW else number).name


class Launcher(Protocol):
    """What starts the other ranks of a run, as Lightning's launcher does."""

    procs: list[subprocess.Popen[Any]]


class Signals:
    """The signals that one process of a run has got, while it runs the command of this name.

    Attributes:
        stop: The first signal that asked to stop; 0 for none.
        save: Whether a checkpoint was asked for (SIGUSR1).
        training: Whether a stop waits for the end of a batch. Before and after training it ends the process at once.
        trained: Whether training is over.
        ending: Whether a stop has been carried out: its `Stopped` is on its way.
        over: Whether the command has ended.
        requeue: The signal by which Slurm asks for `REQUEUE`; 0 where none does.
        rank: This process's number among all ranks, as far as is known.
        lost: What became of another rank, for whose sake this one ends.
        raised: The signal for which `Stopped` was raised into the main thread; 0 for none.
    """

    def __init__(self, command: str = "fit") -> None:
        self.command = command
        self.stop, self.requeue, self.lost = 0, 0, ""
        self.save = self.training = self.trained = self.ending = self.over = False
        self.rank = started_rank()
        self.raised, self._ended_with_a_word = 0, False
        self.fellows: list[subprocess.Popen[Any]] = []
        self._starter: Launcher | None = None
        self._since = 0.0
        self._terminals = [fd for fd in (0, 1, 2) if os.isatty(fd)]

    def notice(self, number: int) -> None:
        """Take one signal in."""
        if number == self.requeue and self.training:
            number = REQUEUE
        if number not in (REQUEUE, *STOPPING):
            self.save = self.training
            if not self.training:
                why = "training is over" if self.trained else "training has not begun"
                why = why if self.command in TRAINS else f"{self.command} trains nothing"
                self.say(f"{signal.Signals(number).name}: {why}, there is nothing to save")
            return
        if number == signal.SIGHUP:
            # The terminal has gone: what is written to it would be an error in the middle of training.
            for descriptor in self._terminals:
                with suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            self._terminals = []
        if number == FELLOW and self.trained:
            # It has nothing left to leave; rank 0 ends it if it does not end.
            return
        if self.stop == REQUEUE != number:
            # Slurm's last word, or a person's: not the second of the same kind.
            self.stop = 0
        if self.stop:
            # slurmd and srun each send a SIGTERM, seconds apart; the end at once is Slurm's own SIGKILL
            same = (FELLOW, REQUEUE, signal.SIGTERM) if "SLURM_JOB_ID" in os.environ else (FELLOW, REQUEUE)
            if number not in same and time.monotonic() - self._since > TWICE:
                self.end_at_once(number)
            return
        self._since = time.monotonic()
        self.stop = number
        self.tell_fellows()
        if self.training:
            told = "another rank was told to stop" if number == FELLOW else name_of(number)
            then = "" if "SLURM_JOB_ID" in os.environ else "; once more: at once, without"
            then = "; then the job is requeued" if number == REQUEUE else then
            self.say(f"{told}: stopping after this batch, with a checkpoint{then}")
        elif not self.ending:
            patience = GRACE_OF_FELLOW if self.launcher else GRACE
            threading.Thread(target=self._end_after, args=(patience,), daemon=True).start()

    def _end_after(self, seconds: float) -> None:
        time.sleep(seconds)
        if not (self.training or self.over):  # training may have begun just then
            self.last_word(self.ended_by(self.stop))
            self.end_at_once(self.stop, tell=False)

    def end_at_once(self, number: int, *, tell: bool = True) -> NoReturn:
        """End this process and the ranks that it started; nothing is written."""
        if tell and (launcher := self.launcher):
            with suppress(OSError):
                os.kill(launcher, signal.SIGTERM)
        self.tell_fellows()
        # A second word, by which they end themselves, with the exit code of a stop.
        for process in self.fellows:
            with suppress(OSError):
                process.terminate()
        self.wait_for_fellows(1.0)
        os._exit(exit_code(number))

    def launches(self, starter: Launcher) -> None:
        """Remember who starts the other ranks from this process, in the environment too, which they inherit."""
        self._starter = starter
        os.environ[LAUNCHER] = str(os.getpid())

    def tell_fellows(self) -> None:
        """Pass a stop on to the ranks of this run on this machine.

        The launcher's list is emptied: Lightning's observer of it kills this process as soon as one of them ends.
        """
        if self._starter is not None:
            self.fellows += self._starter.procs
            self._starter.procs.clear()
        for process in self.fellows:
            with suppress(OSError):
                process.send_signal(FELLOW)
        if launcher := self.launcher:
            with suppress(OSError):
                os.kill(launcher, FELLOW)

    def wait_for_fellows(self, seconds: float = 5.0) -> None:
        """Let the ranks that this process started end; kill what has not ended by then."""
        limit = time.monotonic() + seconds
        for process in self.fellows:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
        for process in self.fellows:
            with suppress(OSError):
                process.kill()

    @property
    def launcher(self) -> int:
        """The process that started this rank and to which talking is left, if this is a rank and that lives; else 0."""
        parent = os.getppid()
        return parent if os.environ.get(LAUNCHER) == str(parent) else 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler proper: outside of training, end the main thread in the middle of what it does."""
        late = number == FELLOW and self.trained
        if number in STOPPING and not (self.training or self.ending or self.raised or late):
            self.raised = number
            raise Stopped(number)

    def requeue_by(self, number: int) -> None:
        """Take a signal for `REQUEUE` from now on, whichever it is."""
        self.requeue = number
        if ACTIVE is self and number not in ALL:
            signal.signal(number, self.handle)

    def end_training(self) -> None:
        """From here on no batch follows, at whose end a stop could be carried out."""
        self.trained = self.trained or self.training
        self.training = False

    def say(self, text: str) -> None:
        """A line on stderr, from the first rank alone."""
        if self.rank == 0 and not self.launcher:
            # There may be nobody left to read it.
            with suppress(OSError):
                print(f"segan_pl: {text}", file=sys.stderr, flush=True)

    def last_word(self, text: str) -> None:
        """How a stop ended the run; what comes later says less."""
        if not self._ended_with_a_word:
            self._ended_with_a_word = True
            self.say(text)

    def ended_by(self, number: int) -> str:
        """What to say of a stop outside of training."""
        when, by = "after" if self.trained else "before", name_of(number)
        return f"stopped by {by} {when} training" if self.command in TRAINS else f"{self.command} was stopped by {by}"


ACTIVE: Signals | None = None


@contextmanager
def watching(command: str = "fit") -> Iterator[Signals]:
    """Inside, while `command` runs, `Signals` takes signals in; afterwards everything is as it was.

    A signal that was ignored before (nohup, a shell's background job) stays so. Outside of the main thread, where no
    handler can be set, nothing is taken in.
    """
    global ACTIVE
    signals = Signals(command)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.getsignal(number) for number in ALL}
    pipe_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signals.handle)

    def read() -> None:
        # One byte for each signal, until a 0.
        while number := os.read(reader, 1)[0]:
            if number in (signals.requeue, *ALL):
                signals.notice(number)

    thread = threading.Thread(target=read, name="signals", daemon=True)
    thread.start()
    ACTIVE = signals
    try:
        yield signals
    except Stopped as stop:
        signals.last_word(signals.ended_by(stop.number))
        raise
    except Exception as error:
        # PyTorch's C code drops a stop that falls into its import of NumPy; an error before training comes of that.
        if signals.trained or not signals.raised:
            raise
        signals.last_word(signals.ended_by(signals.raised))
        raise Stopped(signals.raised) from error
    finally:
        # Closing the pipe is not enough: a forked worker may hold it too.
        os.write(writer, bytes(1))
        thread.join()  # what came before is noticed, and passed on
        if signals.fellows:
            signals.wait_for_fellows()
        ACTIVE, signals.over = None, True
        if signals.requeue not in (0, *ALL):
            signal.signal(signals.requeue, signal.SIG_DFL)
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(pipe_before)
        os.environ.pop(LAUNCHER, None)
        os.close(writer)
        os.close(reader)


def active() -> Signals:
    """What this process was told; nothing where nobody watches."""
    return ACTIVE or Signals()


def _in_child() -> None:
    # A loader's worker or a preparing process takes signals as a program does, not as its parent.
    global ACTIVE
    if ACTIVE is not None:
        signal.set_wakeup_fd(-1)
        for number in ALL:
            if signal.getsignal(number) == ACTIVE.handle:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        ACTIVE = None


os.register_at_fork(after_in_child=_in_child)
