"""`segan_pl compare`: runs against each other, case by case, from their saved scores."""

from __future__ import annotations

from pathlib import Path

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.outputs import require_free
from segan_pl.errors import UsageError
from segan_pl.files import require_writable

LEAST_RESAMPLES = 1000  # fewer give p no better than 0.001 and an interval that moves with the seed


def main(arguments: list[str]) -> int:
    """Print the comparison of two or more runs, and write it where asked.

    Args:
        arguments: "compare" and what follows it.

    Returns:
        0, or 1 where `segan_pl evaluate` refused a prediction of one of the runs.

    Raises:
        UsageError: A run, metric, region or number was typed wrongly.
        CaseError: A score table cannot be used, or the runs have nothing to compare.
    """
    settings = _parser(arguments[0]).parse_args(arguments[1:])
    if settings.resamples < LEAST_RESAMPLES:
        raise UsageError(f"--resamples {settings.resamples}; at least {LEAST_RESAMPLES} are needed")
    if settings.seed < 0:
        raise UsageError(f"--seed {settings.seed}; expected 0 or more")
    output = None if settings.output is None else Path(settings.output).expanduser()
    if output is not None:
        require_writable(output, f"--output {settings.output}")
    # these load SciPy, which --help and a wrong option need not wait for
    from segan_pl.evaluation.statistics.seeds import read_entries
    from segan_pl.evaluation.statistics.study import study
    from segan_pl.evaluation.statistics.study_tables import print_study, study_outputs, write_study

    entries = read_entries(settings.runs)
    read = tuple(run.table.path for entry in entries for run in entry.runs)
    outputs = {} if output is None else study_outputs(output, f"--output {settings.output}", read)
    require_free(outputs.values())
    names = dict(zip(settings.runs, (entry.name for entry in entries), strict=True))
    found = study(
        entries,
        metrics=_list(settings.metric),
        regions=_list(settings.region),
        reference=names.get(settings.reference, settings.reference),
        seed=settings.seed,
        resamples=settings.resamples,
    )
    print_study(found)
    if output is not None:
        for path in write_study(found, outputs):
            print(f"written: {path}")
    print(f"{found.given} given, {found.used} used, {found.refused} refused")
    return 1 if found.refused else 0


def _parser(name: str) -> OneLineErrors:
    parser = OneLineErrors(
        prog=f"segan_pl {name}",
        description="Compare runs over the cases that all of them scored; patients are the units.",
    )
    run = "a run's folder, one with metrics_per_case.csv, or a CSV file; name=RUN,RUN takes seeds (or folds) as one"
    parser.add_argument("runs", nargs="+", type=str, metavar="RUN", help=run)
    parser.add_argument(
        "--metric", type=str, default="dice", help="column of the scores, e.g. dice or hd95; several with commas"
    )
    parser.add_argument("--region", type=str, default="all", help="e.g. wt; several with commas")
    parser.add_argument("--reference", type=str, help="the run that all others are compared with (default: all pairs)")
    parser.add_argument("--output", type=str, help="folder for comparison.csv, comparison.md and comparison.tex")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the bootstrap and the permutation test")
    return parser


def _list(text: str) -> list[str]:
    """Names between commas.

    Raises:
        UsageError: There is none.
    """
    if not (names := [name.strip() for name in text.split(",") if name.strip()]):
        raise UsageError("an empty --metric or --region; leave it out, or give a name such as dice or wt")
    return names
