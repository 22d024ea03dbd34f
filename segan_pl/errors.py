"""What was typed wrongly, and the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A wrong command, option, file name or metric name; one line that says what to do.

    Attributes:
        exit_code: What `segan_pl` ends with; any error may carry one, without it the code is 1.
    """

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a wrong name: "did you mean 'x'? " or nothing, then the known names."""
    names = sorted(known)
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
