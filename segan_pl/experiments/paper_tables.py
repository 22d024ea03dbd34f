"""The tables of SegAN-CAT out of a study's results: Markdown, CSV, the heat map and a page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from segan_pl.evaluation.cases import write_table
from segan_pl.experiments.findings import WORDS, Finding, lines
from segan_pl.experiments.heat_map import heat_map
from segan_pl.experiments.paper_plan import PaperStudy, Table
from segan_pl.experiments.results import DATA_SETS, METRICS, PAPERS_MODALITIES, Mean, Result
from segan_pl.files import write_whole
from segan_pl.report import html
from segan_pl.report.figures import as_png, as_svg

TITLES: Mapping[Table, str] = {
    "I": "Table I: the systems, on all modalities",
    "II": "Table II: one modality alone, and all",
    "figure2": "Figure 2: models of one modality, scored on every modality",
    "III": "Table III: fine tuning a FLAIR model to another modality",
    "voting": "Voting of models of one modality each (the authors' result files; not in the paper)",
}
COLUMNS = ["model", "Dice", "precision", "sensitivity", "n", "state"]


@dataclass(frozen=True)
class Page:
    """What is written of a study.

    Attributes:
        study: What was asked for.
        results: A cell each, in the tables' order.
        findings: The paper's claims, tested.
        notes: On the data and their split.
        scored: What the scores are of, e.g. "11 validation cases".
    """

    study: PaperStudy
    results: Sequence[Result]
    findings: Sequence[Finding]
    notes: Sequence[str]
    scored: str

    def of(self, table: Table) -> list[Result]:
        """A table's cells."""
        return [one for one in self.results if one.cell.table == table]

    @property
    def facts(self) -> list[str]:
        """How the numbers came about."""
        study = self.study
        patients = max((mean.patients for one in self.results for mean in one.means.values()), default=0)
        chose = "" if study.has_test else ", the ones that chose each checkpoint, as in the paper"
        seeds = ", ".join(map(str, study.seeds))
        kept = "differences between seeds are not in the intervals"
        lasting = [
            f"System {study.system}, modalities {', '.join(study.modalities)}, seeds {seeds}.",
            f"Scored: {self.scored}{chose}. Means over cases, each averaged over the seeds; in brackets 95 % bootstrap "
            f"intervals over patients (at most {patients}); {kept}.",
        ]
        if study.whole != PAPERS_MODALITIES and any(one in study.tables for one in ("I", "II")):
            lasting.append(f"All modalities are {len(study.modalities)} here, four in the paper.")
        return [*lasting, "The paper's numbers are of other data (BraTS 2015 and 2019), never of these."]


def write(page: Page, directory: Path) -> list[Path]:
    """Write report.md, tables.csv, index.html, and figure2.svg and .png where Figure 2 was asked for."""
    figure = figure2(page) if "figure2" in page.study.tables else None
    files: dict[str, bytes | str] = {"report.md": markdown(page), "index.html": as_html(page, figure)}
    if figure is not None:
        files |= {"figure2.svg": as_svg(figure), "figure2.png": as_png(figure)}
    write_table(directory / "tables.csv", rows(page))
    for name, content in files.items():
        write_whole(directory / name, content)
    return [directory / name for name in ("report.md", "tables.csv", *list(files)[1:])]


# -- as rows -----------------------------------------------------------------------------------------------------------


def rows(page: Page) -> list[dict[str, object]]:
    """Numbers to six decimals, as in the score tables; one row a cell and metric, empty where there is none."""
    return [_row(one, metric) for one in page.results for metric in METRICS]


def _row(result: Result, metric: str) -> dict[str, object]:
    cell, mean = result.cell, result.means.get(metric, Mean(math.nan, None, 0, 0))
    low, high = (round(end, 6) for end in mean.interval) if mean.interval else ("", "")
    spread = result.spread if metric == "dice" else None
    return {
        **{"table": cell.table, "model": cell.model, "trained_on": cell.trained_on, "tested_on": cell.tested_on},
        **{"fine_tuning": cell.way, "region": result.region, "metric": metric},
        **{"mean": "" if math.isnan(mean.value) else round(mean.value, 6), "low": low, "high": high},
        **{"cases": mean.cases, "patients": mean.patients, "seeds": len(result.finished), "asked": len(result.states)},
        **{"sd_of_seeds": round(spread.sd, 6) if spread else "", "state": result.state},
        **{name.lower(): result.published.get((name, metric), "") for name in DATA_SETS},
        "trials": " ".join(cell.trials.values()),
    }


# -- as text -----------------------------------------------------------------------------------------------------------


def markdown(page: Page) -> str:
    """The whole report."""
    out = [f"# SegAN-CAT's experiments with {page.study.base}", "", *page.facts, ""]
    if page.notes:
        out += [*(f"- {note}" for note in page.notes), ""]
    if page.findings:
        out += ["## Findings", "", *(_item(line) for line in lines(page.findings)), ""]
    for table in page.study.tables:
        columns, body = table_text(page, table)
        out += [f"## {TITLES[table]}", "", *_markdown_table(columns, body), ""]
        if table == "figure2":
            out += ["![Figure 2](figure2.svg)", ""]
    if unfinished := unfinished_lines(page):
        out += ["## Not finished", "", *(f"- {line}" for line in unfinished), ""]
    return "\n".join(out)


def _item(line: str) -> str:
    return f"  - {line.strip()}" if line.startswith("  ") else f"- {line}"


def _markdown_table(columns: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    cells = [columns, ["---"] * len(columns), *body]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in cells]


def table_text(page: Page, table: Table) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of a table, with the paper's numbers as Dice / precision / sensitivity."""
    if table == "figure2":
        return _matrix_text(page)
    found = page.of(table)
    shown = [name for name in DATA_SETS if any((name, "dice") in one.published for one in found)]
    body = [[*_line(one), *(_published(one, name) for name in shown)] for one in found]
    return [*COLUMNS, *(f"paper, {name}" for name in shown)], body


def _line(result: Result) -> list[str]:
    dice = result.means.get("dice")
    numbers = [_number(result, metric) for metric in METRICS]
    count = str(dice.patients) if dice else ""
    state = f"{result.state}, SD of seeds {result.spread.sd:.3f}" if result.spread else result.state
    return [label(result), *numbers, count, state]


def _number(result: Result, metric: str) -> str:
    """A mean, with its n where cases lack this metric only (precision of an empty prediction)."""
    if metric not in result.means:
        return result.state
    mean, dice = result.means[metric], result.means["dice"]
    return mean_text(mean) + (f", n {mean.patients}" if mean.cases < dice.cases and mean.cases else "")


def label(result: Result) -> str:
    """What a line of a table is called."""
    cell = result.cell
    if cell.table == "III":
        return f"{cell.trained_on} to {cell.tested_on}, {WORDS[cell.way]}"
    if cell.table == "figure2":
        return f"{cell.trained_on} on {cell.tested_on}"
    if cell.table == "voting":
        return f"{cell.model} ({WORDS[cell.way]})" if cell.way else cell.model
    return cell.model if cell.table == "I" else cell.trained_on


def mean_text(mean: Mean) -> str:
    """E.g. "0.812 [0.774, 0.846]"."""
    if math.isnan(mean.value):
        return "n/a"
    between = f" [{mean.interval[0]:.3f}, {mean.interval[1]:.3f}]" if mean.interval else ""
    return f"{mean.value:.3f}{between}"


def _published(result: Result, name: str) -> str:
    numbers = [result.published.get((name, metric)) for metric in METRICS]
    return "" if None in numbers else " / ".join(f"{number:.3f}" for number in numbers)


def _matrix_text(page: Page) -> tuple[list[str], list[list[str]]]:
    """Figure 2's Dice: a line a model, a column a modality that it is scored on."""
    found = {(one.cell.trained_on, one.cell.tested_on): one for one in page.of("figure2")}
    names = page.study.modalities
    body = [[f"trained on {own}", *(_field(found[own, other]) for other in names)] for own in names]
    return ["Dice (paper 2015 / 2019)", *names], body


def _field(result: Result) -> str:
    ours = mean_text(result.means["dice"]) if "dice" in result.means else result.state
    part = f", {result.state}" if result.means and result.state != "finished" else ""
    paper = [result.published.get((name, "dice")) for name in DATA_SETS]
    return ours + part + ("" if None in paper else f" ({' / '.join(f'{value:.2f}' for value in paper)})")


def unfinished_lines(page: Page) -> list[str]:
    """Every cell and seed without scores, and why."""
    return [
        f"{one.cell.table}: {label(one)}, seed {seed}: {state}{_why(one.reasons.get(seed, ''), state)}"
        for one in page.results
        for seed, state in one.states.items()
        if state != "finished"
    ]


def _why(reason: str, state: str) -> str:
    if not reason:
        return ""
    return f" (needs {reason})" if state == "skipped" else f" ({reason})"


# -- as a page ---------------------------------------------------------------------------------------------------------


def figure2(page: Page) -> Figure:
    """Our matrix beside the paper's two."""
    found = page.of("figure2")
    ours = {(one.cell.trained_on, one.cell.tested_on): one.means["dice"].value for one in found if "dice" in one.means}
    panels = {"here": ours}
    for name in DATA_SETS:
        theirs = {
            (one.cell.trained_on, one.cell.tested_on): one.published[name, "dice"]
            for one in found
            if (name, "dice") in one.published
        }
        if theirs:
            panels[f"paper, {name}"] = theirs
    states = {(one.cell.trained_on, one.cell.tested_on): one.state for one in found}
    return heat_map(panels, page.study.modalities, blank=states)


def as_html(page: Page, figure: Figure | None) -> str:
    """The report as one page that loads nothing."""
    facts = "".join(f"<p>{html.text(line)}</p>\n" for line in (*page.facts, *page.notes))
    said = "".join(f"<li>{html.text(line.strip())}</li>\n" for line in lines(page.findings))
    parts = [html.section("Findings", "findings", f"<ul>\n{said}</ul>\n") if said else ""]
    for table in page.study.tables:
        columns, body = table_text(page, table)
        inside = html.table(columns, body, caption=TITLES[table])
        drawn = html.drawing(as_svg(figure), TITLES[table]) if table == "figure2" and figure is not None else ""
        parts.append(html.section(TITLES[table].partition(":")[0], table, inside, drawn))
    left = "".join(f"<li>{html.text(line)}</li>\n" for line in unfinished_lines(page))
    parts.append(html.section("Not finished", "unfinished", f"<ul>\n{left}</ul>\n") if left else "")
    title = f"SegAN-CAT's experiments with {page.study.base}"
    return html.page(title, f"<h1>{html.text(title)}</h1>\n{facts}{''.join(parts)}")
