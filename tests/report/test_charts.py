"""Charts as SVG: where lines, boxes and numbers are, read from the drawing itself."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from segan_pl.report.charts import COLOURS, NAMED, PANEL, TOP, WIDTH, Chart, boxes, curves, legend

SVG = "{http://www.w3.org/2000/svg}"
BOTTOM = TOP + PANEL


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """The points of each line, in pixels."""
    found = ElementTree.fromstring(svg).iter(f"{SVG}polyline")
    return [[tuple(map(float, one.split(","))) for one in line.attrib["points"].split()] for line in found]


def words(svg: str) -> dict[str, tuple[float, float]]:
    """Each text and where it is."""
    found = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return {one.text or "": (float(one.attrib["x"]), float(one.attrib["y"])) for one in found}


def test_a_line_goes_from_corner_to_corner_of_fixed_limits():
    (line,) = lines(curves({"a": [(0, 0.0), (5, 0.5), (10, 1.0)]}, xlabel="epoch", ylabel="y", limits=(0, 1)))
    assert [y for _, y in line] == [BOTTOM, TOP + PANEL / 2, TOP]
    assert line[1][0] == pytest.approx((line[0][0] + line[2][0]) / 2, abs=0.1)


def test_limits_are_the_same_whatever_the_values():
    low = words(curves({"a": [(0, 0.81), (9, 0.82)]}, xlabel="epoch", ylabel="y", limits=(0, 1)))
    assert low["0.2"][1] == pytest.approx(BOTTOM + 4 - PANEL * 0.2, abs=0.1)
    assert low["0.8"][1] == pytest.approx(BOTTOM + 4 - PANEL * 0.8, abs=0.1)


@pytest.mark.parametrize("last", [0, 1, 2, 3, 7, 40, 999])
def test_epochs_are_whole_numbers_and_each_is_there_once(last):
    svg = curves({"a": [(epoch, 1.0 + epoch) for epoch in range(last + 1)]}, xlabel="epoch", ylabel="y")
    found = [one.text for one in ElementTree.fromstring(svg).iter(f"{SVG}text") if float(one.attrib["y"]) > BOTTOM + 10]
    epochs = [one for one in found if one != "epoch"]
    assert all(one.isdigit() for one in epochs)
    assert len(epochs) == len(set(epochs)) > 1


def test_a_logarithmic_axis_leaves_out_what_it_has_no_place_for():
    (line,) = lines(curves({"a": [(0, 0.01), (1, 0.0), (2, 1.0)]}, xlabel="x", ylabel="y", logarithmic=True))
    assert [y for _, y in line] == [BOTTOM, TOP]
    # without a value above 0 it is a plain one
    (flat,) = lines(curves({"a": [(0, 0.0), (1, 0.0)]}, xlabel="x", ylabel="y", logarithmic=True))
    assert len(flat) == 2


def test_points_that_are_no_number_are_left_out():
    (line,) = lines(curves({"a": [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]}, xlabel="x", ylabel="y"))
    assert len(line) == 2


def test_a_group_or_a_run_without_a_value_keeps_its_place():
    svg, wide = boxes({"WT": {"a": [1.0, 2.0], "b": [], "c": [math.nan]}, "TC": {"a": []}}, ylabel="theirs")
    assert not wide
    found = words(svg)
    assert found["WT"][0] < found["TC"][0]
    assert sum(one.text == "n/a" for one in ElementTree.fromstring(svg).iter(f"{SVG}text")) == 5
    assert "WT" in words(boxes({"WT": {}}, ylabel="nothing at all")[0])


def test_a_box_is_quartiles_and_median():
    svg, _ = boxes({"WT": {"a": [0.0, 0.25, 0.5, 0.75, 1.0]}}, ylabel="Dice", limits=(0, 1))
    (drawn,) = [one for one in ElementTree.fromstring(svg).iter(f"{SVG}path") if one.find(f"{SVG}title") is not None]
    upper, height = TOP + PANEL / 4, PANEL / 2
    assert f" {upper:.1f}h" in drawn.attrib["d"]
    assert f"v{height:.1f}h" in drawn.attrib["d"]
    assert drawn.attrib["d"].endswith(f"V{BOTTOM:.1f}")  # the whisker


def test_many_boxes_make_a_wide_chart_and_many_names_a_legend_of_their_own():
    runs = {f"run {number}": [0.5, 0.6] for number in range(40)}
    svg, wide = boxes({"WT": runs}, ylabel="Dice")
    assert wide
    assert float(ElementTree.fromstring(svg).attrib["width"]) > WIDTH
    assert "run 3" not in words(svg)
    series = {name: [(0, 1.0), (1, 2.0)] for name in list(runs)[: NAMED + 1]}
    assert "run 3" not in words(curves(series, xlabel="x", ylabel="y"))
    assert set(series) <= set(words(legend(list(series))))


def test_a_file_has_colours_of_its_own_and_a_mark_and_names_stay_text():
    chart = Chart("a", curves({"<b> & $x$": [(0, 1.0), (1, 2.0)], "c": [(0, 1.0)]}, xlabel="x", ylabel="y"), "words")
    assert "var(--c0, " in chart.svg
    assert "var(" not in chart.file
    assert COLOURS[0] in chart.file
    assert "<dc:title>segan_pl</dc:title>" in chart.file
    assert "<b> & $x$" in words(chart.file)
