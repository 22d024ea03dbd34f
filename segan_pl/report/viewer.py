"""Volumes to look through on a page: slices as one picture a modality, masks as another, the worst cases first."""

from __future__ import annotations

import base64
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from segan_pl.data.case import Case, CaseError, pictured
from segan_pl.evaluation.pairs import PREDICTION
from segan_pl.report.case_pictures import Sources
from segan_pl.report.case_volumes import MOST_REGIONS, Volumes, cropped, read_masks, thinned, with_images
from segan_pl.report.figures import as_png, overlay
from segan_pl.report.headline import region_name
from segan_pl.report.run_files import RunFiles
from segan_pl.report.score_rows import mean_dice, number, scores_of

LIMIT_MB = 20.0
"""Of all volumes of a page together; docs/report.md says what a case of BraTS takes."""
QUALITY = {"quality": 50, "method": 2}
"""Of WebP: half of JPEG's bytes at the same look, in a third of a second a modality."""
MOST_UNREAD = 3
"""Cases that cannot be read are named up to here; where images have moved it is all of them."""


@dataclass(frozen=True)
class Viewed:
    """A case of the viewer.

    Attributes:
        anchor: Its id on the page.
        case: Its name.
        runs: Names of those whose prediction is there; others may have a case of that name that is another patient.
        caption: What its still picture shows.
        still: PNG of the slice with most of the first region.
        data: JSON of what the page's script needs.
        corner: First voxel (z, y, x) of what is shown, in the volume turned to LPS.
        step: Along each axis, every which voxel is shown.
    """

    anchor: str
    case: str
    runs: tuple[str, ...]
    caption: str
    still: bytes
    data: str
    corner: tuple[int, int, int]
    step: tuple[int, int, int]


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
    skipped: dict[tuple[str, str], list[str]] = {}
    unread: list[str] = []
    size, full = 0, ""
    for _, case in ranked:
        if len(made) == cases:
            full = f"`--viewer {len(ranked)}` takes all that --viewer_mb {limit_mb:g} has room for"
            break
        try:
            one, others = _view(case, f"volume-{len(made)}", scored, there)
        except CaseError as error:
            unread.append(f"{case} cannot be looked through: {error}")
            continue
        if size + len(one.data) + len(one.still) * 4 / 3 > limit_mb * 1e6:
            full = f"{case} would make it more than --viewer_mb {limit_mb:g} in all: a larger one takes more"
            break
        size += len(one.data) + len(one.still) * 4 // 3
        made.append(one)
        for key in others:
            skipped.setdefault(key, []).append(case)
    notes = unread[:MOST_UNREAD]
    if more := unread[MOST_UNREAD:]:
        notes.append(f"{len(more)} more cases cannot be looked through either")
    folders = {run.name: str(run.folder) for run in scored}
    for (name, why), some in skipped.items():
        command = shlex.join(["segan_pl", "report", f"{name}={folders[name]}"])
        notes.append(
            f"{name} is not shown in {len(some)} of these cases ({some[0]}): {why}; its own page has it: `{command}`"
        )
    if len(ranked) > len(made):
        said = f"{len(made)} of {len(ranked)} cases can be looked through, the worst first ({size / 1e6:.1f} MB)"
        notes.append(f"{said}; {full}" if full else said)
    return made, notes


def _view(
    case: str, anchor: str, runs: Sequence[RunFiles], sources: Mapping[str, Sources]
) -> tuple[Viewed, list[tuple[str, str]]]:
    """One case with the masks of each run that predicted the same patient, and which runs did not, and why."""
    first, volumes, masks = None, None, []
    skipped: list[tuple[str, str]] = []
    for run in runs:
        source, scored = sources[run.name], scores_of(run)
        found, pair = source.images.get(case), source.predictions.get(case)
        if found is None or pair is None or PREDICTION not in pair.images:
            continue  # of a case without a prediction the failures tell
        regions = tuple(scored.regions[:MOST_REGIONS])
        if first is not None and volumes is not None:
            if _file(found) != _file(first):
                skipped.append((run.name, "it was scored against another reference file"))
                continue
            if regions != volumes.regions:
                theirs, ours = (", ".join(some).upper() for some in (regions, volumes.regions))
                skipped.append((run.name, f"its regions are {theirs}, those of {masks[0][0].name} {ours}"))
                continue
        elif pictured(found.images) is None:
            raise CaseError(f"{case}: no image next to its reference")  # before its masks are read
        crop = (scored.crop[0], scored.crop[1], scored.crop[2]) if scored.crop else None
        read = read_masks(found, pair.images[PREDICTION], source.schemes, regions, crop)
        if volumes is None:
            first, volumes = found, with_images(found, read)
        masks.append((run, read))
    if volumes is None:
        raise CaseError("no image or no prediction where its evaluation found them")
    box, step = cropped(volumes, [read for _, read in masks])
    every = tuple(slice(side.start, side.stop, by) for side, by in zip(box, step, strict=True))
    images = {name: _sprite(_grey(array[every]), "webp") for name, array in volumes.images.items()}
    size = volumes.reference[every].shape
    z, y, x = volumes.middle()
    corner = (box[0].start, box[1].start, box[2].start)
    start = [(at - low) // by for at, low, by in zip((z, y, x), corner, step, strict=True)]
    data: dict[str, Any] = {
        "case": case,
        "regions": [region_name(region) for region in volumes.regions],
        "size": size,
        "corner": corner,
        "step": step,
        "spacing": [float(side) * by for side, by in zip(volumes.spacing, step, strict=True)],
        "columns": _columns(size),
        "start": start,
        "images": images,
        "runs": [
            {
                "name": run.name,
                "masks": _sprite(_planes(read, box, step)),
                "judged": _judged(run, read),
                "dice": [number(_dice(run, region, case)) for region in volumes.regions],
            }
            for run, read in masks
        ],
    }
    said = ", ".join(f"{r} {_of_runs(masks, r, case)}" for r in map(str.upper, volumes.regions))
    modality = next(iter(volumes.images))
    caption = f"{case}: Dice {said}; {modality}, slice {z}, {region_name(volumes.regions[0])}"
    caption += _judged(*masks[0])
    still = _still(volumes, masks[0][1], z)
    names = tuple(run.name for run, _ in masks)
    return Viewed(anchor, case, names, caption, still, json.dumps(data), corner, step), skipped


def _file(case: Case) -> Path | None:
    """A case's reference, by whatever way it was reached."""
    return case.mask and case.mask.resolve()


def _planes(read: Volumes, box: tuple[slice, ...], step: Sequence[int]) -> NDArray[np.uint8]:
    """Reference, prediction and what is not judged, which is what no voxel in a shown voxel's place is."""
    true, found = (thinned(mask[box], step) for mask in (read.reference, read.prediction))
    return np.stack([true, found, thinned(read.ignored[box], step, np.logical_and) * np.uint8(255)], -1)


def _judged(run: RunFiles, read: Volumes) -> str:
    """What the scores are not of, in the words of the pictures of cases; empty where everything is judged."""
    size = " x ".join(map(str, scores_of(run).crop or ()))
    part = f"; the Dice is of the central {size} voxels alone" if size else ""
    return part + ("; what is shaded is not judged" if read.ignored.any() else "")


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
    if low == high:
        low = min(low, 0)  # one value everywhere is seen too
    # 0 is what no scanner saw: it stays black whatever the other values are
    scaled = np.clip((array.astype(np.float32) - low) / max(float(high - low), 1e-6), 0, 1) * 255
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
