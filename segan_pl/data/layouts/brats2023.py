"""BraTS 2023 and later: BraTS-<cohort>-<patient>-<time point>/<case>-{t1n,t1c,t2w,t2f,seg}.nii.gz, flat.

The cohorts are GLI, MEN, MET, PED and SSA. Enhancing tumour is 3. The post-operative data of 2024 have the same form
and a label more, 4 = resection cavity: nothing but a mask with a 4 tells the years apart, so 2023 is assumed, and the
check of the labels refuses a 4 and names brats2024.
"""

from __future__ import annotations

import re

from segan_pl.data.layouts.listing import Folder, Found
from segan_pl.data.layouts.naming import case_files, matching
from segan_pl.data.volume import Case

NAME = "brats2023"
EXPECTS = "BraTS-<GLI|MEN|MET|PED|SSA>-<patient>-<time point>/<case>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]"
CASE = re.compile(r"(?P<patient>BraTS-(?P<cohort>[A-Za-z]+)-\d+)-\d+", re.IGNORECASE)
# Since 2024 PED's labels are 1 enhancing, 2 non-enhancing, 3 cyst, 4 oedema, and nothing tells the year.
PEDIATRIC = (
    "BraTS-PED: the labels are taken for those of 2023 (1 necrosis, 2 oedema, 3 enhancing); those of 2024 mean "
    "something else, do not train on regions with them"
)


def recognises(here: Folder) -> bool:
    """Whether the folder holds cases named as in 2023."""
    return any(CASE.fullmatch(folder.path.name) for folder in here.folders)


def find(here: Folder) -> Found:
    """All cases of a flat folder; the time points of a patient share it."""
    found, others = matching(here, CASE)
    cases = [Case(folder.path.name, match["patient"], *case_files(folder)) for folder, match in found]
    pediatric = any(match["cohort"].upper() == "PED" for _, match in found)
    return Found(cases, "brats2023", [PEDIATRIC] if pediatric else [], others)
