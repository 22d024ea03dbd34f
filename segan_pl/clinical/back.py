"""A mask from the grid of 1 mm back onto every original series, as NIfTI and, of DICOM, as DICOM-SEG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segan_pl.clinical.patient import Pipeline
from segan_pl.clinical.segmentation import Algorithm, write_segmentation
from segan_pl.clinical.series import without_paths
from segan_pl.clinical.space import Space, resampled_label
from segan_pl.clinical.work import LINK, Visit
from segan_pl.data.case import CaseError
from segan_pl.data.case_files import labels_of
from segan_pl.data.conventions import label_convention
from segan_pl.data.io import read_description, read_volume, same_affine, write_volume
from segan_pl.errors import UsageError
from segan_pl.inference.output import IDENTITY, read_identity


def made_by(folder: Path) -> tuple[Algorithm, str]:
    """What made the masks of a folder, and the convention of their labels, as its predict.json says.

    Raises:
        UsageError: There is none, or it is no `segan_pl predict`'s.
    """
    found = read_identity(folder)
    if found is None:
        raise UsageError(f"--segmentations {folder}: has no {IDENTITY}; give a folder that segan_pl predict wrote")
    digests = tuple(str(one["digest"]) for one in found["checkpoints"])
    return Algorithm("segan_pl", digests), str(found["native_labels"])


def _require_its_mask(path: Path, content: str, case: str) -> None:
    """Refuse a mask of other images: an earlier version of the case, or another case.

    By the digest of the images that its header has from the one that was segmented. Neither names nor times are
    trusted: copies of files may have any.

    Raises:
        CaseError: The header names other images, or none.
    """
    said = read_description(path)
    if not said.startswith(LINK):
        raise CaseError(
            f"{case}: the header of {path.name} does not say of which images the mask is (descrip {said!r}, expected "
            f"{LINK + content!r}); predict the case again, or write it with the header of one of the case's images"
        )
    if said != LINK + content:
        raise CaseError(
            f"{case}: {path.name} is the mask of other images: of another case, or of this one before it was prepared "
            f"again; predict it again"
        )


def bring_back(pipeline: Pipeline, visit: Visit, folder: Path, *, identifying: bool) -> list[Path]:
    """Write a visit's mask on the grid of each of its series.

    Args:
        pipeline: That prepared the visit.
        visit: Whose series lie where they lay then.
        folder: Of the masks, one <case>.nii.gz each.
        identifying: Keep the patient's header fields in DICOM-SEG.

    Returns:
        The files, native/<case>/<case>_<modality>_seg.nii.gz and .dcm.

    Raises:
        CaseError: The mask is missing, of other images or on another grid, or a DICOM-SEG cannot be made.
    """
    record: Mapping[str, Any] = json.loads(pipeline.record_of(visit.case).read_text(encoding="utf-8"))
    algorithm, convention = made_by(folder)
    path = folder / f"{visit.case}.nii.gz"
    if not path.is_file():
        raise CaseError(f"{visit.case}: no mask {path.name} in {folder}; predict the case first")
    _require_its_mask(path, str(record["content"]), visit.case)
    space, mask = Space.from_dict(record["space"]), read_volume(path)
    if mask.shape != space.shape or not same_affine(mask.affine, space.affine):
        raise CaseError(f"{visit.case}: {path.name} lies on another grid than the case; predict it again")
    label = labels_of(mask, visit.case)
    written = []
    for name, one in record["modalities"].items():
        if "filled_from" in one:
            continue
        grid = Space.from_dict(one["grid"])
        # the motion leads from the target grid to the series; a mask is looked up the other way round
        native = resampled_label(label, space.affine, np.linalg.inv(np.array(one["motion"])), grid)
        stem = pipeline.output / "native" / visit.case / f"{visit.case}_{name}_seg"
        write_volume(f"{stem}.nii.gz", native, grid.affine)
        written.append(Path(f"{stem}.nii.gz"))
        series = visit.series[name]
        if series.dicom:
            try:
                write_segmentation(
                    Path(f"{stem}.dcm"),
                    series.files,
                    native,
                    grid.affine,
                    label_convention(convention),
                    algorithm,
                    pseudonym=visit.patient,
                    identifying=identifying,
                )
            except UsageError:  # a package is missing
                raise
            except Exception as error:  # of pydicom and highdicom, for headers that are not as they should be
                said = without_paths(error, series.files)
                raise CaseError(f"{visit.case}: no DICOM-SEG of series {series.key} ({said})") from error
            written.append(Path(f"{stem}.dcm"))
    return written
