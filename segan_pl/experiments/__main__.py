"""`python -m segan_pl.experiments STUDY [RUN]`: a job of a cluster; carries out a run, or trials of a shared search."""

from __future__ import annotations

import sys
from pathlib import Path

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
from segan_pl.experiments.local import run_one
from segan_pl.experiments.sweep.worker import work


def main(arguments: list[str]) -> int:
    """Carry it out; returns its exit code."""
    if len(arguments) not in (1, 2):
        print("usage: python -m segan_pl.experiments STUDY [RUN]", file=sys.stderr)
        return 2
    try:
        return run_one(Path(arguments[0]), arguments[1]) if arguments[1:] else work(Path(arguments[0]))
    except (UsageError, CaseError) as error:
        print(f"segan_pl: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
