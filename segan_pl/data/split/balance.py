"""How a split shares out the strata, as a table of counts; plain text or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segan_pl.data.case import Case
from segan_pl.data.split.files import ALL_PARTS
from segan_pl.data.split.record import Split
from segan_pl.data.split.strata import stratum_of

TableForm = Literal["text", "markdown"]


@dataclass(frozen=True)
class Balance:
    """Counts of each stratum in each column; "all" is the last row.

    Attributes:
        title: What is counted.
        columns: Names of the parts.
        rows: Stratum, its total, and its count in each part.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[int, ...]], ...]

    def cells(self) -> list[list[str]]:
        """The head and the rows as text: counts with the part's share of the stratum."""
        head = ["stratum", "total", *self.columns]
        body = [
            [name, str(total), *(f"{count} ({count / total:.1%})" for count in counts)]
            for name, total, counts in self.rows
        ]
        return [head, *body]


def balance_of(folds: Sequence[Split], cases: Sequence[Case], by: Sequence[str]) -> list[Balance]:
    """Tables of one split, of folds, or of nested folds; of scans, and of patients where these are fewer.

    Args:
        folds: As `load_folds` gives them.
        cases: At least those that the folds name; others are not counted.
        by: Columns of the case table.
    """
    if len(folds) == 1:
        return _counted("", {part: getattr(folds[0], part) for part in ALL_PARTS if getattr(folds[0], part)}, cases, by)
    groups: dict[str, list[Split]] = {}
    for fold in folds:
        groups.setdefault(" ".join(fold.test), []).append(fold)
    if len(groups) == 1:
        return _counted("validation of each fold, ", _columns(folds), cases, by)
    outer = {f"outer {number}": group[0].test for number, group in enumerate(groups.values())}
    tables = _counted("test part of each outer fold, ", outer, cases, by)
    for number, group in enumerate(groups.values()):
        tables += _counted(f"inner validations of outer {number}, ", _columns(group, "inner"), cases, by)
    return tables


def _columns(folds: Sequence[Split], word: str = "fold") -> dict[str, tuple[str, ...]]:
    """The validation part of each fold, and the test part that they share."""
    test = {"test": folds[0].test} if folds[0].test else {}
    return {f"{word} {number}": fold.val for number, fold in enumerate(folds)} | test


def _counted(
    title: str, columns: Mapping[str, Sequence[str]], cases: Sequence[Case], by: Sequence[str]
) -> list[Balance]:
    """The table of scans, and that of patients unless each has one scan."""
    known = [column for column in by if any(case.column(column) is not None for case in cases)]
    scans = {case.name: (" ".join(stratum_of(case, known)), case.name) for case in cases}
    patients = {case.name: (scans[case.name][0], case.patient) for case in cases}
    if len({case.patient for case in cases}) == len(cases):
        return [_table(f"{title}cases", columns, scans)]
    return [_table(f"{title}scans", columns, scans), _table(f"{title}patients", columns, patients)]


def _table(title: str, columns: Mapping[str, Sequence[str]], members: Mapping[str, tuple[str, str]]) -> Balance:
    """Distinct (stratum, member) pairs in all and in each column."""
    held = [set(members.values()), *({members[name] for name in names} for names in columns.values())]
    names = sorted({stratum for stratum, _ in held[0]})
    rows = [(name, [sum(stratum == name for stratum, _ in part) for part in held]) for name in names]
    if len(names) > 1:
        rows.append(("all", [len(part) for part in held]))
    return Balance(title, tuple(columns), tuple((name, total, tuple(rest)) for name, (total, *rest) in rows))


def render(table: Balance, form: TableForm = "text") -> str:
    """The table with its title; numbers right-aligned."""
    cells = table.cells()
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    if form == "markdown":
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        body = "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
        return f"{table.title}:\n\n{body}\n"
    return "\n".join([f"{table.title}:", *("  ".join(line).rstrip() for line in lines), ""])
