"""BraTS 2021: BraTS2021_NNNNN/<case>_{t1,t1ce,t2,flair,seg}.nii.gz, flat; neither grade nor institution is told."""

from __future__ import annotations

import re

from segan_pl.data.layouts.listing import Folder, Found
from segan_pl.data.layouts.naming import case_files, matching
from segan_pl.data.volume import Case

NAME = "brats2021"
EXPECTS = "BraTS2021_<number>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz]"
CASE = re.compile(r"BraTS2021_\d+", re.IGNORECASE)


def recognises(here: Folder) -> bool:
    """Whether the folder holds cases named as in 2021."""
    return any(CASE.fullmatch(folder.path.name) for folder in here.folders)


def find(here: Folder) -> Found:
    """All cases of a flat folder; a case is its own patient."""
    found, others = matching(here, CASE)
    cases = [Case(folder.path.name, folder.path.name, *case_files(folder)) for folder, _ in found]
    return Found(cases, "brats2017", beside=others)
