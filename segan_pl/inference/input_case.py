"""A case as prediction takes it: which of its files says the grid, and what its segmentation is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segan_pl.data.io import same_affine
from segan_pl.data.preparation import Preparation, Prepared
from segan_pl.data.volume import Case, CaseError


def case_of(images: Mapping[str, Path | str]) -> Case:
    """A case of files alone, called after the first.

    Raises:
        CaseError: No file is given.
    """
    if not images:
        raise CaseError("no image given; expected modality: file, e.g. {'flair': 'a_flair.nii.gz'}")
    files = {modality: Path(path) for modality, path in images.items()}
    name = next(iter(files.values())).name.split(".")[0]
    return Case(name, name, files)


def output_name(case: Case, modalities: Sequence[str]) -> str:
    """What a case's segmentation is called: as its data set asks, else its name; MetaImage stays MetaImage."""
    if case.output:
        return case.output
    image = image_of(case, modalities)
    return f"{case.name}{'.mha' if image is not None and image.suffix.lower() in ('.mha', '.mhd') else '.nii.gz'}"


def image_of(case: Case, modalities: Sequence[str]) -> Path | None:
    """The first image that is read; None where none is."""
    return next((case.images[modality] for modality in modalities if modality in case.images), None)


def require_one_grid(case: str, prepared: Mapping[tuple[Preparation, tuple[str, ...]], Prepared]) -> None:
    """Raise CaseError where voters look at different places: other native shapes, or affines beyond 1e-3."""
    first, *others = ((modalities, one.geometry) for (_, modalities), one in prepared.items())
    for modalities, geometry in others:
        same = same_affine(np.array(geometry.affine), np.array(first[1].affine))
        if geometry.native != first[1].native or not same:
            raise CaseError(
                f"{case}: {', '.join(modalities)} and {', '.join(first[0])} lie on different grids, expected one; "
                f"resample them, or leave a checkpoint out"
            )
