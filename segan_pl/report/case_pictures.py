"""Pictures of the best, the median and the worst case of a region, read from images, masks and predictions on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segan_pl.data.case import Case, CaseError, pictured
from segan_pl.data.case_files import labels_of
from segan_pl.data.geometry import Geometry, target_geometry
from segan_pl.data.io import Volume, read_channels, read_volume, same_grid
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.errors import UsageError
from segan_pl.evaluation.pairs import PREDICTION, with_predictions
from segan_pl.evaluation.references import find_references
from segan_pl.report.figures import as_png, overlay
from segan_pl.report.run_files import RunFiles, without_masks


@dataclass(frozen=True)
class Overlay:
    """One picture.

    Attributes:
        case: Its name.
        region: Channel of the label scheme.
        rank: "best", "median" or "worst".
        score: Dice of the case and region.
        caption: What the picture shows, also for readers who cannot see it.
        png: The file.
    """

    case: str
    region: str
    rank: str
    score: float
    caption: str
    png: bytes


class Sources(NamedTuple):
    """Where a run's evaluation found its cases.

    Attributes:
        images: Case to its images and reference.
        predictions: Case to its prediction, as its only image.
        schemes: What the references' labels mean, and what the predictions' do.
    """

    images: dict[str, Case]
    predictions: dict[str, Case]
    schemes: tuple[LabelScheme, LabelScheme]


def find_sources(run: RunFiles) -> tuple[Sources | None, list[str]]:
    """What the evaluation's summary.json says of references and predictions; what has moved since is noted.

    None, with the commands that help, where the run has scores without masks: `test` and `validate` keep none.
    """
    summary = run.summary
    if run.scored is None:
        return None, []
    if not {"reference", "prediction"} <= set(summary):
        return None, [without_masks(run)]
    try:
        source = find_references(Path(summary["reference"]), summary["layout"])
        masked = [case for case in source.cases if case.mask]
        paired, _ = with_predictions(masked, Path(summary["prediction"]), source.root)
        schemes = [label_scheme(summary["labels"], summary[key]) for key in ("native_labels", "prediction_labels")]
    except (CaseError, UsageError, OSError) as error:
        return None, [f"no picture of a case: {error}"]
    images, predictions = ({case.name: case for case in some} for some in (source.cases, paired))
    return Sources(images, predictions, (schemes[0], schemes[1])), []


def case_pictures(run: RunFiles, sources: Sources) -> tuple[list[Overlay], list[str]]:
    """Worst, median and best case of each region, and notes on what could not be drawn.

    Args:
        run: With scores.
        sources: Where its images and masks are.
    """
    assert run.scored is not None  # what has sources has scores
    images, predictions, schemes = sources
    drawn, notes = [], []
    for region in run.scored.regions:
        scores = {name: row.values["dice"] for (where, name), row in run.scored.rows.items() if where == region}
        for rank, name in chosen(scores).items():
            try:
                case, pair = images.get(name), predictions.get(name)
                if case is None or not case.images:
                    raise CaseError(f"{name}: no image next to its reference")
                if pair is None or PREDICTION not in pair.images:
                    raise CaseError(f"{name}: no prediction")
                one = draw(case, pair.images[PREDICTION], schemes, region, rank=rank, score=scores[name])
                if size := " x ".join(map(str, run.scored.crop or ())):
                    one = replace(one, caption=f"{one.caption}; the Dice is of the central {size} voxels alone")
                drawn.append(one)
            except CaseError as error:
                notes.append(f"no picture of the {rank} case, {region.upper()}: {error}")
    return drawn, notes


def chosen(scores: Mapping[str, float]) -> dict[str, str]:
    """Rank to case: worst, median and best by score, ties by name; n/a is left out, few cases give fewer ranks."""
    ordered = sorted((-value, case) for case, value in scores.items() if not math.isnan(value))
    if not ordered:
        return {}
    # the worst first: of few cases it is the one that is drawn
    places = {"worst": len(ordered) - 1, "median": (len(ordered) - 1) // 2, "best": 0}
    out: dict[str, str] = {}
    for rank, place in places.items():
        if ordered[place][1] not in out.values():
            out[rank] = ordered[place][1]
    return out


def draw(
    case: Case, prediction: Path, schemes: Sequence[LabelScheme], region: str, *, rank: str, score: float
) -> Overlay:
    """The slice that holds most of the region in the reference, or in the prediction where the reference has none.

    Args:
        case: With its images and its reference.
        prediction: The predicted file.
        schemes: What the reference's labels mean, and what the prediction's do.
        region: A channel of both.
        rank: "best", "median" or "worst".
        score: The case's Dice.

    Raises:
        CaseError: A file cannot be read, or grids differ.
    """
    modality = pictured(case.images)
    if modality is None:
        raise CaseError(f"{case.name}: the references have no image to draw masks over")
    image = volume_of(case.images[modality], case.channels.get(modality))
    assert case.mask is not None  # it was scored
    masks = []
    for path, scheme in zip((case.mask, prediction), schemes, strict=True):
        mask = read_volume(path)
        if not lies_over(mask, image):
            raise CaseError(f"{case.name}: mask and image lie on different grids; they cannot be drawn over each other")
        # 1 in the region, -1 where the mask is not judged, else 0
        masks.append(scheme.encode(labels_of(mask, case.name))[scheme.channels.index(region)])
    reference, found = masks
    ignored = reference < 0
    reference, found = reference > 0, (found > 0) & ~ignored
    turned = upright(image)
    shown, reference, found, ignored = map(turned.to_target_grid, (image.array, reference, found, ignored))
    # not where most is falsely found
    z = int((reference if reference.any() else found).sum((1, 2)).argmax())
    spacing = np.linalg.norm(turned.affine_prepared[:3, :3], axis=0)
    figure = overlay(shown[z], reference[z], found[z], ignored=ignored[z], aspect=float(spacing[1] / spacing[0]))
    shaded = "; what is shaded is not judged" if ignored[z].any() else ""
    caption = f"{case.name}, {modality}, slice {z}: Dice {score:.3f}{shaded}"
    return Overlay(case.name, region, rank, score, caption, as_png(figure))


def volume_of(path: Path, channel: int | None) -> Volume:
    """A modality's volume: a file of its own, or one of the volumes in a 4-D file."""
    return read_volume(path) if channel is None else read_channels(path)[channel]


def upright(volume: Volume) -> Geometry:
    """The way to axes that lead to the left, back and up, so that a head is the same side up whatever its file has."""
    return target_geometry(volume.shape, volume.affine, "LPS", None)


def lies_over(mask: Volume, image: Volume) -> bool:
    """Whether a mask's voxels lie over an image's, to half a voxel: a tolerance may have allowed that much."""
    return same_grid(mask, image, origin_mm=min(image.spacing_mm) / 2)
