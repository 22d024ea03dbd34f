"""BraTS 2017 to 2019: {HGG|LGG}/BraTS19_<site>_<patient>_<scan>/<case>_{t1,t1ce,t2,flair,seg}.nii.gz.

The grade is the folder's name, the institution the second field of the case's (as SegAN-CAT's authors took it). The
validation sets of those years lie flat, without grade. The names begin with Brats17, Brats18 or BraTS19.
"""

from __future__ import annotations

import re

from segan_pl.data.layouts.listing import Folder, Found
from segan_pl.data.layouts.naming import case_files, graded, graded_cases
from segan_pl.data.volume import Case

NAME = "brats2019"
EXPECTS = "{HGG|LGG}/BraTS19_<site>_<patient>_<scan>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz]"
CASE = re.compile(r"(?P<patient>brats1[789]_(?P<site>[^_]+)_.+)_\d+", re.IGNORECASE)


def recognises(here: Folder) -> bool:
    """Whether the folder, or its HGG or LGG, holds cases named as in 2017 to 2019."""
    return any(CASE.fullmatch(folder.path.name) for part, _ in graded(here) for folder in part.folders)


def find(here: Folder) -> Found:
    """All cases in HGG and LGG, and those that lie flat."""
    found, beside = graded_cases(here, CASE)
    return Found([_case(folder, match, grade) for folder, match, grade in found], "brats2017", beside=beside)


def _case(folder: Folder, match: re.Match[str], grade: str | None) -> Case:
    return Case(folder.path.name, match["patient"], *case_files(folder), grade, match["site"])
