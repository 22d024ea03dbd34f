"""A study as files and on the screen: CSV, Markdown, LaTeX, rich; the same study gives the same bytes."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segan_pl.evaluation.seeds import Entry, Spread
from segan_pl.evaluation.statistics import EXACT_RANKS, LEVEL
from segan_pl.evaluation.study import Line, Study
from segan_pl.files import write_whole

ON_SCREEN = 6  # names of cases that a note shows before "and n more"
PLAIN_WIDTH = 200  # characters of a line where there is no terminal
WIDE = 160  # characters that all columns need
WIDE_ONLY = ("mean", "mean against", "p Wilc.", "r", "dz")
LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        title: Above it.
        columns: Names.
        rows: As many cells each.
        left: Number of columns with words, which stand on the left; numbers stand on the right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int


def sheets(study: Study) -> list[Sheet]:
    """Which scores were taken, the spread over seeds where there are any, and the comparisons."""
    seeds = _seed_rows(study)
    spread = Sheet("Spread over seeds", ("metric", "region", "run", "seeds", "sd", "lowest", "highest"), seeds, 3)
    return [_runs(study), *([spread] if seeds else []), _comparisons(study)]


def legend(study: Study) -> list[str]:
    """What the columns are."""
    sampled = any(line.found.permutation_p is not None and not line.found.exact for line in study.lines)
    ways = f", sampled with {study.resamples} sign patterns where there are too many" if sampled else ""
    return [
        "difference: run minus against, mean over patients (a patient's scans are averaged first); 95 % interval: "
        f"bootstrap over patients (expanded percentiles), {study.resamples} resamples, seed {study.seed}",
        f"p perm.: sign-flip permutation test of the mean difference{ways}; p Wilc.: Wilcoxon signed rank, exact to "
        f"{EXACT_RANKS} patients, ties included, zero differences left out; both two-sided and after Holm's correction "
        f"(tests of each kind: {study.tested})",
        "r: matched-pairs rank-biserial correlation; dz: Cohen's, mean over standard deviation of the differences; "
        "W/T/L: patients for whom run is better, equal, worse",
        f"verdict: by p perm. at {LEVEL}; 'not shown' does not mean equal",
    ]


def _runs(study: Study) -> Sheet:
    columns = ("run", "scores", "taken as", "runs", "cases")
    rows = []
    for entry in study.entries:
        for number, run in enumerate(entry.runs):
            arrangement = "1" if len(entry.runs) == 1 else f"{number + 1} of {len(entry.runs)} {entry.arrangement}"
            rows.append((entry.name, str(run.table.path), run.table.reason, arrangement, _cases(entry, number)))
    return Sheet("Runs", columns, tuple(rows), 4)


def _cases(entry: Entry, number: int) -> str:
    """Cases of one run, and on a group's last line of all its runs."""
    own, last = len(entry.runs[number].cases), number == len(entry.runs) - 1
    return f"{own} (all {len(entry.held)})" if last and len(entry.runs) > 1 else str(own)


def _seed_rows(study: Study) -> tuple[tuple[str, ...], ...]:
    """Each run once a metric and region, over the cases of its first comparison there."""
    found: dict[tuple[str, str, str], Spread] = {}
    for line in study.lines:
        for name, spread in ((line.run, line.spread_run), (line.against, line.spread_against)):
            if spread is not None:
                found.setdefault((line.metric, line.region, name), spread)
    return tuple((*key, str(s.seeds), *(f"{x:.4f}" for x in (s.sd, s.low, s.high))) for key, s in found.items())


def _comparisons(study: Study) -> Sheet:
    words = ("metric", "region", "run", "against")
    numbers = ("patients", "mean", "mean against", "difference", "95 % interval", "p perm.", "p Wilc.", "r", "dz")
    rows = tuple(_cells(line) for line in study.lines)
    metrics = ", ".join(dict.fromkeys(line.metric for line in study.lines))
    return Sheet(f"Comparisons of {metrics}", (*words, *numbers, "W/T/L", "verdict"), rows, len(words))


def _cells(line: Line) -> tuple[str, ...]:
    found = line.found
    interval = "n/a" if found.interval is None else f"{found.interval[0]:+.4f} to {found.interval[1]:+.4f}"
    return (
        *(line.metric, line.region, line.run, line.against, str(found.patients)),
        *(_number(found.mean_a), _number(found.mean_b), _number(found.difference, "+.4f"), interval),
        *(_p(line.permutation_holm), _p(line.wilcoxon_holm)),
        *(_number(found.rank_biserial, "+.2f"), _number(found.cohens_dz, "+.2f")),
        *(f"{found.wins}/{found.ties}/{found.losses}", line.verdict),
    )


def _number(value: float, form: str = ".4f") -> str:
    return "n/a" if math.isnan(value) else f"{value:{form}}"


def _p(value: float | None) -> str:
    if value is None:
        return "n/a"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def print_study(study: Study, console: Console | None = None) -> None:
    """Tables, legend and notes; plain ASCII where there is no terminal, fewer columns where it is narrow."""
    console = console or Console(width=None if Console().is_terminal else PLAIN_WIDTH)
    narrow = console.width < WIDE
    hidden = (*WIDE_ONLY, *(["metric"] if len({line.metric for line in study.lines}) == 1 else []))
    for sheet in sheets(study):
        table = Table(title=sheet.title, title_justify="left", box=box.SIMPLE if console.is_terminal else box.ASCII)
        kept = [number for number, name in enumerate(sheet.columns) if not (narrow and name in hidden)]
        for number in kept:
            side: Literal["left", "right"] = "left" if number < sheet.left else "right"
            table.add_column(sheet.columns[number], justify=side, overflow="fold")
        for row in sheet.rows:
            table.add_row(*(Text(row[number]) for number in kept))
        console.print(table)
    if narrow:
        console.print(Text(f"a wider terminal or --output shows {', '.join(WIDE_ONLY)} too"))
    for text in [*legend(study), *(f"note: {note.shown(ON_SCREEN)}" for note in study.notes)]:
        console.print(Text(text))


def write_study(study: Study, folder: Path) -> list[Path]:
    """Write comparison.csv, .md and .tex, each replaced at once; their paths."""
    texts = {"csv": as_csv(study), "md": as_markdown(study), "tex": as_latex(study)}
    paths = []
    for ending, text in texts.items():
        path = folder / f"comparison.{ending}"
        write_whole(path, text)
        paths.append(path)
    return paths


def as_csv(study: Study) -> str:
    """One row a comparison, every number with six digits, empty where it was not computed."""
    rows = [{name: _cell(value) for name, value in _record(line).items()} for line in study.lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _record(line: Line) -> Mapping[str, object]:
    found = line.found
    low, high = found.interval or (None, None)
    about = {"metric": line.metric, "region": line.region, "run": line.run, "against": line.against}
    counted = {"cases": found.cases, "patients": found.patients, "not_available": len(found.unavailable)}
    means = {"mean_run": found.mean_a, "mean_against": found.mean_b, "difference": found.difference}
    tests = {"p_permutation": found.permutation_p, "p_permutation_holm": line.permutation_holm}
    tests |= {"p_wilcoxon": found.wilcoxon_p, "p_wilcoxon_holm": line.wilcoxon_holm}
    effects = {"rank_biserial": found.rank_biserial, "cohens_dz": found.cohens_dz}
    votes = {"wins": found.wins, "ties": found.ties, "losses": found.losses, "verdict": line.verdict}
    spreads = {**_spread("run", line.spread_run), **_spread("against", line.spread_against)}
    note = {"note": "; ".join(found.notes)}
    return {**about, **counted, **means, "low": low, "high": high, **tests, **effects, **votes, **spreads, **note}


def _spread(side: str, spread: Spread | None) -> dict[str, float | None]:
    values = spread or (None, None, None, None)
    return {f"{name}_{side}": value for name, value in zip(("seeds", "sd", "lowest", "highest"), values, strict=True)}


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value


def as_markdown(study: Study) -> str:
    """The tables, what their columns are, and every note with all names."""
    parts = ["# Comparison", *(f"## {sheet.title}\n\n{_markdown(sheet)}" for sheet in sheets(study))]
    parts.append("\n".join(f"- {text}" for text in legend(study)))
    if study.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {escaped(note.shown())}" for note in study.notes))
    parts.append(f"{study.given} given, {study.used} used, {study.refused} refused")
    return "\n\n".join(parts) + "\n"


def _markdown(sheet: Sheet) -> str:
    rule = ["---" if number < sheet.left else "---:" for number in range(len(sheet.columns))]
    rows: Sequence[Sequence[str]] = (sheet.columns, rule, *([escaped(c) for c in row] for row in sheet.rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escaped(text: str) -> str:
    """Names are often full of underscores, which Markdown would take for emphasis."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def as_latex(study: Study) -> str:
    """A plain tabular each for the comparisons and the seeds; no package is needed."""
    lines = [f"% {text}" for text in legend(study)]
    return "\n".join([*lines, *(_latex(sheet) for sheet in sheets(study)[1:])]) + "\n"


def _latex(sheet: Sheet) -> str:
    columns = "l" * sheet.left + "r" * (len(sheet.columns) - sheet.left)
    rows = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in (sheet.columns, *sheet.rows)]
    body = [f"\\begin{{tabular}}{{{columns}}}", r"\hline", rows[0], r"\hline", *rows[1:], r"\hline", r"\end{tabular}"]
    return "\n".join([f"% {sheet.title}", *body])


def _latex_cell(cell: str) -> str:
    """Escaped; signed and compared numbers in mathematics, so that a minus is one."""
    parts = re.split(r"((?<!\S)[-+<]\d+(?:\.\d+)?)(?!\S)", cell)
    return "".join(f"${p}$" if place % 2 else "".join(LATEX.get(c, c) for c in p) for place, p in enumerate(parts))
