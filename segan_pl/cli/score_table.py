"""The table of cases with which demo, validate and test end; all of it is in the run's scores/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from segan_pl.evaluation.policies import mean_available
from segan_pl.evaluation.tables import CaseScore

SHOWN = 40  # cases; of more the worst
OF_ONE_REGION = {"dice": "Dice", "precision": "precision", "sensitivity": "sensitivity"}


def print_case_table(
    title: str,
    cases: Mapping[str, Sequence[str]],
    scores: Mapping[str, Sequence[float]],
    console: Console | None = None,
) -> None:
    """Print a row for each case, and the means over all.

    Args:
        title: What was scored.
        cases: Column to what it says of each case; one in which no case has anything is left out.
        scores: Column to the score of each case, NaN where there is none; the first decides which are the worst.
        console: Default standard output.
    """
    console = console or Console(soft_wrap=False, width=None if Console().is_terminal else 120)
    about = {name: cells for name, cells in cases.items() if any(cells)}
    number = len(next(iter(scores.values())))
    places = list(range(number))
    if number > SHOWN:
        first = next(iter(scores.values()))
        places = sorted(places, key=lambda place: (first[place] == first[place], first[place]))[:SHOWN]  # NaN first
        title += f"; the worst {SHOWN} of {number} cases"
    console.print(title)
    table = Table()
    for name in about:
        table.add_column(name)
    for name in scores:
        table.add_column(name, justify="right")
    for place in places:
        values = (f"{column[place]:.3f}" if column[place] == column[place] else "n/a" for column in scores.values())
        table.add_row(*(cells[place] for cells in about.values()), *values)
    means = (mean_available(list(column))[0] for column in scores.values())
    table.add_section()
    table.add_row("mean", *[""] * (len(about) - 1), *(f"{one:.3f}" if one == one else "n/a" for one in means))
    console.print(table)


def print_scores(title: str, rows: Sequence[CaseScore], console: Console | None = None) -> None:
    """The same of a scoring: of several regions their mean and each one's Dice, of one its precision too.

    Args:
        title: What was scored.
        rows: One for each case and region.
        console: Default standard output.
    """
    regions = list(dict.fromkeys(row.region for row in rows))
    of_case: dict[str, dict[str, CaseScore]] = {}
    for row in rows:
        of_case.setdefault(row.case, {})[row.region] = row
    firsts = [next(iter(found.values())) for found in of_case.values()]
    metrics = firsts[0].values
    main = "dice" if "dice" in metrics else next(iter(metrics))
    named = OF_ONE_REGION.get(main, main)
    values = {region: [found[region].values[main] for found in of_case.values()] for region in regions}
    scores: dict[str, list[float]] = {f"{named} {region}": column for region, column in values.items()}
    if len(regions) > 1:
        means = [mean_available(list(one))[0] for one in zip(*values.values(), strict=True)]
        scores = {f"mean {named}": means, **scores}
    else:
        others = {metric: title for metric, title in OF_ONE_REGION.items() if metric in metrics and metric != main}
        scores |= {title: [one.values[metric] for one in firsts] for metric, title in others.items()}
    about = {name: [str(getattr(first, name) or "") for first in firsts] for name in ("case", "grade", "institution")}
    print_case_table(title, about, scores, console)
