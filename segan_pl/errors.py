"""What was typed wrongly, and the name that was probably meant."""

from __future__ import annotations

import difflib
import os
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

LOST_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited unexpectedly)"
)


class UsageError(ValueError):
    """A wrong command, option, file name or metric name; one line that says what to do.

    Attributes:
        exit_code: What `segan_pl` ends with; any error may carry one, without it the code is 1.
    """

    exit_code = 2


ALIKE, WORDS_ALIKE = 0.5, 0.6  # of difflib's ratio: of whole names, and of the words in which two names differ
MEAN = "mean"  # the last word of a score over all regions


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant.

    A name is no slip of another where they differ in a number alone (t3 and t2, brats2021 and brats2023), or in a short
    word that is another word: val/dice_wt is not val/dice_wm. Where the mean over all is known by the rest of the name,
    or one name alone, that is meant then.
    """
    names = {one.lower(): one for one in sorted(known)}
    lower = name.lower()
    if f"{lower}_{MEAN}" in names:
        return names[f"{lower}_{MEAN}"]
    for near in difflib.get_close_matches(lower, names, n=len(names) or 1, cutoff=ALIKE):
        if "." not in lower and lower != near and re.sub(r"\d", "", lower) == re.sub(r"\d", "", near):
            return None  # another one of a series, and nobody knows which
        if _is_slip(lower, near):
            return names[near]
    stem = re.sub(r"[^/_.-]+$", "", lower)
    others = [one for one in names if stem and one.startswith(stem) and not re.search(r"[/_.-]", one[len(stem) :])]
    found = f"{stem}{MEAN}" if f"{stem}{MEAN}" in others else others[0] if len(others) == 1 else ""
    return names.get(found)


def _is_slip(name: str, near: str) -> bool:
    """Whether each word in which two names differ is alike, or has the same letters."""
    words, theirs = (re.split(r"[/_.-]", text) for text in (name, near))
    if len(words) != len(theirs) or len(words) == 1:
        return True
    pairs = [(a, b) for a, b in zip(words, theirs, strict=True) if a != b]
    return all(sorted(a) == sorted(b) or difflib.SequenceMatcher(None, a, b).ratio() >= WORDS_ALIKE for a, b in pairs)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a wrong name: "did you mean 'x'? " or nothing, then the known names."""
    names = sorted(known)
    match = closest(name, names)
    hint = f"did you mean {match!r}? " if match else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


def require_choice(name: str, value: str, kind: Any) -> None:
    """Refuse a value that a `Literal` does not have.

    Raises:
        ValueError: With the value and the choices.
    """
    if value not in get_args(kind):
        raise ValueError(f"{name} is {value!r}, expected one of {get_args(kind)}")


def lost_worker(text: str) -> str | None:
    """What PyTorch's message about a loader's worker that died means; None for any other text."""
    match = LOST_WORKER.search(text)
    if match is None:
        return None
    how = f"was ended by a signal ({match[2]})" if match[2] else "ended without a word"
    why = "the system may be out of memory"
    if match[2] == "Bus error":
        why = "/dev/shm is probably too small"
    elif not match[2]:  # PyTorch may notice the end of a worker before it has the signal, so it can be either
        why = "the system may be out of memory, or /dev/shm too small"
    return (
        f"a loader's worker, process {match[1]}, {how}: {why}; fewer --data.workers (0 loads in the training process) "
        f"or a smaller --data.batch_size need less; the same line again goes on from the run's last checkpoint"
    )


def raised_here(error: BaseException) -> bool:
    """Whether this package raised an error, with a text for the user: its last frame lies in it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(Path(__file__).resolve().parent)
    return own and isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, NotImplementedError)


def own_packages() -> list[str]:
    """The packages of a user's own that may be imported: those of SEGAN_PL_ALLOW_IMPORTS, parted by commas."""
    return [name.strip() for name in os.environ.get("SEGAN_PL_ALLOW_IMPORTS", "").split(",") if name.strip()]


def not_allowed(name: str) -> str:
    """What to do about a class whose package a configuration may not name.

    Of a package of which parts are allowed (torch, say) the class's own module is proposed, not the whole.
    """
    package, _, rest = name.partition(".")
    partly = package in ("torch", "lightning", "monai") and "." in rest
    remedy = name.rpartition(".")[0] if partly else package
    return f"{name} is outside the packages that may be imported; if you trust it, set SEGAN_PL_ALLOW_IMPORTS={remedy}"
