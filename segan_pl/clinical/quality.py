"""One page for each patient: was every sequence aligned, is the brain the brain, and what should be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segan_pl.clinical.align import Alignment
from segan_pl.report.figures import as_png, three_slices
from segan_pl.report.page import page

# mm of a field of the checkerboard
FIELD = 24


def quality_page(
    *,
    case: str,
    fixed: str,
    images: Mapping[str, NDArray[np.float32]],
    before: Mapping[str, NDArray[np.float32]],
    atlas: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    alignments: Mapping[str, Alignment],
    brain: NDArray[np.bool_] | None,
    facts: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    refused: str,
) -> str:
    """The page.

    Args:
        case: Its pseudonym.
        fixed: The modality that the others were registered to.
        images: Modality to (D, H, W) after registration, on cubes of the grid, the fixed one too.
        before: The same before registration, where the headers place them.
        atlas: (D, H, W) of the atlas and of the fixed one before it was registered to the atlas; None without an atlas.
        alignments: Of each modality.
        brain: (D, H, W), or None where there is none.
        facts: What was done, name and value.
        warnings: What should be looked at.
        refused: Why the patient was stopped; empty otherwise.
    """
    boards = []
    if fixed in images:
        still = images[fixed]
        places = _places(still, brain)
        if atlas:
            for word, other in (("before", atlas[1]), ("after", still)):
                caption = f"{fixed} against the atlas, {word} registration: checkerboard, axial, coronal and sagittal"
                boards.append((as_png(checkerboards(atlas[0], other, places)), caption))
        for name, image in images.items():
            if name != fixed:
                for word, other in (("before", before[name]), ("after", image)):
                    caption = f"{name} against {fixed}, {word} registration: checkerboard, axial, coronal and sagittal"
                    boards.append((as_png(checkerboards(still, other, places)), caption))
    outline = []
    if brain is not None and images:
        name = fixed if fixed in images else next(iter(images))
        png = as_png(three_slices(images[name], brain, _places(images[name], brain), (1.0, 1.0, 1.0)))
        outline.append((png, f"outline of the brain mask (yellow) on {name}"))
    rows = [
        [
            name,
            f"{one.information[0]:.3f}",
            f"{one.information[1]:.3f}",
            f"{one.rotation_degrees:.1f}",
            f"{one.shift_mm:.1f}",
            f"{one.overlap:.3f}",
            one.start,
            "; ".join((*one.warnings, *([one.fault] if one.fault else []))),
        ]
        for name, one in alignments.items()
    ]
    return page(
        "clinical.html",
        title=f"segan_pl clinical: {case}",
        facts=list(facts),
        warnings=list(warnings),
        refused=refused,
        rows=rows,
        boards=boards,
        outline=outline,
    )


def checkerboards(one: NDArray[np.float32], other: NDArray[np.float32], places: tuple[int, int, int]) -> Figure:
    """Axial, coronal and sagittal slice, of which every second field is the other image's; each in its own window."""
    figure = Figure(figsize=(5.4, 1.9), dpi=90)
    FigureCanvasAgg(figure)
    shown = [_windowed(image) for image in (one, other)]
    for axis, place in enumerate(places):
        first, second = (np.take(image, place, axis) for image in shown)
        rows, columns = np.indices(first.shape)
        fields = (rows // FIELD + columns // FIELD) % 2 == 0
        axes = figure.add_axes((axis / 3, 0, 1 / 3, 1))
        axes.set_axis_off()
        axes.imshow(
            np.where(fields, first, second), cmap="gray", vmin=0, vmax=1, origin="upper" if axis == 0 else "lower"
        )
    return figure


def _windowed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    inside = image[image > 0]
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    return np.clip((image - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)


def _places(image: NDArray[np.float32], brain: NDArray[np.bool_] | None) -> tuple[int, int, int]:
    """Middle of the brain, else of the image."""
    if brain is None or not brain.any():
        depth, height, width = (size // 2 for size in image.shape)
        return depth, height, width
    z, y, x = (int(np.median(np.nonzero(brain.any(tuple(o for o in range(3) if o != axis)))[0])) for axis in range(3))
    return z, y, x
