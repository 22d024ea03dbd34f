"""Figures of a report as SVG text or PNG bytes; matplotlib without pyplot, so no window and no shared state."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
OUTLINES = {"reference": "#ffd400", "prediction": "#00d5ff"}


@dataclass(frozen=True)
class Drawn:
    """A figure, the stem of its file, and what it shows in words."""

    name: str
    figure: Figure
    caption: str

    @cached_property
    def svg(self) -> str:
        """As text, drawn once: matplotlib's layout moves by a fraction of a point when a figure is drawn again."""
        return as_svg(self.figure)


def overlay(
    image: NDArray,
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    *,
    ignored: NDArray[np.bool_] | None = None,
    aspect: float = 1.0,
) -> Figure:
    """One slice (H, W) with the outlines of reference and prediction.

    Args:
        image: Any intensities; shown between their 1st and 99.5th percentile.
        reference: What should have been found.
        prediction: What was found.
        ignored: Where nothing is judged; tinted.
        aspect: Height of a pixel over its width.
    """
    height, width = image.shape
    figure = Figure(figsize=(3.2, max(1.2, 3.2 * height * aspect / width)), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    low, high = np.percentile(image.astype(np.float64), (1, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect, interpolation="nearest")
    if ignored is not None and ignored.any():
        tint = np.zeros((*image.shape, 4), np.float32)
        tint[ignored] = (0.5, 0.7, 1.0, 0.35)
        axes.imshow(tint, aspect=aspect, interpolation="nearest")
    for mask, colour, style in (
        (reference, OUTLINES["reference"], "solid"),
        (prediction, OUTLINES["prediction"], "dashed"),
    ):
        # a constant has no outline, and contour warns about it
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=1.3, linestyles=style)
    return figure


def three_slices(
    image: NDArray, mask: NDArray[np.bool_] | None, places: tuple[int, int, int], spacing: tuple[float, float, float]
) -> Figure:
    """Axial, coronal and sagittal slice next to each other, with the mask's outline.

    Args:
        image: (D, H, W), any intensities; shown between the 1st and 99.5th percentile of the three slices.
        mask: (D, H, W), or None.
        places: Slice along z, y and x.
        spacing: mm along z, y and x.
    """
    figure = Figure(figsize=(7.8, 2.6), dpi=90, facecolor="black")  # beyond a slice that is less high
    FigureCanvasAgg(figure)
    slices = [np.take(image, place, axis) for axis, place in enumerate(places)]
    low, high = np.percentile(np.concatenate([one.ravel() for one in slices]).astype(np.float64), (1, 99.5))
    for axis, one in enumerate(slices):
        rows, columns = (spacing[other] for other in range(3) if other != axis)
        axes = figure.add_axes((axis / 3, 0, 1 / 3, 1))
        axes.set_axis_off()
        # z runs up in the other two
        upwards: Literal["upper", "lower"] = "upper" if axis == 0 else "lower"
        axes.imshow(one, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=rows / columns, origin=upwards)
        outline = None if mask is None else np.take(mask, places[axis], axis)
        if outline is not None and outline.any() and not outline.all():
            axes.contour(outline, levels=[0.5], colors=OUTLINES["reference"], linewidths=1.0)
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as an <svg> element: the same figure, the same text; no font and no style from elsewhere."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "segan_pl", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "segan_pl"}, bbox_inches="tight")
    return text.getvalue()


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": "segan_pl"}, dpi=110)
    return content.getvalue()
