"""How long the runs of a study that are left will take, by what has finished in its folder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segan_pl.experiments.runs import Run, run_state


def expected_lines(runs: Sequence[Run], directory: Path, *, parallel: int = 1) -> list[str]:
    """The number of runs, and the expected time of those that are left.

    A run takes as long as the mean of the finished ones of its kind: of a fit those with the same first configuration
    file, else all. What was never measured is not guessed.

    Args:
        runs: Of the study.
        directory: Its folder.
        parallel: Runs side by side, by which the time is divided; a run that waits for another makes it longer.
    """
    counts = Counter(run.arguments[0] for run in runs)
    seconds: dict[str, list[float]] = {}
    left: list[Run] = []
    for run in runs:
        state = run_state(directory, run.name) or {}
        if state.get("state") != "finished":
            left.append(run)
        elif isinstance(state.get("seconds"), int | float):
            for kind in (run.arguments[0], _kind(run)):
                seconds.setdefault(kind, []).append(float(state["seconds"]))
    measured = [seconds.get(_kind(run)) or seconds.get(run.arguments[0]) or [math.nan] for run in left]
    known = [math.fsum(one) / len(one) for one in measured]
    unknown = Counter(run.arguments[0] for run, one in zip(left, known, strict=True) if math.isnan(one))
    total = math.fsum(one for one in known if not math.isnan(one)) / parallel
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = [f"{len(runs)} runs ({listed}), {len(runs) - len(left)} finished, {len(left)} left"]
    if left:
        minutes = total / 60
        words = f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes:.0f} minutes" if minutes >= 2 else ""
        by = f"{words or f'{total:.0f} s'}, by the finished runs in this folder" if len(left) > unknown.total() else ""
        none = ", ".join(f"{count} {kind}" for kind, count in unknown.items())
        missing = f"unknown for {none}, as none has finished in this folder" if none else ""
        side = f" ({parallel} at a time)" if parallel > 1 and by else ""
        lines.append(f"expected time: {'; '.join(part for part in (by + side, missing) if part)}")
    return lines


def _kind(run: Run) -> str:
    return " ".join(run.arguments[:3]) if run.arguments[0] == "fit" else run.arguments[0]
