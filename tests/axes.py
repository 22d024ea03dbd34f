"""The same brain, stored in other orders of its axes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from segan_pl.data.case import Case

OBLIQUE = "oblique"
ORDERS = ("LPS", "RAS", "ASR", "LAS", "SPL", OBLIQUE)


def reoriented(image: nib.Nifti1Image, order: str) -> nib.Nifti1Image:
    """nibabel's image with x, y and z led as told; "oblique": the same voxels, the head turned by 12 degrees."""
    if order == OBLIQUE:
        turned = np.eye(4)
        turned[:3, :3] = Rotation.from_euler("xyz", [12, -7, 5], degrees=True).as_matrix()
        return type(image)(np.asanyarray(image.dataobj), turned @ image.affine, image.header)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(order))
    return image.as_reoriented(turn)


def copy_of(case: Case, order: str, folder: Path) -> Case:
    """The case's files once more, their axes in another order."""
    folder.mkdir(parents=True, exist_ok=True)

    def copied(path: Path) -> Path:
        nib.save(reoriented(nib.load(path), order), folder / path.name)
        return folder / path.name

    images = {modality: copied(path) for modality, path in case.images.items()}
    return replace(case, images=images, mask=copied(case.mask) if case.mask else None)
