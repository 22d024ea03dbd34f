"""A study as files and on the screen: CSV, Markdown, LaTeX, rich; the same study gives the same bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segan_pl.data.outputs import Kind, Output
from segan_pl.evaluation.statistics.paired import EXACT_RANKS, LEVEL
from segan_pl.evaluation.statistics.seeds import Spread
from segan_pl.evaluation.statistics.study import Line, Study
from segan_pl.files import csv_text

# Names of cases that a note shows before "and n more".
ON_SCREEN = 6
# Characters of a line where there is no terminal, and those that all columns need.
PLAIN_WIDTH = 200
WIDE = 160
WIDE_ONLY = ("mean", "mean against", "p Wilc.", "r", "dz")
KINDS = {
    "csv": Kind("segan_pl compare", "metric,region,run,against,cases,patients,"),
    "md": Kind("segan_pl compare", r"# Comparison\n\n## Runs\n\n\| run \| scores \| taken as"),
    "tex": Kind("segan_pl compare", "% difference: run minus against, mean over patients"),
}
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
        left: Number of columns with words, which are set to the left; numbers are set to the right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int


def sheets(study: Study) -> list[Sheet]:
    """Which scores were taken, the spread over seeds where there are any, and the comparisons."""
    # Each run once for each metric and region, over the cases of its first comparison there.
    spreads: dict[tuple[str, str, str], Spread] = {}
    for line in study.lines:
        for name, found in ((line.run, line.spread_run), (line.against, line.spread_against)):
            if found is not None:
                spreads.setdefault((line.metric, line.region, name), found)
    seeds = tuple((*key, str(s.seeds), *(f"{x:.4f}" for x in (s.sd, s.low, s.high))) for key, s in spreads.items())
    spread = Sheet("Spread over seeds", ("metric", "region", "run", "seeds", "sd", "lowest", "highest"), seeds, 3)
    words = ("metric", "region", "run", "against")
    numbers = ("patients", "mean", "mean against", "difference", "95 % interval", "p perm.", "p Wilc.", "r", "dz")
    metrics = ", ".join(dict.fromkeys(line.metric for line in study.lines))
    columns, rows = (*words, *numbers, "W/T/L", "verdict"), tuple(map(_cells, study.lines))
    compared = Sheet(f"Comparisons of {metrics}", columns, rows, len(words))
    taken = []
    for entry in study.entries:
        for number, run in enumerate(entry.runs):
            alone, last = len(entry.runs) == 1, number == len(entry.runs) - 1
            arrangement = "1" if alone else f"{number + 1} of {len(entry.runs)} {entry.arrangement}"
            cases = f"{len(run.cases)} (all {len(entry.held)})" if last and not alone else str(len(run.cases))
            taken.append((entry.name, str(run.table.path), run.table.reason, arrangement, cases))
    runs = Sheet("Runs", ("run", "scores", "taken as", "runs", "cases"), tuple(taken), 4)
    return [runs, *([spread] if seeds else []), compared]


def legend(study: Study, without: Collection[str] = ()) -> list[str]:
    """What the columns are, but those that are not shown."""
    sampled = any(line.found.permutation_p is not None and not line.found.exact for line in study.lines)
    ways = f", sampled with {study.resamples} sign patterns where there are too many" if sampled else ""
    tests = {
        "p perm.": f"sign-flip permutation test of the mean difference{ways}",
        "p Wilc.": f"Wilcoxon signed rank, exact to {EXACT_RANKS} patients, ties included, zero differences left out",
    }
    others = {
        "r": "matched-pairs rank-biserial correlation",
        "dz": "Cohen's, mean over standard deviation of the differences",
        "W/T/L": "patients for whom run is better, equal, worse",
    }
    tested, rest = (
        [f"{name}: {what}" for name, what in some.items() if name not in without] for some in (tests, others)
    )
    both, kinds = ("both ", "tests of each kind") if len(tested) == 2 else ("", "tests")
    return [
        "difference: run minus against, mean over patients (a patient's scans are averaged first); 95 % interval: "
        f"bootstrap over patients (expanded percentiles), {study.resamples} resamples, seed {study.seed}",
        f"{'; '.join(tested)}; {both}two-sided and after Holm's correction ({kinds}: {study.tested})",
        "; ".join(rest),
        f"verdict: by p perm. at {LEVEL}; 'not shown' does not mean equal",
    ]


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


def study_outputs(folder: Path, given: str, inputs: tuple[Path, ...] = ()) -> dict[str, Output]:
    """Where comparison.csv, .md and .tex go, by ending."""
    return {end: Output(folder / f"comparison.{end}", kind, given, inputs) for end, kind in KINDS.items()}


def write_study(study: Study, outputs: Mapping[str, Output]) -> list[Path]:
    """Write comparison.csv, .md and .tex, each replaced at once; their paths."""
    texts = {"csv": as_csv(study), "md": as_markdown(study), "tex": as_latex(study)}
    return [outputs[ending].write(text) for ending, text in texts.items()]


def as_csv(study: Study) -> str:
    """One row for each comparison, every number with six digits, empty where it was not computed."""
    return csv_text(map(_record, study.lines))


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
    spreads: dict[str, float | None] = {}
    for side, spread in (("run", line.spread_run), ("against", line.spread_against)):
        values = spread or (None, None, None, None)
        spreads |= {f"{name}_{side}": v for name, v in zip(("seeds", "sd", "lowest", "highest"), values, strict=True)}
    note = {"note": "; ".join(found.notes)}
    cells = {**about, **counted, **means, "low": low, "high": high, **tests, **effects, **votes, **spreads, **note}
    for name, value in cells.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            cells[name] = ""
        elif isinstance(value, float):
            cells[name] = f"{value:.6g}"
    return cells


def as_markdown(study: Study) -> str:
    """The tables, what their columns are, and every note with all names."""
    parts = ["# Comparison"]
    for sheet in sheets(study):
        rule = ["---" if number < sheet.left else "---:" for number in range(len(sheet.columns))]
        rows: Sequence[Sequence[str]] = (sheet.columns, rule, *([escaped(c) for c in row] for row in sheet.rows))
        parts.append(f"## {sheet.title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    parts.append("\n".join(f"- {text}" for text in legend(study)))
    if study.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {escaped(note.shown())}" for note in study.notes))
    parts.append(f"{study.given} given, {study.used} used, {study.refused} refused")
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Names are often full of underscores, which Markdown would take for emphasis."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def as_latex(study: Study) -> str:
    """A plain tabular each for the comparisons and the seeds; no package is needed."""
    lines = [f"% {text}" for text in legend(study)]
    for sheet in sheets(study)[1:]:
        sides = "l" * sheet.left + "r" * (len(sheet.columns) - sheet.left)
        head, *rows = (" & ".join(map(_latex_cell, row)) + r" \\" for row in (sheet.columns, *sheet.rows))
        lines += [f"% {sheet.title}", f"\\begin{{tabular}}{{{sides}}}", r"\hline", head, r"\hline", *rows]
        lines += [r"\hline", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: str) -> str:
    """Escaped; signed and compared numbers in mathematics, so that a minus is one."""
    parts = re.split(r"((?<!\S)[-+<]\d+(?:\.\d+)?)(?!\S)", cell)
    return "".join(f"${p}$" if place % 2 else "".join(LATEX.get(c, c) for c in p) for place, p in enumerate(parts))
