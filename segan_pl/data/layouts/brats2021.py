"""BraTS 2021: BraTS2021_NNNNN/<case>_{t1,t1ce,t2,flair,seg}.nii.gz, flat; neither grade nor institution is told."""

from __future__ import annotations

import re
from pathlib import Path

from segan_pl.data.layouts.naming import case_files, folders
from segan_pl.data.volume import Case

NAME = "brats2021"
EXPECTS = "BraTS2021_<number>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz]"
_CASE = re.compile(r"BraTS2021_\d+", re.IGNORECASE)


def recognises(root: Path) -> bool:
    """Whether the folder holds cases named as in 2021."""
    return any(_CASE.fullmatch(folder.name) for folder in folders(root))


def find(root: Path) -> list[Case]:
    """All cases of a flat folder; a case is its own patient."""
    found = [folder for folder in folders(root) if _CASE.fullmatch(folder.name)]
    return [Case(folder.name, folder.name, *case_files(folder)) for folder in found]
