"""BraTS 2015: {HGG|LGG}/brats_<version>_<patient>_<scan>/VSD.<location>.XX.<O|XX>.<type>.<id>/<the same>.mha.

Ten case names occur under both grades, so a case's name begins with its grade. 20 patients have 2 to 10 scans: patients
are told apart by grade, version and patient number. The test set lies in HGG_LGG, without grades and masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from segan_pl.data.layouts.listing import Folder, Found, suffix_of
from segan_pl.data.layouts.naming import by_part, graded, graded_cases, part_of
from segan_pl.data.volume import Case

NAME = "brats2015"
EXPECTS = "{HGG|LGG}/brats_<version>_<patient>_<scan>/VSD.*.<MR_T1|MR_T1c|MR_T2|MR_Flair|OT>.<id>/VSD.*.mha"
CASE = re.compile(r"brats_(?P<version>[^_]+)_(?P<patient>[^_]+)_(?P<scan>[^_]+)", re.IGNORECASE)
TYPE, ID = 4, 5  # fields of a file's name, split at the dots


def recognises(here: Folder) -> bool:
    """Whether the folder, or its HGG, LGG or HGG_LGG, holds cases named as in 2015."""
    return any(CASE.fullmatch(folder.path.name) for part, _ in graded(here) for folder in part.folders)


def find(here: Folder) -> Found:
    """All cases, those of each grade under their grade."""
    found, beside = graded_cases(here, CASE)
    return Found([_case(folder, match, grade) for folder, match, grade in found], "brats2015", beside=beside)


def _case(folder: Folder, match: re.Match[str], grade: str | None) -> Case:
    prefix = f"{grade}_" if grade else ""
    images, mask = by_part(folder.path.name, _parts(folder))
    return Case(
        name=f"{prefix}{folder.path.name}",
        patient=f"{prefix}{match['version']}_{match['patient']}",
        images=images,
        mask=mask,
        grade=grade,
        institution=match["version"],
        output=_upload_name(images),
    )


def _parts(folder: Folder) -> Iterator[tuple[str, Path]]:
    """(modality or "mask", file) of each VSD file in a case's folder and in the folders in it."""
    for place in (folder, *folder.folders):
        for name in place.files:
            fields = name.split(".")
            part = part_of(fields[TYPE]) if suffix_of(name) and fields[0] == "VSD" and len(fields) > ID + 1 else None
            if part:
                yield part, place.path / name


def _upload_name(images: dict[str, Path]) -> str | None:
    """How the evaluation site knew a segmentation: VSD.<description>.<id of the FLAIR image>.mha.

    That the id is FLAIR's is from the code that N. Tustison uploaded his BRATS 2013 results with; a case without FLAIR
    has no such name.
    """
    return f"VSD.Seg.{images['flair'].name.split('.')[ID]}.mha" if "flair" in images else None
