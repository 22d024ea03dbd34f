"""References and predictions: found, paired, and each pair read and scored, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Case, CaseError
from segan_pl.data.case_files import allowance, difference, labels_of
from segan_pl.data.case_pool import over_cases
from segan_pl.data.geometry import target_geometry
from segan_pl.data.io import Volume, read_volume
from segan_pl.data.labels import LabelScheme
from segan_pl.data.layouts.folders import suffix_of
from segan_pl.evaluation.calibration import WHOLE, calibration
from segan_pl.evaluation.metrics.base import Metric
from segan_pl.evaluation.policies import EmptyPolicy
from segan_pl.evaluation.scoring import RegionScore, mask, score_case, score_missing

PREDICTION = "prediction"
SUFFIXES = (".nii.gz", ".nii", ".mha")


@dataclass(frozen=True)
class Evaluation:
    """What every case is scored with.

    Attributes:
        scheme: Of the references.
        prediction_scheme: Of the predictions.
        regions: Channels of both.
        metrics: What is computed.
        policy: What empty masks score.
        crop: (D, H, W) of the central part, with the axes of LPS, that alone is scored; None for whole volumes.
        probabilities: Region to the channels whose files of probabilities add up to its own; empty without files.
    """

    scheme: LabelScheme
    prediction_scheme: LabelScheme
    regions: tuple[str, ...]
    metrics: tuple[Metric, ...]
    policy: EmptyPolicy
    crop: tuple[int, int, int] | None = None
    probabilities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """One case's end; crosses process borders.

    Attributes:
        scores: One for each region; none where the case is refused.
        status: "scored", "missing", or "refused: " and one line that says why.
        notes: What a user must know of the files.
    """

    scores: tuple[RegionScore, ...]
    status: str
    notes: tuple[str, ...] = ()


def with_predictions(references: Sequence[Case], folder: Path, root: Path) -> tuple[list[Case], list[str]]:
    """Each case with its prediction as its only image, none where there is no file; and the files that are of no case.

    A prediction is called as the data set asks (`Case.output`), `<case>.nii.gz`, `.nii` or `.mha`, or like the
    reference's file; the last also in the reference's place below the folder, for a tree that mirrors the data set.

    Args:
        references: Cases with masks.
        folder: Of the predictions.
        root: Of the references.

    Raises:
        CaseError: The folder cannot be listed, a case has two predictions or its own reference for one, or two cases
            have the same.
    """
    try:
        names = {entry.name for entry in folder.iterdir() if suffix_of(entry.name) and not entry.name.startswith(".")}
    except OSError as error:
        raise CaseError(
            f"--pred {folder}: cannot be listed ({error.strerror}); give the predictions' folder"
        ) from error
    claimed: dict[Path, str] = {}
    pairs = []
    for case in references:
        found = _prediction_of(case, folder, names, root)
        if found and (other := claimed.setdefault(found, case.name)) != case.name:
            raise CaseError(f"{found}: is the prediction of {other} and of {case.name}; name them after the cases")
        if found and case.mask and found.resolve() == case.mask.resolve():
            raise CaseError(
                f"{case.name}: the prediction in --pred is {found}, the reference itself: a mask would be scored "
                f"against itself; give the predictions' own folder"
            )
        pairs.append(replace(case, images={PREDICTION: found} if found else {}))
    return pairs, sorted(names - {path.name for path in claimed if path.parent == folder})


def _prediction_of(case: Case, folder: Path, names: set[str], root: Path) -> Path | None:
    assert case.mask is not None  # references are cases with masks
    asked = [*([case.output] if case.output else []), *(case.name + suffix for suffix in SUFFIXES), case.mask.name]
    found = [folder / name for name in dict.fromkeys(asked) if name in names]
    if case.mask.is_relative_to(root):
        mirrored = folder / case.mask.relative_to(root)
        found += [mirrored] if mirrored not in found and mirrored != case.mask and mirrored.is_file() else []
    if len(found) > 1:
        listed = ", ".join(str(path.relative_to(folder)) for path in found)
        raise CaseError(
            f"{case.name}: {len(found)} predictions in {folder} ({listed}); expected one; remove the others"
        )
    return found[0] if found else None


def evaluate_all(
    pairs: Sequence[Case], evaluation: Evaluation, *, workers: int, advance: Callable[[], None] = lambda: None
) -> dict[str, Outcome]:
    """Score every case; one that cannot be used is refused, the others are finished.

    Args:
        pairs: Of `with_predictions`.
        evaluation: What they are scored with.
        workers: Processes; 1 works in this one.
        advance: Called after each case.

    Returns:
        Case to outcome, in the order given.
    """
    outcomes: dict[str, Outcome] = {}
    for case, outcome in over_cases(partial(evaluate_files, evaluation), pairs, workers=workers):
        killed = f"refused: {case.name}: the process that scored it was killed, perhaps for memory; use fewer workers"
        outcomes[case.name] = outcome or Outcome((), killed)
        advance()
    return {case.name: outcomes[case.name] for case in pairs}


def evaluate_files(evaluation: Evaluation, case: Case) -> Outcome:
    """One case from its files, with its refusal as a value, so that it stops no other."""
    try:
        assert case.mask is not None  # references are cases with masks
        reference = read_volume(case.mask)
        scheme, spacing, notes = (
            evaluation.scheme,
            reference.spacing_mm,
            tuple(f"{case.name}: {note}" for note in reference.notes),
        )
        asked: dict[str, Any] = {"scheme": scheme, "regions": evaluation.regions, "policy": evaluation.policy}
        box = central(reference, evaluation.crop)
        true = _labels(reference, case.name, "reference", scheme)[box]
        if PREDICTION not in case.images:
            return Outcome(tuple(score_missing(true, spacing, evaluation.metrics, **asked)), "missing", notes)
        prediction, theirs = read_volume(case.images[PREDICTION]), evaluation.prediction_scheme
        require_same_grid(prediction, reference, case)
        labels = _labels(prediction, case.name, PREDICTION, theirs)[box]
        found = score_case(labels, true, spacing, evaluation.metrics, prediction_scheme=theirs, **asked)
        if evaluation.probabilities:
            found = [_calibrated(score, case, evaluation, true, box, reference) for score in found]
        return Outcome(tuple(found), "scored", notes)
    except CaseError as error:
        line = " ".join(str(error).split())
        return Outcome((), f"refused: {line if line.startswith(case.name) else f'{case.name}: {line}'}")
    except MemoryError:
        return Outcome((), f"refused: {case.name}: not enough memory; use fewer workers")


def probability_file(folder: Path, case: str, channel: str) -> Path:
    """Where `segan_pl predict --probabilities true` writes a channel."""
    return folder / f"{case}_{channel}.nii.gz"


def _calibrated(
    score: RegionScore,
    case: Case,
    evaluation: Evaluation,
    reference: NDArray[np.uint8],
    box: tuple[slice, ...],
    like: Volume,
) -> RegionScore:
    """A region's score with what its files of probabilities say.

    Raises:
        CaseError: A file is missing, unreadable, of another grid, or no file of bytes.
    """
    scheme, channels = evaluation.scheme, evaluation.probabilities.get(score.region)
    if channels is None:
        return score
    total = np.zeros(reference.shape, np.float32)
    for channel in channels:
        file = probability_file(case.images[PREDICTION].parent, case.name, channel)
        volume = read_volume(file)
        require_same_grid(volume, like, case)
        if volume.array.dtype != np.uint8:
            raise CaseError(f"{file}: holds {volume.array.dtype}, expected the bytes of `predict --probabilities true`")
        total += volume.array[box]
    wanted = mask(reference, scheme, score.region)
    judged = ~scheme.ignored(reference) if scheme.ignore else None
    found = calibration(np.minimum(total / WHOLE, 1), wanted, judged)
    return score._replace(values={**score.values, **found})


def central(volume: Volume, crop: tuple[int, int, int] | None) -> tuple[slice, ...]:
    """The central part of a file's (D, H, W) voxels, or all of an axis that is shorter.

    Where the number of voxels left out is odd, it is placed as in a volume that was turned to LPS and cropped there. It
    is the box of `fit --model.score_on crop` where nothing is resampled and the preparation's own crop is even.
    """
    if crop is None:
        return (slice(None),) * 3
    turned = target_geometry(volume.shape, volume.affine, "LPS", None)
    box = [slice(None)] * 3
    for wanted, axis, flip in zip(crop, turned.order, turned.flips, strict=True):
        have = volume.shape[axis]
        if have > wanted:
            start = have // 2 - wanted // 2
            start = have - wanted - start if flip else start
            box[axis] = slice(start, start + wanted)
    return tuple(box)


def _labels(volume: Volume, case: str, part: str, scheme: LabelScheme) -> NDArray[np.uint8]:
    """Native labels, all of them known to the scheme."""
    labels = labels_of(volume, f"{case}, {part}")
    # deletes what is known, in a tenth of the time of np.unique
    if labels.tobytes().translate(None, bytes(scheme.known)):
        scheme.require_known([int(label) for label in np.unique(labels)], f"{case}, {part}")
    return labels


def require_same_grid(prediction: Volume, reference: Volume, case: Case) -> None:
    """Raise CaseError, in words, where the two do not lie on one grid within the case's tolerance."""
    said = difference(
        "the prediction",
        (prediction.shape, prediction.affine),
        "the reference",
        (reference.shape, reference.affine),
        origin_mm=case.origin_tolerance_mm,
    )
    if said is not None:
        raise CaseError(
            f"{case.name}: {said}; nothing is resampled here: bring the prediction onto the reference's grid"
            f"{allowance(said)}"
        )
