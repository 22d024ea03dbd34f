"""A data set before training, on one page: middle slices with the mask's outline, intensities, tumour volumes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError, pictured
from segan_pl.data.case_files import MASK, labels_of
from segan_pl.data.case_pool import shown
from segan_pl.data.check.case_table import CaseRow
from segan_pl.data.check.cases import CheckReport
from segan_pl.data.io import Volume, read_volume
from segan_pl.report import figures
from segan_pl.report.case_pictures import lies_over, upright, volume_of
from segan_pl.report.charts import Chart, boxes, curves
from segan_pl.report.page import page

BINS = np.linspace(0, 1, 41)
UNKNOWN = "unknown"


class Look(NamedTuple):
    """What the page shows of one case.

    Attributes:
        row: As the check found it.
        png: Three slices with the mask's outline, or None where a file cannot be read.
        caption: Which case and slices.
        outlined: What is drawn over them, for who cannot see it.
        histograms: Modality to the share of its non-zero voxels in each of BINS, between 0 and its 99.9th percentile.
    """

    row: CaseRow
    png: bytes | None
    caption: str
    outlined: str
    histograms: dict[str, NDArray[np.float64]]


def cohort_page(report: CheckReport, root: Path, *, progress: bool = True) -> str:
    """The page; reads every readable case's images once more.

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
    counts = {
        "cases": len(report.rows),
        "patients": len({row.patient for row in report.rows}),
        "used": len(report.used),
        "refused": len(report.refused),
        "left out": len(report.left_out),
    }
    drawn = []
    for column in ("grade", "institution"):
        groups: dict[str, list[float]] = defaultdict(list)
        for row in report.rows:
            if row.tumour_ml is not None:
                groups[getattr(row, column) or UNKNOWN].append(row.tumour_ml)
        if groups and set(groups) != {UNKNOWN}:
            svg, wide = boxes({name: {"cases": groups[name]} for name in sorted(groups)}, ylabel="tumour, ml")
            drawn.append(Chart(f"volumes_{column}", svg, f"Tumour volume of every case by {column}", wide))
    return page(
        "cohort.html",
        title=f"segan_pl check: {root.resolve().name}",
        counts=counts.items(),
        cases_given=len(report.rows),
        refused=[[name, "; ".join(reasons)] for name, reasons in report.refused],
        notes=report.notes,
        volumes=drawn,
        intensities=_intensities(looks),
        pictures=[
            (one.png, one.caption, one.outlined)
            for one in sorted(looks, key=lambda one: not one.row.faults)  # those that are refused first
            if one.png
        ],
    )


def look(row: CaseRow) -> Look:
    """Read a case's images and draw one of them; what cannot be read is left out, since the check has said so."""
    histograms: dict[str, NDArray[np.float64]] = {}
    drawn: Volume | None = None
    first = pictured(part for part in row.files if part != MASK)
    for modality in (name for name in row.files if name != MASK):
        try:
            volume = volume_of(Path(row.files[modality]), row.channels.get(modality))
        except CaseError:
            continue
        histograms[modality] = histogram(volume.array)
        drawn = volume if modality == first else drawn
    if drawn is None:
        return Look(row, None, "", "", histograms)
    mask, turned = _mask(row, drawn), upright(drawn)
    image, mask = turned.to_target_grid(drawn.array), None if mask is None else turned.to_target_grid(mask)
    z, y, x = (side // 2 for side in image.shape)
    if mask is not None and mask.any():  # the slices with most of it
        z, y, x = (int(mask.sum(axis=others).argmax()) for others in ((1, 2), (0, 2), (0, 1)))
    x_mm, y_mm, z_mm = map(float, np.linalg.norm(turned.affine_prepared[:3, :3], axis=0))
    png = figures.as_png(figures.three_slices(image, mask, (z, y, x), (z_mm, y_mm, x_mm)))
    outlined = ": axial, coronal, sagittal; the mask's outline in yellow" if mask is not None else ": no mask"
    said = "; refused" if row.faults else "" if mask is not None else "; no mask"
    return Look(row, png, f"{row.name}: {first}, slices {z}, {y}, {x}{said}", outlined, histograms)


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
        return labels_of(mask, row.name) > 0 if lies_over(mask, image) else None
    except CaseError:
        return None


def _intensities(looks: Sequence[Look]) -> list[Chart]:
    """One figure for each modality: the mean histogram of each institution's cases."""
    drawn = []
    for modality in dict.fromkeys(name for one in looks for name in one.histograms):
        groups: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        for one in looks:
            if modality in one.histograms:
                groups[one.row.institution or UNKNOWN].append(one.histograms[modality])
        middles = (BINS[1:] + BINS[:-1]) / 2
        series = {
            f"{name} ({len(groups[name])})": list(
                zip((100 * middles).tolist(), np.mean(groups[name], 0).tolist(), strict=True)
            )
            for name in sorted(groups)
        }
        svg = curves(series, xlabel="intensity, % of the 99.9th percentile", ylabel="share of non-zero voxels")
        drawn.append(Chart(f"intensities_{modality}", svg, f"{modality}: mean intensity histogram"))
    return drawn
