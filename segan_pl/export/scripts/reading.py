"""A bundle's cases and their NIfTI files, read as segan_pl reads them, without it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.transforms import Transform
from numpy.typing import NDArray

# affines of one case's files may differ by as much
AXES_TOLERANCE, ORIGIN_TOLERANCE_MM = 1e-3, 0.01
LEAST_MM, MOST_MM = 0.005, 100.0
"""A voxel's sides."""


def find_cases(folder: str, names: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """The cases of a folder: each folder in it, at any depth, that has one NIfTI file for each modality.

    Args:
        folder: Of case folders, or one itself; a case is called after its folder.
        names: Modality to the words that its files' names end with, e.g. {"t1ce": ["t1ce", "t1gd"]}.

    Returns:
        For each case its name ("case") and modality to file.

    Raises:
        ValueError: No case is there, one has two files of a modality, or two have one name.
    """
    found, lacking = dict[str, dict[str, str]](), list[str]()
    for place in sorted({file.parent for file in Path(folder).rglob("*.nii*")}):
        case: dict[str, str] = {}
        for file in sorted([*place.glob("*.nii.gz"), *place.glob("*.nii")]):
            words = re.split(r"[\s_\-.+]", re.sub(r"\.nii(\.gz)?$", "", file.name).lower())
            ends = ("".join(words[-2:]), words[-1])
            modality = next((m for end in ends for m, known in names.items() if end in known), None)
            if modality in case:
                raise ValueError(f"{place}: {case[modality]} and {file.name} are both {modality}; keep one of them")
            if modality is not None:
                case[modality] = str(file)
        if case and set(case) != set(names):
            lacking.append(f"{place.name} (no {', '.join(sorted({*names} - {*case}))})")
        elif case:
            name = place.resolve().name
            if name in found:
                raise ValueError(f"{place}: a second case called {name}; rename one of the folders")
            found[name] = {"case": name, **case}
    if not found:
        raise ValueError(f"{folder}: no folder in it has a NIfTI file for each of {', '.join(names)}")
    if lacking:
        print(f"left out, for want of a modality: {'; '.join(lacking)}")
    return list(found.values())


class ReadCased(Transform):
    """Reads a case's NIfTI files.

    They become "volumes", M arrays (D, H, W) in the file's type, or float32 where its header scales them; "affine" and
    "header" are the first one's.

    Args:
        modalities: In the network's order.
        nonfinite: NaN and Inf voxels: "refuse", or "zero".
    """

    def __init__(self, modalities: Sequence[str], nonfinite: str = "refuse") -> None:
        self.modalities, self.nonfinite = tuple(modalities), nonfinite

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A case's files by modality to its volumes.

        Raises:
            ValueError: The files lie on different grids, or hold NaN or Inf.
        """
        volumes: list[NDArray[Any]] = []
        first: Any = None
        for modality in self.modalities:
            image: Any = nib.load(data[modality])
            first = image if first is None else first
            gap = np.abs(_affine(image.header) - _affine(first.header))
            if image.shape != first.shape or gap[:3, :3].max() > AXES_TOLERANCE or gap.max() > ORIGIN_TOLERANCE_MM:
                raise ValueError(f"{data[modality]}: lies on another grid than {data[self.modalities[0]]}; resample it")
            array = np.asanyarray(image.dataobj)
            if (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0):
                array = array.astype(np.float32)
            array = np.ascontiguousarray(array.reshape(array.shape[:3]).T)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                if self.nonfinite == "refuse":
                    raise ValueError(f"{data[modality]}: holds NaN or Inf, expected finite numbers; replace them")
                array = np.where(np.isfinite(array), array, array.dtype.type(0))
            volumes.append(array)
        return {**data, "volumes": volumes, "affine": _affine(first.header), "header": first.header}


def _affine(header: Any) -> NDArray[np.float64]:
    """(4, 4) in mm: sform, else qform, else the spacing alone, as segan_pl has it; nibabel would turn the last."""
    if int(header["sform_code"]) > 0:
        found = np.array(header.get_sform(), np.float64)
    elif int(header["qform_code"]) > 0:
        found = np.array(header.get_qform(), np.float64)
    else:
        found = np.diag([*(float(mm) for mm in header["pixdim"][1:4]), 1.0])
    factor = {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)  # of metres and microns
    sizes = np.linalg.norm(found[:3, :3], axis=0) * factor
    found[:3] *= factor if sizes.min() >= LEAST_MM and sizes.max() <= MOST_MM else 1.0  # else the unit is a mistake
    return found
