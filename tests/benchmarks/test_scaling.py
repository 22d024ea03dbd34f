"""The slopes of what grows: as worked by hand, and in the figure's legend."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scaling import HEAD, draw, slope
from segan_pl.files import csv_text


def test_a_slope_is_the_power_of_the_growth() -> None:
    assert slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert slope([8, 16], [5, 5]) == pytest.approx(0)


def test_slopes_of_both_are_printed_for_each_line_and_the_figure_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("width", "step", at, at, 10) for at in (1, 2, 4)] + [("patch", "step", at, at**2, at) for at in (8, 16)]
    (tmp_path / "points.csv").write_text(csv_text([dict(zip(HEAD, row, strict=True)) for row in rows]))
    draw(tmp_path / "points.csv", tmp_path / "scaling.png")
    assert "| width | step | 1.00 | 0.00 |\n| patch | step | 2.00 | 1.00 |" in capsys.readouterr().out
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
