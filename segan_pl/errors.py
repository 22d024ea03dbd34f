"""What was typed wrongly, and the name that was probably meant."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class UsageError(ValueError):
    """A wrong command, option, file name or metric name; one line that says what to do.

    Attributes:
        exit_code: What `segan_pl` ends with; any error may carry one, without it the code is 1.
    """

    exit_code = 2


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a wrong name: "did you mean 'x'? " or nothing, then the known names."""
    names = sorted(known)
    match = closest(name, names)
    hint = f"did you mean {match!r}? " if match else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


def raised_here(error: BaseException) -> bool:
    """Whether this package raised an error, with a text for the user: its last frame lies in it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(Path(__file__).resolve().parent)
    return own and isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, NotImplementedError)
