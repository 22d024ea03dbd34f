"""Figure 2 as SegAN-CAT prints it: a model of each modality scored on every modality, a heat map with its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Matrix = Mapping[tuple[str, str], float]
"""(trained on, scored on) to a Dice, 0 to 1; NaN, or nothing, where there is none."""

COLOURS = "viridis"
DARK, LIGHT = "#111111", "#ffffff"


def heat_map(panels: Mapping[str, Matrix], names: Sequence[str], *, blank: Mapping[tuple[str, str], str]) -> Figure:
    """One square a panel, all on the scale 0 to 1.

    Args:
        panels: Title to numbers, the first ours.
        names: Modalities in the order of rows and columns.
        blank: What stands in a cell of the first panel that has no number, e.g. "failed".
    """
    side = 0.75 * len(names) + 0.9
    figure = Figure(figsize=(side * len(panels) + 0.6, side + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for number, (place, (title, matrix)) in enumerate(zip(axes, panels.items(), strict=True)):
        _panel(place, matrix, names, blank if number == 0 else {})
        place.set_title(title, fontsize=10)
        place.set_xlabel("scored on")
        if number == 0:
            place.set_ylabel("trained on")
    return figure


def _panel(axes: Axes, matrix: Matrix, names: Sequence[str], blank: Mapping[tuple[str, str], str]) -> None:
    values = [[matrix.get((row, column), math.nan) for column in names] for row in names]
    axes.imshow(values, cmap=COLOURS, vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), [name.upper() for name in names], fontsize=8)
    axes.set_yticks(range(len(names)), [name.upper() for name in names], fontsize=8)
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            value = values[row][column]
            empty = math.isnan(value)
            text = blank.get((name, other), "none").replace(" of ", "/") if empty else f"{value:.2f}"
            size = 7 if empty else 9
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink(value))


def ink(value: float) -> str:
    """Black or white, whichever stands out more from the colour of a value (contrast as WCAG 2 defines it)."""
    if math.isnan(value):
        return DARK
    red, green, blue, _ = mpl.colormaps[COLOURS](value)
    return LIGHT if contrast((red, green, blue), (1, 1, 1)) > contrast((red, green, blue), (0, 0, 0)) else DARK


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """1 to 21, of two colours given as red, green and blue from 0 to 1 (WCAG 2)."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: Sequence[float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
