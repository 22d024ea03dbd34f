"""`segan_pl sweep`: the search of a W&B sweep file on this machine, without a server."""

from __future__ import annotations

from segan_pl.experiments.execution import add_execution_options, execution_options
from segan_pl.experiments.sweep_file import read_sweep
from segan_pl.experiments.sweep_table import cells, table, text, write
from segan_pl.experiments.sweeping import plan, run_sweep
from segan_pl.parsing import OneLineErrors


def main(arguments: list[str]) -> int:
    """Run what has not finished of a sweep, and show the results of all.

    Args:
        arguments: "sweep" and what follows it; after "--" options that every trial gets.

    Returns:
        0 when every trial has finished, or none was to run here; else 1.

    Raises:
        UsageError: The file, an option, or what the file asks for cannot be used.
    """
    own, extra = _parted(arguments[1:])
    settings = _parser(arguments[0]).parse_args(own)
    options = execution_options(settings)
    sweep = read_sweep(settings.file)
    asked = plan(sweep, extra, count=settings.count, seed=settings.seed)
    for note in sweep.notes:
        print(f"note: {note}")
    outcome, trials = run_sweep(asked, options)
    if outcome is None:
        return 0
    rows = table(sweep, trials, options.directory)
    print(f"\n{sweep.question}\n{text(*cells(sweep, rows))}\n")
    for path in write(sweep, rows, options.directory, sweep.notes):
        print(f"written: {path}")
    print("\n".join(outcome.lines()))
    return outcome.exit_code


def _parted(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before "--", and after it."""
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _parser(name: str) -> OneLineErrors:
    parser = OneLineErrors(
        prog=f"segan_pl {name}",
        description="Run the search of a W&B sweep file here. What follows -- is given to every trial, e.g. "
        "-- --data.root /data/BraTS2019",
    )
    parser.add_argument("file", type=str, metavar="FILE", help="a sweep file, or a shipped one by name, e.g. seeds")
    parser.add_argument("--count", type=int | None, help="trials in all (default: a whole grid, or the file's run_cap)")
    parser.add_argument("--seed", type=int, default=0, help="of random and bayes")
    add_execution_options(parser)
    return parser
