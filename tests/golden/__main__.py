"""Run the golden runs with the working tree's code and say which are equal to the base's."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.golden import base_runs, runs
from tests.golden.comparison import Difference, Result, compare
from tests.golden.sides import BaseMissingError, RunFailedError, base_results, now_results

SHOWN = 6  # differences of one run; once a weight differs, most do


def main() -> int:
    """The exit code: 0 all equal, 1 a difference or a run that fails, 2 the base is not here."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(runs.RUNS), metavar="NAME", help=", ".join(runs.RUNS))
    parser.add_argument("--base-only", action="store_true", help="compute the base's results and compare nothing")
    options = parser.parse_args()
    try:
        base = base_results()
        if options.base_only:
            print(f"base {base_runs.COMMIT} in {base}")
            return 0
        start, before = time.perf_counter(), _children_seconds()
        found = compare_runs(options.only or runs.RUNS, base)
    except BaseMissingError as reason:
        print(reason, file=sys.stderr)
        return 2
    except RunFailedError as reason:
        print(reason, file=sys.stderr)
        return 1
    for name, (differences, new) in found.items():
        print(described(name, differences, new))
    wall, cpu = time.perf_counter() - start, _children_seconds() - before
    print(f"{len(found)} runs against {base_runs.COMMIT} in {wall:.0f} s ({cpu:.0f} s of CPU time)")
    return 1 if any(differences for differences, _ in found.values()) else 0


def compare_runs(names: Iterable[str], base: Path) -> dict[str, tuple[list[Difference], list[str]]]:
    """Today's runs, each with its differences from the base's and with the names that are new."""
    with tempfile.TemporaryDirectory(prefix="segan_pl_golden_") as folder:
        now_results(names, base / "cohort", Path(folder))
        return {name: compare(Result.read(base, name), Result.read(Path(folder), name)) for name in names}


def described(name: str, differences: list[Difference], new: list[str]) -> str:
    """One line for an equal run, else also one for each of the first differences."""
    only_now = f"; only now: {', '.join(new)}" if new else ""
    if not differences:
        return f"{name}: equal{only_now}"
    first = "".join(f"\n  {one.name}: base {one.base}, now {one.now}" for one in differences[:SHOWN])
    more = f"\n  and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    return f"{name}: {len(differences)} differences{only_now}{first}{more}"


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
