"""One process trains in a run's folder: a lease file that its holder refreshes, also across machines.

A lock of the operating system dies with its process, but many network file systems keep it from other machines. So the
holder writes `.lease` into the folder and touches it every BEAT seconds; the file's own time comes from the file
system, so clocks of two machines are never compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from segan_pl.training.run.lease_holder import identity, is_here, lives, words

NAME = ".lease"
BEAT = 15.0
"""Seconds between two touches."""
STALE = 180.0
"""Seconds without a touch after which the holder on another machine is taken for dead."""

IN_USE = 75
"""Exit code of a run whose folder is in use: the same command may succeed later (EX_TEMPFAIL of sysexits.h)."""


class FolderInUseError(RuntimeError):
    """Another process trains in the run's folder, or took it over; the message names it."""

    exit_code = IN_USE


class RunLease:
    """Holds a run's folder from `acquire` to `release`; as a context it releases on every way out.

    Args:
        directory: The run's; it is made, and taken away again if nothing else was written into it.
        say: Takes a line while a holder on another machine is watched.
        beat: Seconds between two touches.
        stale: Seconds without a touch after which a holder elsewhere is dead.
    """

    def __init__(
        self,
        directory: Path,
        say: Callable[[str], None] = print,
        *,
        beat: float = BEAT,
        stale: float = STALE,
    ) -> None:
        self.directory, self.say, self.beat, self.stale = directory, say, beat, stale
        self.file = directory / NAME
        self.token = ""
        self.lost = False
        self._made: list[Path] = []
        self._owner = 0
        self._heard = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run lease", daemon=True)

    def __enter__(self) -> RunLease:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the folder.

        Raises:
            FolderInUseError: A live process holds it.
        """
        self._made = [path for path in (self.directory, *self.directory.parents) if not path.exists()]
        self.directory.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(8)
        while not self._written():
            self._refuse_or_bury()
        self._owner, self._heard = os.getpid(), time.time()
        self._thread.start()

    def require_held(self, *, look: bool = False) -> None:
        """Raise FolderInUseError when another process took the folder over, as after a long sleep of this machine.

        Args:
            look: At the file itself, instead of taking the last beat's word.
        """
        holder = _read(self.file) if self.lost or look else {}
        if not self.lost and holder.get("token", self.token) == self.token:
            return
        silent = f"this process had not been heard of for {self.stale:.0f} s"
        if holder:
            raise FolderInUseError(
                f"{self.directory}: {words(holder)} took this run over, since {silent}; this one ends here"
            )
        raise FolderInUseError(
            f"{self.directory}: {silent} and its lease is gone, so another one may have trained here meanwhile; this "
            f"one ends here"
        )

    def release(self) -> None:
        """Give the folder back; a process forked from the holder, such as a loader's worker, gives nothing back."""
        if self._owner != os.getpid():
            return
        self._owner = 0
        self._over.set()
        # else a beat that finds the lease gone would lay it down again
        self._thread.join()
        if _read(self.file).get("token") == self.token:
            self.file.unlink(missing_ok=True)
        for folder in self._made:  # only those that are still empty
            try:
                folder.rmdir()
            except OSError:
                break

    def _written(self) -> bool:
        """Whether the lease is ours now: a whole file under a name of its own, linked to the one that can be but once.

        Of all that creates a file, the link is what network file systems do for one machine only.
        """
        draft = self.directory / f"{NAME}.{self.token}"
        try:
            draft.write_text(json.dumps({**identity(), "token": self.token}) + "\n", encoding="utf-8")
            os.link(draft, self.file)
        except FileExistsError:  # perhaps by our own link: a client of NFS asks again when the answer was lost
            return _read(self.file).get("token") == self.token
        except OSError:  # a file system without links
            text = draft.read_text(encoding="utf-8")
            try:
                with self.file.open("x", encoding="utf-8") as file:
                    file.write(text)
            except FileExistsError:
                return False
            return True
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _refuse_or_bury(self) -> None:
        """Refuse while the holder lives; put the lease of a dead one away.

        Raises:
            FolderInUseError: The holder lives.
        """
        holder, touched = _read(self.file), _touched(self.file)
        # the touch may be another holder's: look again
        if _read(self.file).get("token") != holder.get("token"):
            return
        if holder and is_here(holder):
            if lives(holder):
                raise self._in_use(holder)
        elif not self._grew_stale(holder, touched):
            raise self._in_use(_read(self.file) or holder)
        tomb = self.directory / f"{NAME}.dead-{self.token}"
        try:
            self.file.rename(tomb)
        except FileNotFoundError:  # released, or buried by another
            return
        # somebody was faster, and holds it by now
        if _read(tomb).get("token") != holder.get("token"):
            _put_back(tomb, self.file)
        tomb.unlink(missing_ok=True)

    def _grew_stale(self, holder: dict[str, Any], before: float | None) -> bool:
        """Watch the lease of another machine: a touch says that its holder lives, none for long that it is dead."""
        said = False
        while before is not None and self._age(before) < self.stale:
            if not said:
                self.say(
                    f"{self.directory}: {words(holder)} began to train here; waiting up to {self.stale:.0f} s to "
                    f"see whether it still does"
                )
                said = True
            time.sleep(min(self.beat / 3, 1.0))
            now = _touched(self.file)
            if now != before:  # touched, or given back
                return now is None
        return True

    def _age(self, touched: float) -> float:
        """Seconds since a touch, by the file system's own clock."""
        probe = self.directory / f"{NAME}.{self.token}"
        probe.touch()
        try:
            return probe.stat().st_mtime - touched
        finally:
            probe.unlink(missing_ok=True)

    def _in_use(self, holder: dict[str, Any]) -> FolderInUseError:
        touched = _touched(self.file)
        age = "" if touched is None else f", last heard of {self._age(touched):.0f} s ago"
        return FolderInUseError(
            f"{self.directory}: {words(holder)} trains in this folder{age}; wait for its end, stop it, or choose "
            f"another --run.directory"
        )

    def _beat(self) -> None:
        """Touch the lease until it is released, unless it is no longer ours."""
        while not self._over.wait(self.beat):
            try:
                if not self._ours():
                    self.lost = True
                    return
                os.utime(self.file)
                self._heard = time.time()
            except OSError:
                # the share is away for a while, or no file can be opened; the next beat tells
                continue

    def _ours(self) -> bool:
        """Whether nobody else's lease lies here; where none lies any more, ours is laid down again.

        Raises:
            OSError: The file system does not tell now.
        """
        try:
            holder = _found(self.file)
        except FileNotFoundError:
            # After a silence, in which this machine may have slept (its monotonic clock too), somebody may have taken
            # the folder over, trained on, and given it back.
            if time.time() - self._heard > self.stale:
                return False
            self._written()
            holder = _found(self.file)
        return bool(holder.get("token", self.token) == self.token)


def _put_back(tomb: Path, file: Path) -> None:
    """Give a live holder its lease back; where a third one holds the folder by now, the second notices by its token."""
    try:
        os.link(tomb, file)
    except FileExistsError:
        return
    except OSError:  # a file system without links; should a third one's lie there, it is the third that notices
        with contextlib.suppress(OSError):
            tomb.rename(file)


def _found(file: Path) -> dict[str, Any]:
    """What a lease says; nothing where it is torn.

    Raises:
        OSError: It is gone or cannot be read.
    """
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(file: Path) -> dict[str, Any]:
    """What a lease says; nothing where it is gone, torn or cannot be read."""
    try:
        return _found(file)
    except OSError:
        return {}


def _touched(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return None
