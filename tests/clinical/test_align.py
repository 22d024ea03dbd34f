"""When a registration counts as failed, and what is warned of."""

from __future__ import annotations

import numpy as np
import pytest

from segan_pl.clinical import align
from segan_pl.data.io import held_volume
from segan_pl.data.synthetic.cohort import make_case
from tests.generators.dicom import centred, rigid

pytest.importorskip("SimpleITK")


@pytest.mark.parametrize(
    ("degrees", "shift_mm", "overlap", "information", "fault", "warning"),
    [
        (10, 10, 0.9, 0.2, "", ""),
        (10, 10, 0.9, 0.09, "", "a weak match: mutual information of 0.090, usual are 0.1 and more"),
        (30, 10, 0.9, 0.2, "", "an implausible motion was found: 30.0 degrees, 10.0 mm"),
        (60, 10, 0.9, 0.2, "turned it by 60 degrees and moved it by 10 mm, which no patient does", "implausible"),
        (10, 130, 0.9, 0.2, "turned it by 10 degrees and moved it by 130 mm, which no patient does", "implausible"),
        (10, 10, 0.6, 0.2, "left an overlap of the heads of 0.60, expected at least 0.7", ""),
        (10, 10, 0.9, 0.07, "found a mutual information of 0.070, expected at least 0.08", "weak"),
    ],
)
def test_a_motion_is_used_warned_of_or_refused_by_its_numbers(
    degrees: float,
    shift_mm: float,
    overlap: float,
    information: float,
    fault: str,
    warning: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(align, "_information", lambda *_: information)
    monkeypatch.setattr(align, "_overlap", lambda *_: overlap)
    motion = rigid((degrees, 0.0, 0.0), (shift_mm, 0.0, 0.0))
    found = align._judged(None, None, None, motion, np.zeros(3), "scanner", alone=False, same_frame=True)
    assert found.fault == fault
    assert warning in "; ".join(found.warnings)
    assert bool(found.warnings) == bool(warning)


def test_another_frame_of_reference_may_lie_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "_information", lambda *_: 0.2)
    monkeypatch.setattr(align, "_overlap", lambda *_: 0.9)
    far = rigid((0.0, 0.0, 0.0), (300.0, 0.0, 0.0))
    assert not align._judged(None, None, None, far, np.zeros(3), "moments", alone=False, same_frame=False).fault


@pytest.mark.slow
def test_noise_is_refused_and_a_head_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST": (8.0, 8000, 1), "SECOND": (4.0, 10_000, 1), "LAST": (2.0, 10_000, 1)}.items():
        monkeypatch.setattr(align, name, value)
    monkeypatch.setattr(align, "KEPT", 1)
    images = make_case(0, shape=(48, 72, 72), modalities=("t1ce", "t2")).images
    fixed, moving = (centred(images[name], 2.0) for name in ("t1ce", "t2"))
    noise = np.random.default_rng(0).gamma(2, 50, moving.shape).astype(np.float32)
    assert not align.align(fixed, moving).fault
    fault = align.align(fixed, held_volume(noise, moving.affine)).fault
    assert "mutual information" in fault or "which no patient does" in fault
