"""A test part of all cases that share a value of a column, e.g. of one scanner, which training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.record import Grouped, Split, case_digest
from segan_pl.data.split.strata import require_columns, units_of
from segan_pl.errors import UsageError


def part_held_out(
    cases: Sequence[Case], held_out: str, *, grouped: Grouped = "patient", together: Sequence[Sequence[str]] = ()
) -> tuple[list[Case], list[Case]]:
    """The cases that a split is drawn from, and those that are held out.

    Args:
        cases: In any order.
        held_out: COLUMN=VALUE of the case table, e.g. "institution=C".
        grouped: What stays on one side: a patient with one scan of the value is held out with all of them.
        together: As in `stratified_split`.

    Raises:
        CaseError: No case is left.
        UsageError: It is no COLUMN=VALUE, or no case has that column or value.
    """
    column, equals, value = held_out.partition("=")
    if not (column and equals and value):
        raise UsageError(f"--hold_out {held_out}: expected COLUMN=VALUE, e.g. institution=C")
    require_columns(cases, [column], f"--hold_out {held_out}: the case table has no column")
    units = units_of(cases, grouped, together)
    held = {units[case.name] for case in cases if case.column(column) == value}
    if not held:
        there = sorted({found for case in cases if (found := case.column(column))})
        have = f"they have {', '.join(there)}" if there else "no case has that column"
        raise UsageError(f"--hold_out {held_out}: no case with a mask has that value; {have}")
    rest = [case for case in cases if units[case.name] not in held]
    if not rest:
        raise CaseError(f"--hold_out {held_out}: all {len(cases)} cases have it, none is left to train; choose another")
    return rest, [case for case in cases if units[case.name] in held]


def with_held_out(split: Split, cases: Sequence[Case], held: Sequence[Case], held_out: str) -> Split:
    """A split of the rest, with the held-out cases as its test part.

    Args:
        split: Drawn from the rest.
        cases: That it was drawn from.
        held: As `part_held_out`.
        held_out: As there.
    """
    return replace(
        split,
        test=tuple(sorted(case.name for case in held)),
        digest=case_digest([*cases, *held]),
        held_out=held_out,
        notes=(*split.notes, f"{len(held)} cases are the test part (--hold_out {held_out})"),
    )
