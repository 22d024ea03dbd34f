"""The papers' proportions by name; not their draws, for no list of cases was published: the seed is the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segan_pl.data.case import Case
from segan_pl.data.split import mondal
from segan_pl.data.split.drawing import Rounding, stratified_folds, stratified_split
from segan_pl.data.split.record import Grouped, Split
from segan_pl.errors import UsageError, nearest


@dataclass(frozen=True)
class Preset:
    """How a paper, or its code, parted its cases.

    Attributes:
        source: Where the numbers are from, and what they gave.
        by: Columns of the case table.
        val: Fraction for validation.
        test: Fraction for the test part.
        rounding: As in `stratified_split`.
        folds: One fold of so many is the validation part, instead of a fraction; 0 for none.
    """

    source: str
    by: tuple[str, ...] = ()
    val: float = 0.2
    test: float = 0.0
    rounding: Rounding = "floor"
    folds: int = 0


PRESETS = {
    # prepare_brats2015: per grade int(0.8 n) train, int(0.5 rest) validate. It parted scans, so patients leak: that is
    # --group scan here.
    "segan_cat_2015": Preset(
        "SegAN-CAT's code, BraTS 2015: 80/10/10 per grade; 219/27/28 of 274 scans with --group scan",
        by=("grade",),
        val=0.1,
        test=0.1,
    ),
    # Tables I to III: the models are scored on validation and test together, which chose the checkpoint.
    "segan_cat_2015_paper": Preset(
        "SegAN-CAT, section IV, BraTS 2015: 80/20, validation and test merged; 219/55 with --group scan", by=("grade",)
    ),
    # Per grade and site int(0.9 n) train; the paper says 80/20, its code and its counts do not.
    "segan_cat_2019": Preset(
        "SegAN-CAT's code, BraTS 2019: 90/10 per grade and site, rounded down; 294/41, no test part",
        by=("grade", "institution"),
        val=0.1,
    ),
    # After the paper. That the rest is halved, rounded down, is ours: it is the rule that can give 227/49/59.
    "segan_cat_2019_v2": Preset(
        "SegAN-CAT's code of April 2020, BraTS 2019: 70/15/15 per grade and site; 227/49/59",
        by=("grade", "institution"),
        val=0.15,
        test=0.15,
    ),
    # get_split_deterministic(fold=0, num_splits=5, random_state=seed): the split changes with the run's seed.
    "albunet": Preset("AlbuNet's code, BraTS 2017: fold 0 of 5, --seed is the run's; 228/57 of 285", folds=5),
    "reciprocal": Preset("Reciprocal adversarial learning, paper, BraTS 2021: 80/20; 1000/251 of 1251"),
    # KFold(10, shuffle=True, random_state=16111990), fold 0: the paper says 80/20.
    "reciprocal_code": Preset("Reciprocal adversarial learning, code, BraTS 2021: fold 0 of 10; 1125/126", folds=10),
}


def preset_split(
    name: str,
    cases: Sequence[Case],
    *,
    seed: int,
    grouped: Grouped = "patient",
    together: Sequence[Sequence[str]] = (),
) -> Split:
    """One split in a paper's proportions.

    Args:
        name: A key of PRESETS.
        cases: In any order.
        seed: From 0.
        grouped: As in `stratified_split`; the papers parted scans.
        together: As in `stratified_split`.

    Raises:
        CaseError: As `stratified_split` or `stratified_folds`.
        UsageError: No such preset.
    """
    preset = find_preset(name)
    if preset.folds:
        options = {"folds": preset.folds, "by": preset.by, "seed": seed, "grouped": grouped, "together": together}
        return stratified_folds(cases, **options)[0]  # type: ignore[arg-type]
    return stratified_split(
        cases,
        val_fraction=preset.val,
        test_fraction=preset.test,
        by=preset.by,
        seed=seed,
        grouped=grouped,
        together=together,
        rounding=preset.rounding,
    )


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: No such preset, with the nearest.
    """
    if name not in PRESETS:
        raise UsageError(f"--preset {name}: no such preset; {nearest(name, [*PRESETS, mondal.NAME])}")
    return PRESETS[name]
