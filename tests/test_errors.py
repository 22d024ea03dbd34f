"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from segan_pl.data.conventions import CONVENTIONS, label_convention
from segan_pl.errors import UsageError, closest

TISSUES = [f"val/{metric}_{name}" for metric in ("dice", "precision") for name in ("csf", "gm", "wm", "mean")]
SYSTEMS = ["segan_cat", "segan_dice", "unet2d", "unet3d", "albunet2d", "albunet3d"]


@pytest.mark.parametrize(
    ("name", "known", "meaning"),
    [
        ("val/dice_wt", TISSUES, "val/dice_mean"),
        ("val/precision_et", TISSUES, "val/precision_mean"),
        ("val/dice", TISSUES, "val/dice_mean"),
        ("val/dise_wm", TISSUES, "val/dice_wm"),
        ("val/dice_mw", TISSUES, "val/dice_wm"),
        ("val/dice_meen", TISSUES, "val/dice_mean"),
        ("val/dice_mean", ["val/dice_wt", "val/precision_wt"], "val/dice_wt"),
        ("accuracy", TISSUES, None),
        ("t3", ["t1", "t1ce", "t2", "flair"], None),
        ("T1CE", ["t1", "t1ce", "t2", "flair"], "t1ce"),
        ("unet4d", SYSTEMS, None),
        ("segan_kat", SYSTEMS, "segan_cat"),
        ("albunet", SYSTEMS, "albunet3d"),
        ("brats2031", CONVENTIONS, None),
        ("anything", [], None),
    ],
)
def test_a_slip_is_told_from_another_name(name: str, known: Sequence[str], meaning: str | None) -> None:
    assert closest(name, known) == meaning


@pytest.mark.parametrize(("year", "convention"), [(2016, "2015"), (2018, "2017"), (2020, "2017"), (2021, "2017")])
def test_a_year_is_known_by_the_labels_that_it_has_and_not_by_its_letters(year: int, convention: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean 'brats{convention}'"):
        label_convention(f"brats{year}")
