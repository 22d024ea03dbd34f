"""The figures of a plan: what is drawn is what was given, and can be read."""

from __future__ import annotations

import pytest

from segan_pl.experiments.plan.drawings import COLOURS, LIGHT, contrast, heat_map, ink


def test_the_numbers_of_the_heat_map_are_readable_on_every_colour() -> None:
    import matplotlib as mpl

    for step in range(101):
        back = mpl.colormaps[COLOURS](step / 100)[:3]
        front = (1.0, 1.0, 1.0) if ink(step / 100) == LIGHT else (0.067, 0.067, 0.067)
        assert contrast(back, front) >= 4  # WCAG asks for 3 of large text, 4.5 of small


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast((1, 0, 0), (1, 1, 1)) == pytest.approx(3.998, abs=1e-3)


def test_the_heat_map_writes_each_number_in_its_place() -> None:
    figure = heat_map({"here": {("t1", "t2"): 0.25}}, ["t1", "t2"], blank={("t2", "t1"): "failed"})
    (axes,) = figure.axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "none", (1, 0): "0.25", (0, 1): "failed", (1, 1): "none"}  # (column, row)
