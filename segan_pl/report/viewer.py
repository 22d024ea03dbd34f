"""Volumes to look through on a page: slices as one picture a modality, masks as another, the worst cases first."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from segan_pl.data.case import Case, CaseError
from segan_pl.evaluation.pairs import PREDICTION
from segan_pl.report.case_pictures import Sources
from segan_pl.report.case_volumes import MOST_REGIONS, Volumes, cropped, read_masks, with_images
from segan_pl.report.figures import as_png, overlay
from segan_pl.report.headline import region_name
from segan_pl.report.run_files import RunFiles
from segan_pl.report.score_rows import mean_dice, number, scores_of

LIMIT_MB = 20.0
"""Of all volumes of a page together; a case of BraTS with four modalities takes about 1.5 MB (docs/report.md)."""
QUALITY = {"quality": 50, "method": 2}
"""Of WebP: half of JPEG's bytes at the same look, in a third of a second a modality."""


@dataclass(frozen=True)
class Viewed:
    """A case of the viewer.

    Attributes:
        anchor: Its id on the page.
        case: Its name.
        caption: What its still picture shows.
        still: PNG of the slice with most of the first region.
        data: JSON of what the page's script needs.
        corner: First voxel (z, y, x) of what is shown, in the volume turned to LPS.
        step: Of the voxels that are shown, every which one.
    """

    anchor: str
    case: str
    caption: str
    still: bytes
    data: str
    corner: tuple[int, int, int]
    step: int


def viewed(
    runs: Sequence[RunFiles], sources: Mapping[str, Sources], *, cases: int, limit_mb: float = LIMIT_MB
) -> tuple[list[Viewed], list[str]]:
    """The worst cases, by the lowest mean Dice over regions that a run has there, and notes on what is left out.

    Args:
        runs: With scores.
        sources: Run to where its images and masks are; of runs of the same files a case's images are there once.
        cases: At most so many.
        limit_mb: At most so large, together.
    """
    there = {run.name: sources[run.name] for run in runs if run.name in sources}
    scored = [run for run in runs if run.name in there]
    means = [mean_dice(run) for run in scored]
    # of a case without a prediction the failures tell
    names = {name for one in there.values() for name, pair in one.predictions.items() if PREDICTION in pair.images}
    names &= {case for mean in means for case in mean}
    ranked = sorted((min(mean.get(case, math.inf) for mean in means), case) for case in names)
    made: list[Viewed] = []
    notes, size = [], 0
    for _, case in ranked[:cases]:
        try:
            one = _view(case, f"volume-{len(made)}", scored, there)
        except CaseError as error:
            notes.append(f"{case} cannot be looked through: {error}")
            continue
        if size + len(one.data) + len(one.still) * 4 / 3 > limit_mb * 1e6:
            notes.append(f"{case} and better ones cannot be looked through: more than --viewer_mb {limit_mb:g} in all")
            break
        size += len(one.data) + len(one.still) * 4 // 3
        made.append(one)
    if len(ranked) > len(made):
        notes.append(
            f"{len(made)} of {len(ranked)} cases can be looked through, the worst first ({size / 1e6:.1f} MB); "
            f"`--viewer {len(ranked)}` takes all"
        )
    return made, notes


def _view(case: str, anchor: str, runs: Sequence[RunFiles], sources: Mapping[str, Sources]) -> Viewed:
    """One case, with the masks of each run that predicted it from the first such run's files."""
    first, volumes, masks = None, None, []
    for run in runs:
        source = sources[run.name]
        found, pair = source.images.get(case), source.predictions.get(case)
        if found is None or pair is None or PREDICTION not in pair.images:
            continue
        regions = scores_of(run).regions[:MOST_REGIONS]
        read = read_masks(found, pair.images[PREDICTION], source.schemes, regions)
        if volumes is None:
            first, volumes = run, with_images(found, read)
        elif found.mask != first_case(sources, first, case).mask or regions != volumes.regions:
            continue  # another file of the same name: it has an own report
        masks.append((run, read))
    if volumes is None or first is None:
        raise CaseError("no image or no prediction where its evaluation found them")
    corner, shape, step = cropped(volumes, [read for _, read in masks])
    box = tuple(slice(low, low + side * step, step) for low, side in zip(corner, shape, strict=True))
    images = {name: _sprite(_grey(array[box]), "webp") for name, array in volumes.images.items()}
    size = volumes.reference[box].shape
    z, y, x = volumes.middle()
    start = [min((at - low) // step, side - 1) for at, low, side in zip((z, y, x), corner, size, strict=True)]
    data: dict[str, Any] = {
        "case": case,
        "regions": [region_name(region) for region in volumes.regions],
        "size": size,
        "spacing": [float(side) * step for side in volumes.spacing],
        "columns": _columns(size),
        "start": start,
        "images": images,
        "runs": [
            {
                "name": run.name,
                "masks": _sprite(np.stack([read.reference[box], read.prediction[box], read.ignored[box] * 255], -1)),
                "dice": [number(_dice(run, region, case)) for region in volumes.regions],
            }
            for run, read in masks
        ],
    }
    said = ", ".join(f"{r} {_of_runs(masks, r, case)}" for r in map(str.upper, volumes.regions))
    modality = next(iter(volumes.images))
    caption = f"{case}: Dice {said}; {modality}, slice {z}, {region_name(volumes.regions[0])}"
    still = _still(volumes, masks[0][1], z)
    return Viewed(anchor, case, caption, still, json.dumps(data), corner, step)


def first_case(sources: Mapping[str, Sources], run: RunFiles | None, case: str) -> Case:
    """The files of a case as a run's evaluation named them."""
    assert run is not None
    return sources[run.name].images[case]


def _of_runs(masks: Sequence[tuple[RunFiles, Volumes]], region: str, case: str) -> str:
    return " and ".join(number(_dice(run, region.lower(), case)) for run, _ in masks)


def _dice(run: RunFiles, region: str, case: str) -> float:
    row = scores_of(run).rows.get((region, case))
    return math.nan if row is None else row.values.get("dice", math.nan)


def _still(volumes: Volumes, masks: Volumes, z: int) -> bytes:
    """The slice that is there without a script and on paper: outlines of the first region."""
    image = next(iter(volumes.images.values()))
    _, height, width = volumes.spacing
    drawn = overlay(
        image[z],
        (masks.reference[z] & 1) > 0,
        (masks.prediction[z] & 1) > 0,
        ignored=masks.ignored[z],
        aspect=float(height / width),
    )
    return as_png(drawn)


def _grey(array: NDArray) -> NDArray[np.uint8]:
    """Intensities between the 1st and the 99.5th percentile of what is not zero, as bytes in three equal channels."""
    inside = array[array != 0]
    low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0, 1)
    # 0 is what no scanner saw: it stays black whatever the other values are
    scaled = np.clip((array.astype(np.float32) - min(low, 0)) / max(float(high - min(low, 0)), 1e-6), 0, 1) * 255
    grey = np.where(array == 0, 0, scaled).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _columns(shape: Sequence[int]) -> int:
    """Slices next to each other, so that the picture of all is about square: browsers limit its longer side."""
    depth, height, width = shape
    return max(1, min(depth, math.ceil(math.sqrt(depth * height / width))))


def _sprite(slices: NDArray[np.uint8], form: str = "png") -> str:
    """(D, H, W, 3) as one picture of all slices, as a data URI; PNG keeps every value, WebP the look."""
    depth, height, width, channels = slices.shape
    columns = _columns((depth, height, width))
    rows = math.ceil(depth / columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:depth] = slices
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    content = io.BytesIO()
    picture = np.ascontiguousarray(sheet.reshape(rows * height, columns * width, channels))
    imsave(content, picture, format=form, pil_kwargs=dict(QUALITY) if form == "webp" else {})
    return f"data:image/{form};base64,{base64.b64encode(content.getvalue()).decode()}"
