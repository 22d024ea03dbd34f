"""Drawing a split: stratified, grouped by patient, seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from segan_pl.data.split_record import Grouped, Split, load_folds, save_folds
from segan_pl.data.strata import Draw, Strata, prepare_draw, quotas, shuffled
from segan_pl.data.volume import Case, CaseError

__all__ = ["Grouped", "Rounding", "Split", "load_folds", "save_folds", "stratified_split"]

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
) -> Split:
    """Part the patients at random, each stratum in proportion; the same seed and cases give the same split.

    With `rounding` "total" the parts' sizes are exact for the whole (of all patients in strata large enough), and
    within one patient of proportion in each stratum; smaller strata train. With "floor" each stratum is parted as
    SegAN-CAT's authors did: int(train * n) train, int(val / (val + test) * rest) validate, the rest tests (or, without
    a test part, validates), so a stratum of one patient does not train. A patient belongs to the stratum of the first
    scan by name.

    Args:
        cases: In any order.
        val_fraction: Of the patients, above 0.
        test_fraction: Of the patients, from 0.
        by: Columns of the case table whose combinations are the strata; one that no case has is left out and noted.
        seed: From 0.
        grouped: What stays on one side: all scans of a "patient", or only each "scan".
        together: Groups of case names that must share a side too, e.g. those with the same content.
        rounding: "total" or "floor".

    Raises:
        CaseError: Fractions that leave nothing to train on; training or validation would be empty.
        UsageError: An unknown column.
    """
    if not (val_fraction > 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise CaseError(
            f"--data.val_fraction {val_fraction} and --data.test_fraction {test_fraction}: expected val > 0, test >= 0 "
            f"and a sum below 1"
        )
    draw = prepare_draw(cases, by, seed, grouped, together)
    order = shuffled(draw.strata, np.random.default_rng(seed))
    parts = {"val": val_fraction} | ({"test": test_fraction} if test_fraction else {})
    sides, notes = (_floors if rounding == "floor" else _proportions)(draw, order, parts)
    split = draw.split(sides, notes)
    if not (split.val and split.train):
        what = "training" if split.val else "validation"
        raise CaseError(
            f"{len(cases)} cases in {len(order)} strata; {what} would be empty, since a stratum needs a {grouped} for "
            f"each of {len(parts) + 1} parts; stratify by less than {list(by)} or add cases"
        )
    return split


def _proportions(draw: Draw, order: Strata, parts: Mapping[str, float]) -> tuple[dict[str, str], list[str]]:
    """Unit to its part, by largest remainders; strata that cannot give each part one train, with a note."""
    large = {key: units for key, units in order.items() if len(units) > len(parts)}
    small = sorted(set(order) - set(large))
    notes = [
        f"stratum {' '.join(key)} has {len(order[key])} of {draw.counted(len(parts) + 1)}: all in training"
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
        val = int(round(parts["val"] / held_out, 12) * (len(units) - train))
        sides |= dict.fromkeys(units[train : train + val], "val") | dict.fromkeys(units[train + val :], "test")
        if train == 0:
            notes.append(f"stratum {' '.join(key)} has {draw.counted(len(units))}: none in training (rounded down)")
    return sides, notes
