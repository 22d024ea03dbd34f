"""BraTS 2017 to 2019: {HGG|LGG}/BraTS19_<site>_<patient>_<scan>/<case>_{t1,t1ce,t2,flair,seg}.nii.gz.

The grade is the folder's name, the institution the second field of the case's (as SegAN-CAT's authors took it). The
validation sets of those years lie flat, without grade.
"""

from __future__ import annotations

import re
from pathlib import Path

from segan_pl.data.layouts.naming import case_files, folders
from segan_pl.data.volume import Case

NAME = "brats2019"
EXPECTS = "{HGG|LGG}/BraTS19_<site>_<patient>_<scan>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz]"
GRADES = ("HGG", "LGG")
_CASE = re.compile(r"(?P<patient>brats1[789]_(?P<site>[^_]+)_.+)_\d+", re.IGNORECASE)


def recognises(root: Path) -> bool:
    """Whether the folder, or its HGG or LGG, holds cases named as in 2017 to 2019."""
    return any(_CASE.fullmatch(folder.name) for part in (root, *_graded(root)) for folder in folders(part))


def find(root: Path) -> list[Case]:
    """All cases in HGG and LGG, and those that lie flat."""
    flat = [_case(f, root.name if root.name in GRADES else None) for f in folders(root) if _CASE.fullmatch(f.name)]
    return flat + [_case(folder, part.name) for part in _graded(root) for folder in folders(part)]


def _graded(root: Path) -> list[Path]:
    return [root / grade for grade in GRADES if (root / grade).is_dir()]


def _case(folder: Path, grade: str | None) -> Case:
    """The case in a folder; one with a foreign name has no institution and is its own patient."""
    images, mask = case_files(folder)
    named = _CASE.fullmatch(folder.name)
    patient, site = (named["patient"], named["site"]) if named else (folder.name, None)
    return Case(folder.name, patient, images, mask, grade, site)
