"""Files that appear whole or not at all, and folders that they can be written to."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from segan_pl.errors import UsageError


def write_whole(path: Path | str, content: bytes | str) -> None:
    """Replace a file at once; a kill at any moment leaves the old one, or the new one, and no reader sees a part.

    Args:
        path: Its folder is made where it is missing.
        content: Text is written as UTF-8, line ends as they are.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path, given: str) -> None:
    """Refuse a folder that cannot be made or written to, before hours of work; nothing is made.

    Args:
        folder: Where files will go; it and those above it may be missing.
        given: What was typed, as the message begins: "--output runs/x".

    Raises:
        UsageError: A file or the system's permissions are in the way.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    missing = there != folder.absolute()
    if not there.is_dir():
        if not missing:
            raise UsageError(f"{given}: is a file; give a folder")
        raise _cannot_be_made(given, errno.ENOTDIR)
    if os.access(there, os.W_OK | os.X_OK):
        return
    reason = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
    if missing:
        raise _cannot_be_made(given, reason)
    raise UsageError(f"{given}: may not be written to ({os.strerror(reason)}); give another folder")


def made_writable(folder: Path, given: str) -> Path:
    """The folder, made now; arguments and errors as `require_writable`."""
    require_writable(folder, given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # of a share, whose server may refuse what its permissions allow
        raise _cannot_be_made(given, error.errno or 0) from error
    return folder


def _cannot_be_made(given: str, reason: int) -> UsageError:
    return UsageError(f"{given}: cannot be made ({os.strerror(reason)}); give another folder")
