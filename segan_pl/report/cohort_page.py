"""A data set before training, on one page: middle slices with the mask's outline, intensities, tumour volumes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl import __version__
from segan_pl.data.case_table import CaseRow
from segan_pl.data.checking import CheckReport
from segan_pl.data.checks import MASK, labels_of
from segan_pl.data.io import Volume, read_volume, same_grid
from segan_pl.data.progress import shown
from segan_pl.data.volume import CaseError
from segan_pl.report import figures, html
from segan_pl.report.overlays import volume_of

BINS = np.linspace(0, 1, 41)
PREFERRED = ("flair", "t2", "t1ce", "t1")
UNKNOWN = "unknown"


class Look(NamedTuple):
    """What the page shows of one case.

    Attributes:
        row: As the check found it.
        png: Three planes with the mask's outline, or None where a file cannot be read.
        caption: In words.
        histograms: Modality to the share of its non-zero voxels in each of BINS, between 0 and its 99.9th percentile.
    """

    row: CaseRow
    png: bytes | None
    caption: str
    histograms: dict[str, NDArray[np.float64]]


def cohort_page(report: CheckReport, root: Path, *, progress: bool = True) -> str:
    """The document; reads every readable case's images once more.

    Args:
        report: Of `segan_pl check`.
        root: Of the data set, for the title.
        progress: Show how far it is.
    """
    looks = []
    with shown(len(report.rows), label="drawing", done="drew", enabled=progress) as advance:
        for row in report.rows:
            looks.append(look(row))
            advance()
    title = f"segan_pl check: {root.resolve().name}"
    pictures = "".join(html.picture(one.png, one.caption) for one in looks if one.png)
    parts = [
        ("What was found", "found", _found(report)),
        ("Tumour volumes", "volumes", _volumes(report.rows)),
        ("Intensities", "intensities", _intensities(looks)),
        ("Every case", "cases", f'<div class="row">{pictures}</div>\n' if pictures else ""),
    ]
    links = "".join(f'<a href="#{anchor}">{html.text(name)}</a>' for name, anchor, inside in parts if inside)
    head = f'<h1>{html.text(title)}</h1>\n<nav aria-label="Parts of this page">{links}</nav>\n'
    foot = f'<p class="quiet">Made by segan_pl {__version__}.</p>\n'
    return html.page(title, head + "".join(html.section(name, anchor, inside) for name, anchor, inside in parts) + foot)


def look(row: CaseRow) -> Look:
    """Read a case's images and draw one of them; what cannot be read is left out, since the check has said so."""
    histograms: dict[str, NDArray[np.float64]] = {}
    drawn: Volume | None = None
    first = next((modality for modality in PREFERRED if modality in row.files), None)
    for modality in (name for name in row.files if name != MASK):
        try:
            volume = volume_of(Path(row.files[modality]), row.channels.get(modality))
        except CaseError:
            continue
        histograms[modality] = histogram(volume.array)
        drawn = volume if modality == first else drawn
    if drawn is None:
        return Look(row, None, "", histograms)
    mask = _mask(row, drawn)
    places = _places(row, drawn, mask)
    spacing = drawn.spacing_mm[::-1]
    png = figures.as_png(figures.planes(drawn.array, mask, places, spacing))
    outlined = "the mask's outline in yellow" if mask is not None else "no mask"
    caption = f"{row.name}: {first}, axial, coronal and sagittal slices {', '.join(map(str, places))}, {outlined}"
    return Look(row, png, f"{caption}; refused" if row.faults else caption, histograms)


def histogram(array: NDArray) -> NDArray[np.float64]:
    """Shares of the non-zero voxels in BINS, scaled by the 99.9th percentile of them; zeros where there is none."""
    inside = array[array != 0]
    if inside.size == 0:
        return np.zeros(len(BINS) - 1)
    high = float(np.percentile(inside.astype(np.float64), 99.9))
    counts, _ = np.histogram(inside / high if high > 0 else inside, BINS)
    return counts / max(1, counts.sum())


def _mask(row: CaseRow, image: Volume) -> NDArray[np.bool_] | None:
    """The mask's tumour, or None where it cannot be drawn over the image."""
    if MASK not in row.files:
        return None
    try:
        mask = read_volume(row.files[MASK])
        return labels_of(mask, row.name) > 0 if same_grid(mask, image) else None
    except CaseError:
        return None


def _places(row: CaseRow, image: Volume, mask: NDArray[np.bool_] | None) -> tuple[int, int, int]:
    """The slices (z, y, x) with most of the mask, or the middle ones."""
    if mask is None or not mask.any():
        depth, height, width = image.shape
        return depth // 2, height // 2, width // 2
    z, y, x = (int(mask.sum(axis=others).argmax()) for others in ((1, 2), (0, 2), (0, 1)))
    return z, y, x


def _found(report: CheckReport) -> str:
    patients = len({row.patient for row in report.rows})
    rows = [
        ["cases", len(report.rows)],
        ["patients", patients],
        ["used", len(report.used)],
        ["refused", len(report.refused)],
        ["left out", len(report.left_out)],
    ]
    faults = [[name, "; ".join(reasons)] for name, reasons in report.refused]
    notes = "".join(f'<p class="quiet">{html.text(note)}</p>\n' for note in report.notes)
    refused = html.table(["case", "why"], faults, caption="Refused cases") if faults else ""
    return html.table(["what", "number"], rows, caption="The data set", numbers=(1,)) + refused + notes


def _volumes(rows: Sequence[CaseRow]) -> str:
    """Box plots of tumour volume by grade, and by institution."""
    parts = []
    for column in ("grade", "institution"):
        groups: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if row.tumour_ml is not None:
                groups[getattr(row, column) or UNKNOWN].append(row.tumour_ml)
        if groups and set(groups) != {UNKNOWN}:
            figure = figures.boxes({name: {"cases": groups[name]} for name in sorted(groups)}, ylabel="tumour, ml")
            caption = f"Tumour volume of every case by {column}; the box is quartiles and median"
            parts.append(html.drawing(figures.as_svg(figure), caption))
    return "".join(parts)


def _intensities(looks: Sequence[Look]) -> str:
    """One figure a modality: the mean histogram of each institution's cases."""
    parts = []
    for modality in dict.fromkeys(name for one in looks for name in one.histograms):
        groups: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        for one in looks:
            if modality in one.histograms:
                groups[one.row.institution or UNKNOWN].append(one.histograms[modality])
        middles = (BINS[1:] + BINS[:-1]) / 2
        series = {
            f"{name} ({len(groups[name])})": list(zip(middles.tolist(), np.mean(groups[name], 0).tolist(), strict=True))
            for name in sorted(groups)
        }
        figure = figures.curves(series, xlabel="intensity / 99.9th percentile", ylabel="share of non-zero voxels")
        caption = f"{modality}: mean intensity histogram of the cases of each institution (number of cases)"
        parts.append(html.drawing(figures.as_svg(figure), caption))
    return "".join(parts)
