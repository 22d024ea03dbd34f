"""CPU seconds: what a command took, and how many steps fit into a budget."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def cpu_seconds(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> float:
    """Run a command with one thread and return its CPU time, user and system, that of its own children included.

    Args:
        command: Program and arguments.
        log: Receives all that it prints.
        environment: Added to this process's.

    Raises:
        RuntimeError: The command failed; the message holds the end of what it printed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("w") as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **ONE_THREAD, **(environment or {})}
        ).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}; the end of {log}:\n{log.read_text()[-2000:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def steps_that_fit(budget: float, short: tuple[int, float], long: tuple[int, float]) -> tuple[int, float, float]:
    """How many steps fit into a budget, by a line through two measured runs.

    Args:
        budget: CPU seconds of the whole command: its start, the imports included, and all steps.
        short: Steps of the shorter run and its CPU seconds.
        long: Those of the longer run.

    Returns:
        Steps, seconds of a step, and seconds of the start.

    Raises:
        ValueError: The longer run did not take longer, or not one step fits.
    """
    if long[0] <= short[0] or long[1] <= short[1]:
        raise ValueError(f"{long[0]} steps took {long[1]:.1f} s and {short[0]} took {short[1]:.1f} s; measure again")
    step = (long[1] - short[1]) / (long[0] - short[0])
    start = max(0.0, short[1] - short[0] * step)
    steps = int((budget - start) / step)
    if steps < 1:
        raise ValueError(f"a budget of {budget:.0f} s: the start takes {start:.1f} s and a step {step:.2f} s; raise it")
    return steps, step, start
