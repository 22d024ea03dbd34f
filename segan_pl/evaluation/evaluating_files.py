"""Predictions found for references, and each pair read and scored, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case_pool import over_cases
from segan_pl.data.checks import labels_of
from segan_pl.data.io import Volume, read_volume, same_affine
from segan_pl.data.labels import LabelScheme
from segan_pl.data.layouts.listing import suffix_of
from segan_pl.data.volume import Case, CaseError
from segan_pl.evaluation.evaluating import Measures, RegionScore, evaluate_case, failed_case

PREDICTION = "prediction"
SUFFIXES = (".nii.gz", ".nii", ".mha")
SKEW = 1e-3  # cosine of two axes' angle from which distances are noted to be off


@dataclass(frozen=True)
class Evaluation:
    """What every case is scored with.

    Attributes:
        scheme: Of the references.
        prediction_scheme: Of the predictions.
        regions: Channels of both.
        measures: What is computed.
    """

    scheme: LabelScheme
    prediction_scheme: LabelScheme
    regions: tuple[str, ...]
    measures: Measures


@dataclass(frozen=True)
class Outcome:
    """One case's end; crosses process borders.

    Attributes:
        scores: One a region; none where the case is refused.
        status: "scored", "missing", or "refused: " and one line that says why.
        notes: What a user must know of the files.
    """

    scores: tuple[RegionScore, ...]
    status: str
    notes: tuple[str, ...] = ()


def with_predictions(references: Sequence[Case], folder: Path, root: Path) -> tuple[list[Case], list[str]]:
    """Each case with its prediction as its only image, none where there is no file, and the files that nobody claimed.

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
    for name, outcome in _outcomes(pairs, evaluation, workers):
        outcomes[name] = outcome
        advance()
    return {case.name: outcomes[case.name] for case in pairs}


def _outcomes(pairs: Sequence[Case], evaluation: Evaluation, workers: int) -> Iterator[tuple[str, Outcome]]:
    for case, outcome in over_cases(partial(evaluate_files, evaluation), pairs, workers=workers):
        killed = f"refused: {case.name}: the process that scored it was killed, perhaps for memory; use fewer workers"
        yield case.name, outcome or Outcome((), killed)


def evaluate_files(evaluation: Evaluation, case: Case) -> Outcome:
    """One case from its files, with its refusal as a value, so that it stops no other."""
    try:
        return _evaluate(evaluation, case)
    except CaseError as error:
        return Outcome((), f"refused: {_one_line(str(error), case.name)}")
    except MemoryError:
        return Outcome((), f"refused: {case.name}: not enough memory; use fewer workers")


def _evaluate(evaluation: Evaluation, case: Case) -> Outcome:
    assert case.mask is not None  # references are cases with masks
    reference = read_volume(case.mask)
    scheme, spacing, notes = evaluation.scheme, reference.spacing_mm, _notes(case.name, reference)
    regions, measures = evaluation.regions, evaluation.measures
    true = _labels(reference, case.name, "reference", scheme)
    if PREDICTION not in case.images:
        return Outcome(tuple(failed_case(true, scheme, spacing, regions=regions, measures=measures)), "missing", notes)
    prediction, theirs = read_volume(case.images[PREDICTION]), evaluation.prediction_scheme
    _require_same_grid(prediction, reference, case.name)
    labels = _labels(prediction, case.name, PREDICTION, theirs)
    found = evaluate_case(labels, true, scheme, spacing, prediction_scheme=theirs, regions=regions, measures=measures)
    return Outcome(tuple(found), "scored", notes)


def _labels(volume: Volume, case: str, part: str, scheme: LabelScheme) -> NDArray[np.uint8]:
    """Native labels, all of them known to the scheme."""
    labels = labels_of(volume, f"{case}, {part}")
    known = np.zeros(256, bool)
    known[list(scheme.known)] = True
    counts = np.bincount(labels.ravel(), minlength=256)
    if not known[counts > 0].all():
        scheme.require_known([int(label) for label in np.flatnonzero(counts)], f"{case}, {part}")
    return labels


def _require_same_grid(prediction: Volume, reference: Volume, case: str) -> None:
    if prediction.shape != reference.shape:
        found, expected = (f"shape {volume.shape[::-1]}" for volume in (prediction, reference))
    elif not same_affine(prediction.affine, reference.affine):
        found, expected = (f"affine {np.round(v.affine[:3], 4).tolist()}" for v in (prediction, reference))
    else:
        return
    raise CaseError(
        f"{case}: the prediction has {found}, the reference has {expected}; nothing is resampled here: bring the "
        f"prediction onto the reference's grid"
    )


def _notes(case: str, reference: Volume) -> tuple[str, ...]:
    """What the reader assumed, and axes that are not at right angles."""
    axes = reference.affine[:3, :3] / np.linalg.norm(reference.affine[:3, :3], axis=0)
    skewed = float(np.abs(axes.T @ axes - np.eye(3)).max()) > SKEW
    noted = ("its axes are not at right angles; volumes and distances take them for it",) if skewed else ()
    return tuple(f"{case}: {note}" for note in (*reference.notes, *noted))


def _one_line(text: str, case: str) -> str:
    line = " ".join(text.split())
    return line if line.startswith(case) else f"{case}: {line}"
