"""How my hospital exports its scans: <root>/P001/2019-05-02/{T1,T1Gd,T2,FLAIR,tumour}.nii.gz."""

from __future__ import annotations

import re

from segan_pl.data.case import Case
from segan_pl.data.layouts import Folder, Found

NAME, EXPECTS = "my hospital", "P<number>/<date>/{T1,T1Gd,T2,FLAIR,tumour}.nii.gz"  # for messages
FILES = {"t1": "T1.nii.gz", "t1ce": "T1Gd.nii.gz", "t2": "T2.nii.gz", "flair": "FLAIR.nii.gz"}
MASK = "tumour.nii.gz"
PATIENT = re.compile(r"P\d+")


def recognises(here: Folder) -> bool:
    """Whether a folder is such an export, by names alone."""
    return any(PATIENT.fullmatch(folder.name) for folder in here.folders)


def find(here: Folder) -> Found:
    """One case for each scan of each patient; the scans of a patient stay in one part of a split."""
    patients = [folder for folder in here.folders if PATIENT.fullmatch(folder.name)]
    cases = [_case(patient, scan) for patient in patients for scan in patient.folders]
    return Found(cases, native_labels="brats2017")  # what the masks' numbers mean


def _case(patient: Folder, scan: Folder) -> Case:
    images = {modality: scan.path / file for modality, file in FILES.items() if file in scan.files}
    mask = scan.path / MASK if MASK in scan.files else None
    return Case(f"{patient.name}_{scan.name}", patient.name, images, mask)
