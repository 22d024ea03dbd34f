"""Drawing a split, or the folds of a cross-validation, nested or not: stratified, grouped by patient, seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.record import Grouped, Split, Val, load_folds, save_folds
from segan_pl.data.split.strata import Draw, Strata, prepare_draw, quotas, shuffled
from segan_pl.errors import UsageError

__all__ = ["Grouped", "Rounding", "Split", "Val", "load_folds", "save_folds", "stratified_split"]

Rounding = Literal["total", "floor"]


def stratified_split(
    cases: Sequence[Case],
    *,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    by: Sequence[str] = ("grade", "institution"),
    seed: int,
    grouped: Grouped = "patient",
    together: Sequence[Sequence[str]] = (),
    rounding: Rounding = "total",
    val: Val = "needed",
) -> Split:
    """Part the patients at random, each stratum in proportion; the same seed and cases give the same split.

    With `rounding` "total" the parts' sizes are exact for the whole (of all patients in strata large enough), and
    within one patient of proportion in each stratum; smaller strata train. With "floor" each stratum is parted as
    SegAN-CAT's authors did: int(train * n) train, int(val / (val + test) * rest) validate, the rest tests (or, without
    a test part, validates), so a stratum of one patient does not train. A patient belongs to the stratum of the first
    scan by name.

    Args:
        cases: In any order.
        val_fraction: Of the patients, above 0; 0 asks for a split without validation where `val` allows it.
        test_fraction: Of the patients, from 0.
        by: Columns of the case table whose combinations are the strata; one that no case has is left out and noted.
        seed: From 0.
        grouped: What stays on one side: all scans of a "patient", or only each "scan".
        together: Groups of case names that must share a side too, e.g. those with the same content.
        rounding: "total" or "floor".
        val: Whether a fraction of 0 is one: "free".

    Raises:
        CaseError: Training or validation would be empty.
        UsageError: Impossible fractions, or an unknown column.

    Example:
        >>> cases = [Case(f"{patient}_{scan}", patient, {}) for patient in "abcde" for scan in "12"]
        >>> split = stratified_split(cases, val_fraction=0.4, by=(), seed=0)
        >>> len(split.train), len(split.val)  # scans; both of a patient are on one side
        (6, 4)
    """
    least = val_fraction >= 0 if val == "free" else val_fraction > 0
    if not (least and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise UsageError(
            f"--data.val_fraction {val_fraction} and --data.test_fraction {test_fraction}: expected val "
            f"{'>= 0' if val == 'free' else '> 0'}, test >= 0 and a sum below 1"
        )
    draw = prepare_draw(cases, by, seed, grouped, together)
    order = shuffled(draw.strata, np.random.default_rng(seed))
    fractions = {"val": val_fraction, "test": test_fraction}
    parts = {part: fraction for part, fraction in fractions.items() if fraction}
    sides, notes = (_floors if rounding == "floor" and parts else _proportions)(draw, order, parts)
    split = draw.split(sides, notes)
    if not (split.train and (split.val or not val_fraction)):
        what = "validation" if val_fraction and not split.val else "training"
        raise CaseError(
            f"{len(cases)} cases in {len(order)} strata; {what} would be empty, since a stratum needs a {grouped} for "
            f"each of {len(parts) + 1} parts; stratify by less than {list(by)} (--data.stratify_by) or add cases"
        )
    return split


def _proportions(draw: Draw, order: Strata, parts: Mapping[str, float]) -> tuple[dict[str, str], list[str]]:
    """Unit to its part, by largest remainders; strata that cannot give each part one train, with a note."""
    large = {key: units for key, units in order.items() if len(units) > len(parts)}
    small = sorted(set(order) - set(large))
    notes = [
        f"stratum {' '.join(key)} has {len(order[key])} of the {draw.counted(len(parts) + 1)} that a split takes: "
        f"all in training"
        for key in small
    ]
    sides: dict[str, str] = {}
    for part, fraction in parts.items() if large else ():
        for key, count in quotas(large, fraction, sides).items():
            free = [unit for unit in large[key] if unit not in sides]
            sides |= dict.fromkeys(free[:count], part)
    return sides, notes


def _floors(draw: Draw, order: Strata, parts: Mapping[str, float]) -> tuple[dict[str, str], list[str]]:
    """Unit to its part, each stratum rounded down by itself (SegAN-CAT's code for 2015 and 2019)."""
    held_out = sum(parts.values())
    sides: dict[str, str] = {}
    notes = []
    for key, units in order.items():
        train = int(round(1 - held_out, 12) * len(units))
        val = int(round(parts.get("val", 0.0) / held_out, 12) * (len(units) - train))
        sides |= dict.fromkeys(units[train : train + val], "val") | dict.fromkeys(units[train + val :], "test")
        if train == 0:
            notes.append(f"stratum {' '.join(key)} has {draw.counted(len(units))}: none in training (rounded down)")
    return sides, notes


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
    if folds < 2 or nested == 1 or nested < 0:
        raise UsageError(f"{folds} folds, {nested} inner folds; expected at least 2 (inner: 0 for none)")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"test {test_fraction} of the cases; expected from 0 to below 1")
    if nested and test_fraction:
        raise UsageError("nested folds have the outer folds as test parts; leave the test fraction out")
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
    """Every unit of every stratum to one fold after another."""
    row = [unit for units in strata.values() for unit in units]
    return [row[first::folds] for first in range(folds)]


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
