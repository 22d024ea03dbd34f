"""`python -m segan_pl.experiments STUDY RUN`: carries out one run of a study, as a job of a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.experiments.local import run_one


def main(arguments: list[str]) -> int:
    """Carry it out; returns its exit code."""
    if len(arguments) != 2:
        print("usage: python -m segan_pl.experiments STUDY RUN", file=sys.stderr)
        return 2
    try:
        return run_one(Path(arguments[0]), arguments[1])
    except UsageError as error:
        print(f"segan_pl: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
