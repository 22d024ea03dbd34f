"""The process that holds a run's folder: how it names itself, and whether it still lives."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any


def identity() -> dict[str, Any]:
    """Who we are: a process number may be used again, and two containers may share a name."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": _state(os.getpid())[1],
        "space": _space(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _space() -> str:
    """The space in which process numbers count: this boot of this machine, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return ""


def _state(process: int) -> tuple[str, str]:
    """A process's state, one letter, and when it began, in the kernel's ticks; "" where nothing says it."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def is_here(holder: dict[str, Any]) -> bool:
    """Whether the holder's process number counts where we are."""
    return (holder.get("host"), holder.get("space")) == (socket.gethostname(), _space())


def lives(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine is still the holder: one that ended and that nobody waited for is not."""
    process, hidden = holder.get("process"), False
    if not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        hidden = True  # somebody else's, of which the kernel may tell no more
    state, began = _state(process)
    if hidden and not began:
        return True
    return state not in ("Z", "X") and began == holder.get("started")


def words(holder: dict[str, Any]) -> str:
    """A holder as messages name it."""
    if not holder:
        return "another process"
    return f"process {holder.get('process')} on {holder.get('host')} (since {holder.get('since')})"
