"""What a plan becomes on some data, as plain records: cells of tables, claims, and the runs behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from segan_pl.experiments.runs import Run
from segan_pl.report.published import Key, numbers_of


@dataclass(frozen=True)
class Cell:
    """A row of a table: which runs it shows, and next to which published numbers.

    Attributes:
        table: Its name.
        label: What the row is called.
        names: Its runs without their seeds; several where they are pooled; none where only others' numbers are shown.
        facts: What tells it apart, in the words of published.csv.
        runs: Seed to the runs that hold the scores.
        fits: Seed to the runs that were trained for them, where the plan names these.
        printed: The rows of published.csv next to which it is set.
        reference: Seed to the runs from which it differs, of a row of differences.
        series: Of a figure against a number, which line it is a point of, and the number.
        needed: The runs that its own need, and these.
    """

    table: str
    label: str
    names: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    fits: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    printed: tuple[Mapping[str, str], ...] = ()
    reference: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    series: tuple[str, float] | None = None
    needed: tuple[Run, ...] = ()

    @cached_property
    def published(self) -> Mapping[Key, float]:
        """The papers' numbers."""
        return numbers_of(self.printed)


@dataclass(frozen=True)
class Claim:
    """One cell is said to have a higher Dice than another; claims of one group hold when all do."""

    text: str
    better: Cell
    worse: Cell
    group: str = ""


@dataclass(frozen=True)
class Expansion:
    """A plan on some data.

    Attributes:
        runs: Each after those that it needs.
        cells: In the tables' order.
        claims: Between cells.
        ensemble: Seed to the runs whose models decide together.
        notes: What is left out, and why.
    """

    runs: tuple[Run, ...]
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]
    ensemble: Mapping[int, tuple[str, ...]]
    notes: tuple[str, ...]
