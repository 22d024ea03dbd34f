"""`segan_pl sweep`: the search of a W&B sweep file on this machine, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segan_pl.cli.commands.sweep.on_server import agent, create
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.experiments.runner import add_runner_options, runner_of
from segan_pl.experiments.runs import Run
from segan_pl.experiments.study_files import SWEEP, require_own_folder
from segan_pl.experiments.sweep.file import SweepFile, read_sweep
from segan_pl.experiments.sweep.study import chosen_runs, plan, run_sweep
from segan_pl.experiments.sweep.table import cells, table, text, write
from segan_pl.files import require_writable


def main(arguments: list[str]) -> int:
    """Run what has not finished of a sweep, and show the results of all.

    Args:
        arguments: "sweep" and what follows it; after "--" options that every trial gets. "create" and "agent" are
            of W&B's sweeps.

    Returns:
        0 when every trial has finished, or none was to run here (--report, --dry_run, --slurm); else 1.

    Raises:
        UsageError: The file, an option, or what the file asks for cannot be used.
    """
    own_word = {"create": create, "agent": agent}.get(arguments[1]) if len(arguments) > 1 else None
    if own_word is not None:
        return own_word(arguments[2:])
    place = arguments.index("--") if "--" in arguments else len(arguments)
    own, extra = arguments[1:place], arguments[place + 1 :]
    parser = OneLineErrors(
        prog=f"segan_pl {arguments[0]}",
        description="Run the search of a W&B sweep file here. What follows -- is given to every trial, e.g. "
        "-- --root /data/BraTS2019. With a W&B account: segan_pl sweep create FILE, segan_pl sweep agent SWEEP.",
    )
    parser.add_argument("file", type=str, metavar="FILE", help="a sweep file, or a shipped one by name, e.g. seeds")
    parser.add_argument("--count", type=int | None, help="trials in all (default: a whole grid, or the file's run_cap)")
    parser.add_argument("--seed", type=int, default=0, help="of random and bayes")
    parser.add_argument("--report", type=bool, default=False, help="write the table of what is there, run nothing")
    add_runner_options(parser)
    settings = parser.parse_args(own)
    runner, directory = runner_of(settings), Path(settings.output).expanduser()
    sweep = read_sweep(settings.file)
    if runner.writes:
        require_writable(directory, f"--output {settings.output}")
        require_own_folder(directory, SWEEP)
    if settings.report:
        _show(sweep, chosen_runs(sweep, directory), directory)
        return 0
    asked = plan(sweep, extra, count=settings.count, seed=settings.seed)
    for note in sweep.notes:
        print(f"note: {note}")
    outcome, trials = run_sweep(asked, directory, runner)
    if outcome is None:
        return 0
    _show(sweep, trials, directory)
    print("\n".join(outcome.lines()))
    return outcome.exit_code


def _show(sweep: SweepFile, trials: Sequence[Run], directory: Path) -> None:
    """Print the table of the trials as they stand, and write it."""
    rows = table(sweep, trials, directory)
    print(f"\n{sweep.question}\n{text(*cells(sweep, rows))}\n")
    for path in write(sweep, rows, directory, sweep.notes):
        print(f"written: {path}")
