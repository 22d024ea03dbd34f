"""The check's report to read: aligned columns without boxes, so that a log file holds what a terminal shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from segan_pl.data.check.case_table import CaseRow, triple
from segan_pl.data.check.cases import CheckReport
from segan_pl.data.check.summary import QUARTILES, UNKNOWN, listed, summary
from segan_pl.data.layouts import DataSet

# More are a matter for --csv.
CASES_SHOWN = 25
# Of one distribution.
VALUES_SHOWN = 6
# Columns where there is no terminal.
PLAIN_WIDTH = 120
EXAMPLES = 4
# From here cases refused for the same reason share a line.
ALIKE = 3


def print_report(report: CheckReport, source: DataSet, file: IO[str]) -> None:
    """Everything that a person reads; the summary is the last line.

    Args:
        report: Of `check_all`.
        source: What was checked.
        file: Where to; colours only on a terminal.
    """
    width = None if file.isatty() else int(os.environ.get("COLUMNS") or PLAIN_WIDTH)
    console = Console(file=file, width=width, highlight=False)
    facts = summary(report.rows, report.convention)
    with console.capture() as page:
        for table in (_head(report, source, facts), _cases(report.rows, console.width), _labels(facts), _strata(facts)):
            if table is not None:
                console.print(table)
                console.print()
        for style, line in _lines(report):
            console.print(Text(line, style), soft_wrap=True)
    # rich fills lines with blanks
    file.write("".join(f"{line.rstrip()}\n" for line in page.get().splitlines()))


def _lines(report: CheckReport) -> Iterator[tuple[str, str]]:
    """(style, line) of everything below the tables."""
    if len(report.rows) > CASES_SHOWN:
        yield "", f"the table of all {len(report.rows)} cases: --csv FILE; everything that was found: --json FILE"
    yield from (("yellow", f"note: {note}") for note in [*report.notes, *grouped_notes(report.rows)])
    if report.left_out:
        yield "yellow", f"{len(report.left_out)} left out, as --data.missing={report.missing} says"
    yield from (("red", f"refused: {line}") for line in grouped_faults(report.rows))
    yield ("bold red" if report.refused else "bold"), report.summary()


def grouped_notes(rows: Sequence[CaseRow]) -> list[str]:
    """The cases' notes, one line a kind: notes that differ only in their part and numbers are one kind."""
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        for note in row.notes:
            part, colon, text = note.partition(": ")
            part, text = (part, text) if colon and part in row.files else ("", note)
            kinds.setdefault(re.sub(r"[-+]?\d[\d.e+-]*", "#", text), []).append((row.name, part, text))
    return [_kind(found) for found in kinds.values()]


def _kind(found: Sequence[tuple[str, str, str]]) -> str:
    """E.g. "constant, every voxel is 7; ...: 2 of 2 cases: A t1, t2; B t1"."""
    by_case = [(name, [part for _, part, _ in some]) for name, some in groupby(found, key=lambda item: item[0])]
    examples = [f"{name} {', '.join(parts)}".rstrip() for name, parts in by_case]
    texts = {text for _, _, text in found}
    text = found[0][2] if len(texts) == 1 else f"e.g. {found[0][2]}"
    if len(by_case) == 1:
        return f"{examples[0]}: {text}"
    more = f"; and {len(examples) - EXAMPLES} more" if len(examples) > EXAMPLES else ""
    return f"{len(by_case)} cases: {text}: {'; '.join(examples[:EXAMPLES])}{more}"


def grouped_faults(rows: Sequence[CaseRow]) -> list[str]:
    """Every fault of every case on a line of its own; what is said of many cases alike is one line."""
    cases: dict[str, list[str]] = {}
    for row in rows:
        for fault in row.faults:
            cases.setdefault(fault, []).append(row.name)
    alike = {fault: names for fault, names in cases.items() if len(names) >= ALIKE}
    single = [f"{row.name}: {fault}" for row in rows for fault in row.faults if fault not in alike]
    return [*single, *(f"{len(names)} cases: {fault}: {listed(names)}" for fault, names in alike.items())]


def _head(report: CheckReport, source: DataSet, facts: Mapping[str, Any]) -> Table:
    """What was read, and one line a distribution."""
    meaning = report.convention.name if report.convention else "unknown"
    size = facts["size_bytes"] / 1e6
    tumour = ""
    if volumes := facts["tumour_ml"]:
        low, lower, middle, upper, high = (_ml(volumes[name]) for name in QUARTILES)
        tumour = f"{low} to {high} ml, median {middle}, half of them {lower} to {upper} ({volumes['cases']} masks)"
    lines = {
        "data set": f"{source.root} (layout {source.layout}, native labels {meaning})",
        "read": f"{facts['files']} files, {size:.1f} MB, in {report.seconds:.1f} s",
        "cases": f"{facts['given']} ({facts['patients']} {'patient' if facts['patients'] == 1 else 'patients'})",
        "files": _distribution(facts["modalities"]),
        "grades": _distribution(facts["grades"]) if set(facts["grades"]) != {UNKNOWN} else "",
        "shapes": _distribution(facts["shapes"]),
        "spacings": _distribution(facts["spacings_mm"], " mm"),
        "orientations": _distribution(facts["orientations"]),
        "data types": _distribution(facts["data_types"]),
        "tumour": tumour,
    }
    table = _plain("", "", header=False)
    for name, text in lines.items():
        if text:
            table.add_row(Text(name, "bold"), Text(text))
    return table


def _distribution(counts: Mapping[str, int], unit: str = "") -> str:
    """The most frequent values with their counts."""
    shown = [f"{value}{unit} ({count})" for value, count in list(counts.items())[:VALUES_SHOWN]]
    more = len(counts) - VALUES_SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _ml(volume: float) -> str:
    return f"{volume:.2g}" if volume < 1 else f"{volume:.1f}"


def _cases(rows: Sequence[CaseRow], width: int) -> Table | None:
    """The case table; without the columns in which no case has anything, and on a narrow page without the widest."""
    if not rows or len(rows) > CASES_SHOWN:
        return None
    columns = {
        "case": [row.name for row in rows],
        "grade": [row.grade or "" for row in rows],
        "site": [row.institution or "" for row in rows],
        "modalities": [" ".join(row.modalities) for row in rows],
        "shape": [triple(row.shape) if row.shape else "" for row in rows],
        "spacing mm": [triple(row.spacing_mm) if row.spacing_mm else "" for row in rows],
        "labels": [" ".join(str(label) for label in row.labels if label) for row in rows],
        "tumour ml": ["" if row.tumour_ml is None else _ml(row.tumour_ml) for row in rows],
        "notes": [str(len(row.notes) or "") for row in rows],
        "": ["" if row.status == "used" else row.status for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    for name in ("modalities", "spacing mm", "shape", "site", "labels", "grade", "notes", "tumour ml"):
        if sum(2 + max(map(len, (title, *cells))) for title, cells in columns.items()) > width:
            columns.pop(name, None)
    table = _plain(*columns, right=("tumour ml", "notes"))
    for cells, row in zip(zip(*columns.values(), strict=True), rows, strict=True):
        table.add_row(*(Text(cell, "red" if row.faults else "") for cell in cells))
    return table


def _labels(facts: Mapping[str, Any]) -> Table | None:
    """A line a native label."""
    if not facts["labels"]:
        return None
    table = _plain("label", "tissue", "cases", "voxels", right=("label", "cases", "voxels"))
    for found in facts["labels"]:
        cells = (str(found["label"]), found["tissue"] or "unknown", str(found["cases"]), f"{found['voxels']:,}")
        table.add_row(*map(Text, cells))
    return table


def _strata(facts: Mapping[str, Any]) -> Table | None:
    """A line a grade and institution, as far as the data set tells them."""
    keys = [key for key in ("grade", "institution") if any(s[key] != UNKNOWN for s in facts["strata"])]
    if not keys:
        return None
    volumes_known = facts["tumour_ml"] is not None
    numbers = ("cases", "patients", *(("tumour ml min", "25 %", "median", "75 %", "max") if volumes_known else ()))
    table = _plain(*keys, *numbers, right=numbers)
    for stratum in facts["strata"]:
        volumes = stratum["tumour_ml"]
        cells = [_ml(volumes[name]) if volumes else "" for name in QUARTILES] if volumes_known else []
        counts = (str(stratum["cases"]), str(stratum["patients"]))
        table.add_row(*map(Text, (*(stratum[key] for key in keys), *counts, *cells)))
    return table


def _plain(*names: str, right: Sequence[str] = (), header: bool = True) -> Table:
    """A table without a box; cells that are too wide are folded, never cut."""
    table = Table(box=None, show_header=header, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table
