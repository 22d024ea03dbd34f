"""Series sorted into visits, and the brain mask that belongs to each."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.clinical.series import Header, Series
from segan_pl.clinical.visits import find_visits


def series(visit: str) -> Series:
    return Series(f"s{visit}", "Meier", visit, (), Header("t1", order=visit), 26, (1.0, 1.0, 5.0))


@pytest.mark.parametrize("name", ["Meier", "P001", "P001_v1"])
def test_a_mask_is_called_like_the_case_or_the_patient_of_one_visit(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.nii.gz").touch()
    (visit,) = find_visits([series("1")], {"Meier": "P001"}, masks=tmp_path).visits
    assert visit.mask == tmp_path / f"{name}.nii.gz"


def test_one_mask_is_not_used_for_several_visits(tmp_path: Path) -> None:
    for name in ("Meier", "P001", "P001_v2"):
        (tmp_path / f"{name}.nii.gz").touch()
    first, second = find_visits([series("1"), series("2")], {"Meier": "P001"}, masks=tmp_path).visits
    assert first.mask is None
    assert second.mask == tmp_path / "P001_v2.nii.gz"
