"""What is drawn when cases are parted: units that stay whole, in strata by columns of the case table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.files import PARTS
from segan_pl.data.split.record import Grouped, Split, case_digest
from segan_pl.errors import UsageError, nearest

COLUMNS = ("grade", "institution")
ABSENT_VALUE = "unknown"

Stratum = tuple[str, ...]
Strata = Mapping[Stratum, Sequence[str]]  # stratum to its units, both in order


@dataclass(frozen=True)
class Draw:
    """What all splits of one drawing share.

    Attributes:
        cases: In any order.
        units: Case name to the unit that stays whole.
        strata: Their units, in order.
        seed: Of the drawing.
        grouped: What the units are.
        notes: On columns that say nothing.
    """

    cases: Sequence[Case]
    units: Mapping[str, str]
    strata: Strata
    seed: int
    grouped: Grouped
    notes: tuple[str, ...]

    def split(self, sides: Mapping[str, str], notes: Sequence[str], name: str | None = None) -> Split:
        """The record: every unit without a side trains; `notes` are added to those of the drawing."""
        side = {case.name: sides.get(self.units[case.name], "train") for case in self.cases}
        train, val, test = (tuple(sorted(n for n in side if side[n] == part)) for part in PARTS)
        digest = case_digest(self.cases)
        return Split(train, val, test, self.seed, (*self.notes, *notes), digest, self.grouped, name)

    def counted(self, number: int) -> str:
        """So many units, in words."""
        return f"{number} {self.grouped}{'' if number == 1 else 's'}"


def prepare_draw(
    cases: Sequence[Case], by: Sequence[str], seed: int, grouped: Grouped, together: Sequence[Sequence[str]]
) -> Draw:
    """Units and strata of some cases.

    Raises:
        CaseError: As `units_of`.
        UsageError: As `require_columns`, or a seed below 0.
    """
    require_columns(cases, by)
    if seed < 0:
        raise UsageError(f"--data.split_seed {seed}: expected a whole number from 0")
    units = units_of(cases, grouped, together)
    strata, notes = strata_of(cases, units, by)
    return Draw(cases, units, strata, seed, grouped, tuple(notes))


def shuffled(strata: Strata, rng: np.random.Generator) -> dict[Stratum, list[str]]:
    """Each stratum's units in random order."""
    return {key: [units[i] for i in rng.permutation(len(units))] for key, units in strata.items()}


def require_columns(cases: Sequence[Case], by: Sequence[str], what: str = "cannot stratify by") -> None:
    """Refuse a column that is none of the case table's.

    Args:
        cases: In any order.
        by: Columns.
        what: Of the message, what cannot be done.

    Raises:
        UsageError: With the nearest, and the list.
    """
    known = [*COLUMNS, *sorted({name for case in cases for name in case.extra})]
    if strange := sorted(set(by) - set(known)):
        raise UsageError(f"{what} {strange}; {nearest(strange[0], known)}")


def units_of(cases: Sequence[Case], grouped: Grouped, together: Sequence[Sequence[str]] = ()) -> dict[str, str]:
    """Case name to its unit: the patient (or the scan), or the first of those that must share a side.

    Args:
        cases: In any order.
        grouped: What is never on two sides.
        together: Groups of case names that must share a side as well; they may overlap.

    Raises:
        CaseError: A group names a case that is not there, or a case name occurs twice.
    """
    own = {case.name: case.patient if grouped == "patient" else case.name for case in cases}
    if len(own) < len(cases):
        raise CaseError(f"{len(cases)} cases have {len(own)} names; expected each name once; rename one of each")
    if strange := sorted({name for group in together for name in group} - set(own)):
        raise CaseError(f"cases that must share a side are not in the data: {', '.join(strange)}; check it again")
    first = {unit: unit for unit in own.values()}
    for group in together:
        joined = {_root(first, own[name]) for name in group}
        first |= dict.fromkeys(joined, min(joined, default=""))
    return {name: _root(first, unit) for name, unit in own.items()}


def _root(first: Mapping[str, str], unit: str) -> str:
    """The unit that a unit was joined to, over any number of joins."""
    while first[unit] != unit:
        unit = first[unit]
    return unit


def strata_of(cases: Sequence[Case], units: Mapping[str, str], by: Sequence[str]) -> tuple[Strata, list[str]]:
    """The units of each stratum, and notes on columns that say nothing.

    A unit belongs to the stratum of its first case by name; a column that no case has is left out.
    """
    known = [column for column in by if any(case.column(column) is not None for case in cases)]
    left = f"the split is balanced by {' and '.join(known) or 'no column'}"
    notes = [f"no case has '{column}': {left}" for column in by if column not in known]
    of_unit: dict[str, Stratum] = {}
    for case in sorted(cases, key=lambda case: case.name):
        of_unit.setdefault(units[case.name], stratum_of(case, known))
    strata: dict[Stratum, list[str]] = {}
    for unit, stratum in sorted(of_unit.items(), key=lambda item: (item[1], item[0])):
        strata.setdefault(stratum, []).append(unit)
    return strata, notes


def stratum_of(case: Case, by: Sequence[str]) -> Stratum:
    """The case's values in some columns; ("all",) for none."""
    return tuple(case.column(column) or ABSENT_VALUE for column in by) or ("all",)


def quotas(strata: Strata, fraction: float, taken: Mapping[str, str]) -> dict[Stratum, int]:
    """Units of each stratum that a part gets: largest remainders, so that the parts' total is right too.

    Args:
        strata: Each with at least two units.
        fraction: Of all units of a stratum, also those taken.
        taken: Units that another part has; of the others at least one stays in each stratum.
    """
    exact = {key: fraction * len(units) for key, units in strata.items()}
    room = {key: sum(unit not in taken for unit in units) - 1 for key, units in strata.items()}
    counts = {key: min(int(share), room[key]) for key, share in exact.items()}
    total = max(1, round(sum(exact.values())))
    for key in sorted(exact, key=lambda key: (counts[key] - exact[key], key)):
        if sum(counts.values()) < total and counts[key] < room[key]:
            counts[key] += 1
    return counts
