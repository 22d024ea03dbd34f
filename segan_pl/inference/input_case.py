"""A case as prediction takes it: its files or arrays, its name, and what a user is told where networks may not cope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segan_pl.data.case import Case, CaseError
from segan_pl.data.case_files import difference
from segan_pl.data.io import Volume, held_volume
from segan_pl.data.layouts.folders import modality_name, modality_of
from segan_pl.data.prepare.case import Prepared
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.scan import scan_of, unlike
from segan_pl.errors import UsageError, nearest
from segan_pl.inference.trained import TrainedSegmentor

Image = Path | str | NDArray[Any]


def case_of(
    images: Mapping[str, Image], *, affine: ArrayLike | None = None, spacing_mm: Sequence[float] | None = None
) -> tuple[Case, dict[str, Volume]]:
    """A case of files and arrays, called after the first file, and the arrays by modality.

    Args:
        images: Modality to file, or to its voxels (D, H, W).
        affine: (4, 4) of the arrays, voxel (x, y, z) to mm, RAS.
        spacing_mm: (x, y, z) of the arrays instead, whose axes are then taken to lead to L, P and S, as BraTS's do.

    Raises:
        CaseError: No image is given, or an array is no volume.
        UsageError: The place of the arrays is not given, is given twice, or there is no array.
    """
    if not images:
        raise CaseError("no image given; expected modality: file or array, e.g. {'flair': 'a_flair.nii.gz'}")
    arrays = {modality: image for modality, image in images.items() if not isinstance(image, str | Path)}
    if (affine is not None) + (spacing_mm is not None) != bool(arrays):
        found = "both affine and spacing_mm" if affine is not None and spacing_mm is not None else "neither"
        if not arrays:
            raise UsageError("affine and spacing_mm belong to arrays; the files of a case say their own")
        raise UsageError(f"{', '.join(arrays)}: arrays with {found}; give their affine, or their spacing_mm (x, y, z)")
    place = affine
    if spacing_mm is not None:
        if len(spacing_mm) != 3 or not all(0 < size < np.inf for size in spacing_mm):
            raise UsageError(f"spacing_mm {list(spacing_mm)}: expected three positive sizes (x, y, z)")
        x, y, z = spacing_mm
        place = np.diag([-x, -y, z, 1.0])
    held = {}
    for modality, array in arrays.items():
        assert place is not None
        try:
            held[modality] = held_volume(array, place)
        except ValueError as error:
            raise CaseError(f"{modality}: {error}") from error
    files = {modality: Path(path) for modality, path in images.items() if isinstance(path, str | Path)}
    name = next(iter(files.values())).name.split(".")[0] if files else "arrays"
    # an array has no file; its path is a name that nothing opens
    return Case(name, name, {modality: files.get(modality, Path(modality)) for modality in images}), held


def by_modality(images: Mapping[str, Image], taken: Sequence[str]) -> tuple[dict[str, Image], list[str]]:
    """Images by the modalities that a checkpoint takes, told by their usual names as in folders ("t1gd", "T2-FLAIR").

    Args:
        images: As they were given.
        taken: The modalities that are read.

    Returns:
        The images that are read, and a note for each other modality of BraTS.

    Raises:
        CaseError: Two names are one modality, or a name is neither that of a modality that is read nor of BraTS.
    """
    words: dict[str, str] = {}
    notes = []
    for word in images:
        name = word if word in taken else modality_name(word)
        if (other := words.setdefault(name, word)) != word:
            raise CaseError(f"{other!r} and {word!r} are both {name}; expected one image for each modality")
        if name not in taken and modality_of(word) is None:
            raise CaseError(f"{word!r}: the checkpoint takes no such modality; {nearest(name, taken)}")
        if name not in taken:
            notes.append(f"{word} is not read: the checkpoint takes {', '.join(taken)}")
    return {name: images[word] for name, word in words.items() if name in taken}, notes


def output_name(case: Case, modalities: Sequence[str]) -> str:
    """What a case's segmentation is called: as its data set asks, else its name; MetaImage stays MetaImage."""
    if case.output:
        return case.output
    image = image_of(case, modalities)
    return f"{case.name}{'.mha' if image is not None and image.suffix.lower() in ('.mha', '.mhd') else '.nii.gz'}"


def image_of(case: Case, modalities: Sequence[str]) -> Path | None:
    """The first image that is read; None where none is."""
    return next((case.images[modality] for modality in modalities if modality in case.images), None)


def require_one_grid(case: Case, prepared: Mapping[tuple[Preparation, tuple[str, ...]], Prepared]) -> None:
    """Raise CaseError where voters look at different places: other native shapes, or affines beyond the tolerances."""
    first, *others = ((", ".join(modalities), one.geometry) for (_, modalities), one in prepared.items())
    usual = (first[1].native, np.array(first[1].affine))
    for modalities, geometry in others:
        place = (geometry.native, np.array(geometry.affine))
        if said := difference(modalities, place, first[0], usual, origin_mm=case.origin_tolerance_mm):
            raise CaseError(f"{case.name}: {said}, expected one grid; resample them, or leave a checkpoint out")


EMPTY = "the segmentation is empty"


def way_out(segmentors: Sequence[TrainedSegmentor]) -> str:
    """What else a refusal of an incomplete case advises: zeros only where every network learnt what they mean."""
    name = untrained(segmentors)
    if name is None:
        return " or set --missing zero"
    return f", or train with --data.augmentation.modality_dropout 0.25: {name} never saw a case without"


def untrained(segmentors: Sequence[TrainedSegmentor]) -> str | None:
    """The first checkpoint that never saw a case without some modality."""
    return next((segmentor.source.name for segmentor in segmentors if not segmentor.copes), None)


def zeros_note(absent: Sequence[str], there: Sequence[str], segmentors: Sequence[TrainedSegmentor]) -> str:
    """What a case was predicted from, and whether that is more than the networks learnt."""
    name = untrained(segmentors)
    warning = f", but {name} never saw a case without: the segmentation may mean nothing" if name else ""
    return f"zeros for {', '.join(absent)}; used {', '.join(there)}{warning}"


def unlike_note(prepared: Sequence[Prepared], segmentors: Sequence[TrainedSegmentor]) -> str | None:
    """In what a case is unlike the training cases of its networks, in one line; None where it is in nothing.

    Args:
        prepared: The case, once a network.
        segmentors: The networks; those that do not say what they learnt from are left out.
    """
    found: dict[str, str] = {}
    for one, segmentor in zip(prepared, segmentors, strict=True):
        if segmentor.seen is None:
            continue
        scan = scan_of(one.geometry, one.bounds, one.zeros, segmentor.preparation.scaling)
        reasons = unlike(scan, segmentor.seen, along_the_files=segmentor.preparation.orientation is None)
        if reasons:
            found.setdefault(", ".join(reasons), segmentor.source.name)
    lines = [f"unlike the training cases of {name}: {reasons}" for reasons, name in found.items()]
    return "; ".join(lines) or None


def silent_notes(segmentors: Sequence[TrainedSegmentor]) -> list[str]:
    """A line where checkpoints do not say what they learnt from, so that nothing can be held against it."""
    names = dict.fromkeys(segmentor.source.name for segmentor in segmentors if segmentor.seen is None)
    if not names:
        return []
    return [f"{', '.join(names)}: written by an earlier version, which kept nothing to hold cases against"]
