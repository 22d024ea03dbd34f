"""Curves and box plots of a report as SVG text, drawn by hand.

Matplotlib took 80 % of the time of a page of 30 runs, and its figures keep their own colours. These take the page's,
those of a dark page too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from markupsafe import escape

COLOURS = ("#0b5fa5", "#b3450b", "#1b7837", "#762a83", "#8c6d00", "#525252")
"""Told apart by people who do not see red and green as different, each at least 4.5 : 1 against white; style.css has
those for a dark page as --c0 to --c5."""
DASHES = ("", "6 3", "1.5 2.5", "8 2 2 2", "12 4")
INK = {"ink": "#1a1a1a", "quiet": "#4a4a4a", "line": "#c9c9c9"}
WIDTH, PANEL = 460.0, 220.0
"""Of a chart, and the height of its panel, in pixels; the same for all, so that they can be next to each other."""
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 10.0, 42.0
LETTER = 6.3
"""Mean width of a letter of 12 pixels, for the legend's rows."""
LEGEND_ROW = 18.0
NAMED = 8
"""Lines of a chart with a legend of its own; more names stand once, in `legend`."""
MARK = '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>segan_pl</dc:title></metadata>'
VARIABLE = re.compile(r"var\(--\w+, (#[0-9a-f]{6})\)")
Limits = tuple[float, float]
Points = Sequence[tuple[float, float]]
Pixels = Callable[[float], float]


@dataclass(frozen=True)
class Chart:
    """A chart, the stem of its file, and what it shows in words.

    Attributes:
        name: Of the file.
        drawn: An <svg> element whose colours are the page's.
        caption: Also for readers who cannot see it.
        wide: Whether it is wider than WIDTH, so that it scrolls in a box of its own.
    """

    name: str
    drawn: str
    caption: str
    wide: bool = False

    @property
    def svg(self) -> str:
        """For the page."""
        return self.drawn

    @cached_property
    def file(self) -> str:
        """For a file: no page gives it colours, and a later call knows it by its mark (`outputs.figure_of`)."""
        return VARIABLE.sub(r"\1", self.drawn).replace(">\n", f">\n{MARK}\n", 1)


def curves(
    series: Mapping[str, Points],
    *,
    xlabel: str,
    ylabel: str,
    limits: Limits | None = None,
    levels: Sequence[float] = (),
    logarithmic: bool = False,
) -> str:
    """One line for each name over (x, y) points; a single point is a dot; a thin dashed line at each level.

    Args:
        series: Name to points; none may be empty of finite numbers alone: such points are left out.
        xlabel: Whole numbers, e.g. epochs.
        ylabel: What is drawn.
        limits: Of the y axis; None for what the points need.
        levels: Of dashed lines.
        logarithmic: Leaves out points of 0 or less; a plain axis where no point is above 0.
    """
    logarithmic = logarithmic and any(y > 0 for points in series.values() for _, y in points)
    kept = {
        name: [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not logarithmic)]
        for name, points in series.items()
    }
    values = [y for points in kept.values() for _, y in points] + list(levels)
    steps = _decades(values) if logarithmic else _steps(*(limits or _around(values)), 5)
    places = [x for points in kept.values() for x, _ in points]
    x_steps = _whole_steps(min(places, default=0.0), max(places, default=1.0))
    x_of = _scale((min([*places, x_steps[0]]), max([*places, x_steps[-1]])), (LEFT, WIDTH - RIGHT))
    y_of = _scale((steps[0], steps[-1]), (TOP + PANEL, TOP), logarithmic=logarithmic)
    parts = list(_frame(WIDTH, ylabel, [(y_of(step), _text(step)) for step in steps]))
    parts += [_words(x_of(step), TOP + PANEL + 16, _text(step)) for step in x_steps]
    parts.append(_words((LEFT + WIDTH - RIGHT) / 2, TOP + PANEL + 34, xlabel))
    for level in dict.fromkeys(levels):
        parts.append(_line(LEFT, y_of(level), WIDTH - RIGHT, y_of(level), "quiet", dash="4 3"))
    for number, (name, points) in enumerate(kept.items()):
        at = [f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points]
        if len(at) == 1:
            x, y = at[0].split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" style="fill:{_colour(number)}">{_title(name)}</circle>')
        elif at:
            style = f"fill:none;stroke:{_colour(number)};stroke-width:1.8;stroke-linejoin:round"
            parts.append(f'<polyline points="{" ".join(at)}" style="{style}"{_dash(number)}>{_title(name)}</polyline>')
    return _whole(WIDTH, parts, list(series))


def boxes(
    groups: Mapping[str, Mapping[str, Sequence[float]]], *, ylabel: str, limits: Limits | None = None
) -> tuple[str, bool]:
    """Box plots (quartiles, median, whiskers to 1.5 times their distance) with every case as a dot.

    Args:
        groups: Region to run to the cases' values; NaN is left out. A group or a run without any keeps its place.
        ylabel: The metric.
        limits: Of the y axis; None for what the values need.

    Returns:
        The chart, and whether it is wider than others.
    """
    runs = list(dict.fromkeys(run for values in groups.values() for run in values))
    values = [v for group in groups.values() for some in group.values() for v in some if not math.isnan(v)]
    steps = _steps(*(limits or _around([*values, 0.0])), 5)
    slots = (len(runs) + 0.8) * len(groups)
    slot = max(15.0, min(46.0, (WIDTH - LEFT - RIGHT) / max(slots, 1)))
    width = max(WIDTH, LEFT + RIGHT + slot * slots)
    slot = (width - LEFT - RIGHT) / max(slots, 1)
    y_of = _scale((steps[0], steps[-1]), (TOP + PANEL, TOP))
    parts = list(_frame(width, ylabel, [(y_of(step), _text(step)) for step in steps]))
    spread = np.random.default_rng(0)  # how far the dots are spread next to each other
    for place, (region, group) in enumerate(groups.items()):
        start = LEFT + slot * (place * (len(runs) + 0.8) + 0.4)
        parts.append(_words(start + slot * len(runs) / 2, TOP + PANEL + 16, region))
        for number, run in enumerate(runs):
            there = sorted(v for v in group.get(run, ()) if not math.isnan(v))
            middle, half = start + slot * (number + 0.5), min(slot * 0.36, 18.0)
            if there:
                offsets = spread.uniform(-half * 0.6, half * 0.6, len(there)).tolist()
                dots = [(middle + offset, y_of(value)) for offset, value in zip(offsets, there, strict=True)]
                parts.append(_box(middle, half, there, y_of, number, run, dots))
            else:
                parts.append(_words(middle, TOP + PANEL - 6, "n/a", colour="quiet"))
    return _whole(width, parts, runs if len(runs) > 1 else []), width > WIDTH


def legend(names: Sequence[str]) -> str:
    """The lines of many names, once for all charts."""
    rows, height = _legend(names, WIDTH, 4.0)
    return _svg(WIDTH, height + 4, rows)


def _box(
    middle: float, half: float, there: list[float], y_of: Pixels, number: int, run: str, dots: Iterable[Limits]
) -> str:
    q1, median, q3 = np.percentile(there, (25, 50, 75)).tolist()
    reach = 1.5 * (q3 - q1)
    low, high = min(v for v in there if v >= q1 - reach), max(v for v in there if v <= q3 + reach)
    y1, y3 = y_of(q1), y_of(q3)
    marks = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in dots)
    lines = (
        f"M{middle - half:.1f} {y3:.1f}h{2 * half:.1f}v{y1 - y3:.1f}h{-2 * half:.1f}z"
        f"M{middle - half:.1f} {y_of(median):.1f}h{2 * half:.1f}"
        f"M{middle:.1f} {y3:.1f}V{y_of(high):.1f}M{middle:.1f} {y1:.1f}V{y_of(low):.1f}"
    )
    colour = _colour(number)
    return (
        f'<path d="{marks}" style="fill:none;stroke:{colour};stroke-width:5;stroke-linecap:round;opacity:.5"></path>'
        f'<path d="{lines}" style="fill:none;stroke:{colour};stroke-width:1.6">{_title(run)}</path>'
    )


def _frame(width: float, ylabel: str, steps: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Axes, the y axis's numbers with their lines, and its label."""
    for y, text in steps:
        yield _line(LEFT, y, width - RIGHT, y, "line", wide=0.7)
        yield _words(LEFT - 6, y + 4, text, anchor="end")
    yield _line(LEFT, TOP, LEFT, TOP + PANEL, "quiet")
    yield _line(LEFT, TOP + PANEL, width - RIGHT, TOP + PANEL, "quiet")
    middle = TOP + PANEL / 2
    # a long label in two rows
    words, cut = ylabel, len(ylabel)
    if len(ylabel) * LETTER > PANEL + 10:
        cut = ylabel.rfind(" ", 0, len(ylabel) // 2 + 8)
        cut = cut if cut > 0 else len(ylabel)
    for number, part in enumerate(one for one in (words[:cut], words[cut + 1 :]) if one):
        x = (12 if cut == len(ylabel) else 10) + 13 * number
        yield (
            f'<text x="{x}" y="{middle:.0f}" transform="rotate(-90 {x} {middle:.0f})" text-anchor="middle" '
            f'style="fill:{_ink("ink")}">{escape(part)}</text>'
        )


def _whole(width: float, parts: list[str], names: Sequence[str]) -> str:
    height = TOP + PANEL + BOTTOM
    if 1 < len(names) <= NAMED:
        rows, more = _legend(names, width, height)
        parts, height = [*parts, *rows], height + more
    return _svg(width, height, parts)


def _legend(names: Sequence[str], width: float, top: float) -> tuple[list[str], float]:
    """Names with their lines, as many in a row as there is room for, and the height of all."""
    parts, x, y = [], LEFT if top > LEGEND_ROW else 4.0, top + 8
    for number, name in enumerate(names):
        wide = 30 + len(name) * LETTER + 14
        if x > LEFT and x + wide > width:
            x, y = LEFT if top > LEGEND_ROW else 4.0, y + LEGEND_ROW
        style = f"stroke:{_colour(number)};stroke-width:2.2"
        parts.append(f'<path d="M{x:.0f} {y:.0f}h24" style="{style}"{_dash(number)}></path>')
        parts.append(_words(x + 29, y + 4, name, anchor="start"))
        x += wide
    return parts, y + LEGEND_ROW - top - 4


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    font = "font-family:system-ui,'Segoe UI',Roboto,Arial,sans-serif;font-size:12px"
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} style="{font}">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _words(x: float, y: float, text: str, *, anchor: str = "middle", colour: str = "ink") -> str:
    style = f"fill:{_ink(colour)}"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, wide: float = 1, dash: str = "") -> str:
    style = f"stroke:{_ink(colour)};stroke-width:{wide}" + (f";stroke-dasharray:{dash}" if dash else "")
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" style="{style}"></path>'


def _title(name: str) -> str:
    """What a browser shows where the pointer is on a line."""
    return f"<title>{escape(name)}</title>"


def _colour(number: int) -> str:
    place = number % len(COLOURS)
    return f"var(--c{place}, {COLOURS[place]})"


def _ink(name: str) -> str:
    return f"var(--{name}, {INK[name]})"


def _dash(number: int) -> str:
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _scale(of: Limits, onto: Limits, *, logarithmic: bool = False) -> Pixels:
    """From values to pixels; values beyond the limits are held at them."""
    low, high = map(math.log10, of) if logarithmic else of
    size = (onto[1] - onto[0]) / ((high - low) or 1.0)

    def pixels(value: float) -> float:
        there = math.log10(value) if logarithmic else value
        return onto[0] + (min(max(there, low), high) - low) * size

    return pixels


def _around(values: Sequence[float]) -> Limits:
    """What finite values need; a range of its own around a single one."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5))


def _steps(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers from at most `low` to at least `high`, 1, 2 or 5 times a power of ten apart."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def _whole_steps(low: float, high: float) -> list[float]:
    """Whole numbers, about six; the same number twice is no axis."""
    first, last = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    step = max(1, round(_steps(first, last, 6)[1] - _steps(first, last, 6)[0]))
    return [float(place) for place in range(first, last + 1) if place % step == 0]


def _decades(values: Sequence[float]) -> list[float]:
    positive = [value for value in values if value > 0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    step = max(1, math.ceil((high - low) / 8))
    return [10.0**power for power in range(low, max(high, low + 1) + step, step)]


def _text(value: float) -> str:
    """A number on an axis."""
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if 0 < abs(value) < 1e-3 else f"{value:g}"
