"""Drawing the folds of a cross-validation, nested or not: stratified, grouped by patient, seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segan_pl.data.split_record import Grouped, Split
from segan_pl.data.strata import Draw, Strata, prepare_draw, quotas, shuffled
from segan_pl.data.volume import Case, CaseError
from segan_pl.errors import UsageError


def stratified_folds(
    cases: Sequence[Case],
    *,
    folds: int,
    nested: int = 0,
    test_fraction: float = 0.0,
    by: Sequence[str] = ("grade", "institution"),
    seed: int,
    grouped: Grouped = "patient",
    together: Sequence[Sequence[str]] = (),
) -> list[Split]:
    """Part the patients into folds; each patient validates once (nested: tests once, and validates once an outer fold).

    The strata follow one another in order, their patients shuffled, and are dealt out like cards: so each fold's
    number of patients is within one of every other's, in all, in each stratum and in each value of the first column,
    and small strata do not all begin with fold 0.

    Args:
        cases: In any order.
        folds: At least 2.
        nested: Inner folds of each outer one, at least 2; 0 for none. An outer fold is then the test part of its inner
            splits, which are listed outer 0 inner 0, outer 0 inner 1, ...
        test_fraction: Of the patients, the same test part in all folds; not together with `nested`.
        by: As in `splits.stratified_split`.
        seed: From 0.
        grouped: As there.
        together: As there.

    Raises:
        CaseError: Fewer patients than folds.
        UsageError: Impossible numbers, or an unknown column.
    """
    _require_possible(folds, nested, test_fraction)
    draw = prepare_draw(cases, by, seed, grouped, together)
    order = shuffled(draw.strata, np.random.default_rng(seed))
    if nested:
        notes = _notes_on_small(draw, order, folds, "folds")
        outer = enumerate(_dealt(order, folds))
        return [split for number, held in outer for split in _inner(draw, number, held, nested, notes)]
    test, notes = _test_part(draw, order, test_fraction)
    left = _rest(order, test)
    notes += _notes_on_small(draw, left, folds, "folds")
    dealt = enumerate(_dealt(left, folds))
    return [draw.split(test | dict.fromkeys(held, "val"), notes, f"fold {number}") for number, held in dealt]


def _inner(draw: Draw, outer: int, held: Sequence[str], folds: int, notes: Sequence[str]) -> list[Split]:
    """The inner splits of one outer fold, whose patients are the test part."""
    test = dict.fromkeys(held, "test")
    order = shuffled(_rest(draw.strata, test), np.random.default_rng([draw.seed, outer]))
    notes = [*notes, *_notes_on_small(draw, order, folds, "inner folds")]
    dealt = enumerate(_dealt(order, folds))
    return [
        draw.split(test | dict.fromkeys(units, "val"), notes, f"outer {outer} inner {number}")
        for number, units in dealt
    ]


def _test_part(draw: Draw, order: Strata, fraction: float) -> tuple[dict[str, str], list[str]]:
    """The units of the test part, by largest remainders; a stratum of one unit gives none, with a note."""
    if not fraction:
        return {}, []
    large = {key: units for key, units in order.items() if len(units) > 1}
    counts = quotas(large, fraction, {}) if large else {}
    if not any(counts.values()):
        raise CaseError(f"{len(draw.cases)} cases in {len(order)} strata; the test part would be empty; leave it out")
    notes = [
        f"stratum {' '.join(key)} has {draw.counted(1)}: not in the test part" for key in order if key not in large
    ]
    return {unit: "test" for key, count in counts.items() for unit in order[key][:count]}, notes


def _rest(order: Strata, taken: dict[str, str]) -> Strata:
    return {key: [unit for unit in units if unit not in taken] for key, units in order.items()}


def _dealt(strata: Strata, folds: int) -> list[list[str]]:
    """Every unit of every stratum to the folds in turn."""
    row = [unit for units in strata.values() for unit in units]
    return [row[first::folds] for first in range(folds)]


def _require_possible(folds: int, nested: int, test_fraction: float) -> None:
    if folds < 2 or nested == 1 or nested < 0:
        raise UsageError(f"{folds} folds, {nested} inner folds; expected at least 2 (inner: 0 for none)")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"test {test_fraction} of the cases; expected from 0 to below 1")
    if nested and test_fraction:
        raise UsageError("nested folds have the outer folds as test parts; leave the test fraction out")


def _notes_on_small(draw: Draw, strata: Strata, folds: int, what: str) -> list[str]:
    """Notes on the strata that do not reach every validation part.

    Raises:
        CaseError: There are fewer units than folds.
    """
    if (total := sum(map(len, strata.values()))) < folds:
        raise CaseError(
            f"{draw.counted(total)} for {folds} {what}; validation would be empty in {folds - total}; use fewer folds "
            f"or add cases"
        )
    return [
        f"stratum {' '.join(key)} has {draw.counted(len(units))} for {folds} {what}: not in every validation part"
        for key, units in strata.items()
        if 0 < len(units) < folds
    ]
