"""Figures of a plan: heat maps of models by what they are scored on, and curves of several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segan_pl.experiments.plan.cells import Point
from segan_pl.experiments.plan.comparisons import Reached
from segan_pl.report.charts import COLOURS as LINES
from segan_pl.report.figures import DASHES

Matrix = Mapping[tuple[str, str], float]
"""(trained on, scored on) to a Dice, 0 to 1; NaN, or nothing, where there is none."""

COLOURS = "viridis"
MARKERS = "osD^vP*X"
DARK, LIGHT = "#111111", "#ffffff"


def heat_map(panels: Mapping[str, Matrix], names: Sequence[str], *, blank: Mapping[tuple[str, str], str]) -> Figure:
    """One square for each panel, all on the scale 0 to 1, as SegAN-CAT's Figure 2 prints them.

    Args:
        panels: Title to numbers, the first ours.
        names: Modalities in the order of rows and columns.
        blank: What is written in a cell of the first panel that has no number, e.g. "failed".
    """
    side = 0.75 * len(names) + 0.9
    figure = Figure(figsize=(side * len(panels) + 0.6, side + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for number, (place, (title, matrix)) in enumerate(zip(axes, panels.items(), strict=True)):
        said = blank if number == 0 else {}
        values = [[matrix.get((row, column), math.nan) for column in names] for row in names]
        place.imshow(values, cmap=COLOURS, vmin=0, vmax=1)
        place.set_xticks(range(len(names)), [name.upper() for name in names], fontsize=8)
        place.set_yticks(range(len(names)), [name.upper() for name in names], fontsize=8)
        for row, name in enumerate(names):
            for column, other in enumerate(names):
                value, text, size = values[row][column], f"{values[row][column]:.2f}", 9
                if math.isnan(value):
                    text, size = said.get((name, other), "none").replace(" of ", "/"), 7
                place.text(column, row, text, ha="center", va="center", fontsize=size, color=ink(value))
        place.set_title(title, fontsize=10)
        place.set_xlabel("scored on")
        if number == 0:
            place.set_ylabel("trained on")
    return figure


def bands(panels: Mapping[str, Mapping[str, Sequence[Point]]]) -> Figure:
    """Curves by epoch, a line for the mean over the runs in a band of one standard deviation, as AlbuNet's Figure 4.

    Args:
        panels: What is drawn to its curves, name to points.
    """
    figure = Figure(figsize=(4.2 * max(1, len(panels)), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, series) in zip(
        figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels.items(), strict=False
    ):
        for number, (name, points) in enumerate(series.items()):
            epochs, means = [point.epoch for point in points], [point.mean for point in points]
            colour = LINES[number % len(LINES)]
            axes.plot(epochs, means, label=name, color=colour, linestyle=DASHES[number % len(DASHES)], linewidth=1.6)
            low, high = ([point.mean + sign * point.sd for point in points] for sign in (-1, 1))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return figure


def against(panels: Mapping[str, Mapping[str, Sequence[Reached]]], number: str, value: str) -> Figure:
    """A line for each series over a number, with bars of one standard deviation of the seeds.

    Args:
        panels: Region to series to its points.
        number: What the number is, on the axis.
        value: What the mean is of, on the axis.
    """
    figure = Figure(figsize=(4.2 * max(1, len(panels)) + 1.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    for axes, (region, series) in zip(places, panels.items(), strict=False):
        for name, points in series.items():
            style = names.index(name)
            axes.errorbar(
                [point.at for point in points],
                [point.mean for point in points],
                yerr=[point.sd for point in points],
                label=name,
                color=LINES[style % len(LINES)],
                linestyle=DASHES[style % len(DASHES)],
                marker=MARKERS[style % len(MARKERS)],
                markersize=4,
                capsize=2,
                linewidth=1.4,
            )
        axes.set_title(region.upper(), fontsize=10)
        axes.set_xlabel(number)
        axes.set_xticks(sorted({point.at for points in series.values() for point in points}))
        axes.grid(alpha=0.3)
    places[0].set_ylabel(value)
    if names:
        places[-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def ink(value: float) -> str:
    """Black or white, whichever is easier to see on the colour of a value (contrast as WCAG 2 defines it)."""
    if math.isnan(value):
        return DARK
    red, green, blue, _ = mpl.colormaps[COLOURS](value)
    return LIGHT if contrast((red, green, blue), (1, 1, 1)) > contrast((red, green, blue), (0, 0, 0)) else DARK


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """1 to 21, of two colours given as red, green and blue from 0 to 1 (WCAG 2)."""
    linear = [[p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in colour] for colour in (one, other)]
    dark, bright = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear)
    return (bright + 0.05) / (dark + 0.05)
