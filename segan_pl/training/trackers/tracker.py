"""What a tracker is told besides scalars, and why none can end a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.loggers import Logger

from segan_pl.evaluation.metrics.base import COUNTS, NOT_METRICS
from segan_pl.evaluation.saved_files import csv_rows

log = logging.getLogger(__name__)

FAILURES = 3
"""In a row, after which a tracker is left alone: each may have waited for a server that no longer answers."""
TOLD = (
    *("log_metrics", "log_hyperparams", "save", "finalize"),
    *("log_settings", "log_picture", "log_cases", "log_checkpoint"),
)


class Tracker(Logger):
    """One of Lightning's loggers that also takes a run's configuration, pictures, table of cases and best checkpoint.

    What a tracker has no place for, it leaves out: every file lies in the run's folder anyway.

    Attributes:
        title: As messages call it.
    """

    title: str

    def log_settings(self, settings: Mapping[str, Any], text: str, facts: Mapping[str, Any]) -> None:
        """Take what the run is, once at its start and again where it goes on.

        Args:
            settings: The whole configuration, nested.
            text: The same as config.yaml has it.
            facts: environment.json: git revision, versions, machine.
        """

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Take a picture, one of a series of that name."""

    def log_cases(self, file: Path, step: int) -> None:
        """Take the table of cases of a validation that is the best so far."""

    def log_checkpoint(self, file: Path) -> None:
        """Take the best checkpoint, at the run's end."""


T = TypeVar("T", bound=type[Tracker])


def never_fatal(tracker: T) -> T:
    """A class of trackers whose calls warn where they fail, once, and are no longer made after `FAILURES` in a row."""
    for name in TOLD:
        method = getattr(tracker, name)
        # one that does nothing, as `Logger.save`, would count as a success between two failures
        if method is not getattr(Tracker, name, None):
            setattr(tracker, name, _attempted(method))
    return tracker


def _attempted(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def attempt(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = self.__dict__
        # a call within another one fails with that
        if state.get("within"):
            return method(self, *args, **kwargs)
        if state.get("failures", 0) >= FAILURES:
            return None
        state["within"] = True
        try:
            done = method(self, *args, **kwargs)
        except Exception as error:
            state["failures"] = state.get("failures", 0) + 1
            if not state.get("warned"):
                log.warning(
                    "%s: %s failed (%s); training goes on, and the run's folder holds everything",
                    *(self.title, method.__name__, first_line(error)),
                )
            elif state["failures"] == FAILURES:
                log.warning("%s failed %d times in a row; it is told nothing more by this call", self.title, FAILURES)
            state["warned"] = True
            return None
        finally:
            state["within"] = False
        state["failures"] = 0
        return done

    return attempt


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def typed_rows(file: Path) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table of cases; numbers where a metric has them, None in an empty cell.

    What names a case, a grade or a place stays text, though its digits look like a number.
    """
    rows = csv_rows(file)
    columns = list(rows[0]) if rows else []
    candidates = [name for name in columns if name in COUNTS or name not in NOT_METRICS]
    numeric = {name for name in candidates if all(_is_number(row[name]) for row in rows if row[name])}
    return columns, [[(float(x) if c in numeric else x) if (x := row[c]) else None for c in columns] for row in rows]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
