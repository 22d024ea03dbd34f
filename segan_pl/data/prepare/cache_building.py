"""Where entries of the cache are built: one builder an entry, a folder of its own, nothing left behind.

    <preparation>/.building/<host>+<process>+<token>   an entry on its way, or one on its way out
                            <entry>.lock               held (flock) while the entry is built

A lock dies with its process. Where the file system knows no locks, or a holder is stopped for ten minutes, two builders
may work on one entry; that costs time and nothing else, since an entry is renamed into place whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = ".building"
LOCK = ".lock"
# More than the arrays take, which a disk must have.
SLACK_BYTES = 1 << 20
# After which another host's unfinished entry is taken for dead.
ABANDONED_SECONDS = 24 * 3600
# For another builder of the same entry.
PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.05


@contextmanager
def workplace(building: Path, needed: int) -> Iterator[Path]:
    """A new folder of this builder alone, gone afterwards.

    Raises:
        OSError: ENOSPC before anything is written where the disk lacks `needed` bytes; whatever else happens.
    """
    building.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(building).free < needed + SLACK_BYTES:
        raise OSError(errno.ENOSPC, "disk full")
    place = own_name(building)
    try:
        place.mkdir()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def own_name(building: Path) -> Path:
    """A name in the folder that no other builder takes, and that says whose it is."""
    return building / f"{socket.gethostname()}+{os.getpid()}+{secrets.token_hex(4)}"


@contextmanager
def alone(building: Path, entry: str, *, patience: float = PATIENCE_SECONDS) -> Iterator[bool]:
    """Hold an entry's lock; waits for another holder, but not for ever.

    Args:
        building: The folder that builders share.
        entry: Name of the entry.
        patience: How long to wait, in seconds; 0 tries once.

    Yields:
        Whether another builder still holds it; False too where the file system knows no locks.

    Raises:
        OSError: The folder cannot be made.
    """
    building.mkdir(parents=True, exist_ok=True)
    path = building / f"{entry}{LOCK}"
    until = time.monotonic() + patience
    descriptor: int | None = None
    try:
        while (descriptor := _try_lock(path)) is None and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        busy = descriptor is None
    except _NoLocksError:
        busy = False
    try:
        yield busy
    finally:
        if descriptor is not None:
            _release(path, descriptor)


def abandoned(building: Path) -> list[Path]:
    """Folders of builders that no longer run: dead processes of this host, anything a day old."""
    found = []
    for path in building.iterdir() if building.is_dir() else ():
        host, _, rest = path.name.partition("+")
        process = rest.partition("+")[0]
        try:
            old = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
        except FileNotFoundError:
            continue  # its builder finished
        dead = host == socket.gethostname() and process.isdigit() and not _runs(int(process))
        if (old or dead) and path.suffix != LOCK:
            found.append(path)
    return found


def remove_leftovers(building: Path) -> None:
    """Remove what dead builders left: their folders, and locks that nobody holds."""
    for path in abandoned(building):
        shutil.rmtree(path, ignore_errors=True)
    for path in building.glob(f"*{LOCK}"):
        with suppress(_NoLocksError):
            if (descriptor := _try_lock(path)) is not None:
                _release(path, descriptor)


def remove_entry(final: Path, building: Path) -> bool:
    """Rename an entry aside, then delete it, so that nobody sees a part of one; False where it is gone already."""
    aside = own_name(building)
    try:
        final.rename(aside)
    except FileNotFoundError:
        return False
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()
    return True


def why_unwritable(directory: Path, error: OSError, needed: int) -> str:
    """One line: what the cache needs and how to give it."""
    remedy = "set SEGAN_PL_CACHE or --data.cache_dir to another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(existing(directory)).free
        return (
            f"the disk of the cache {directory} is full: {needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free; make "
            f"room, or {remedy}"
        )
    return f"the cache {directory} cannot be written ({error.strerror or error}); {remedy}"


def existing(directory: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (directory, *directory.absolute().parents) if path.is_dir())


class _NoLocksError(Exception):
    """The file system knows no locks, or the lock is another user's."""


def _try_lock(path: Path) -> int | None:
    """A descriptor of the file, locked; None while another holds it.

    Raises:
        _NoLocksError: Locks do not work here.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError as error:
        raise _NoLocksError from error
    kept = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A holder removes the file at the end, so the one locked here may not be the one that others see.
        kept = os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return None
    except OSError as error:
        raise _NoLocksError from error
    finally:
        if not kept:
            os.close(descriptor)
    return descriptor if kept else None


def _release(path: Path, descriptor: int) -> None:
    """Remove the file while it is held, then let go."""
    with suppress(FileNotFoundError):
        path.unlink()
    os.close(descriptor)


def _runs(process: int) -> bool:
    """Whether a process of that number exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
