"""The BraTS challenges as one table: a row says how a year's cases are named and labelled, and what a name tells.

The sequences are found by how a file's name ends (`folders.ALIASES`), so that t1ce, t1c and T1Gd are one. To add a
year, add a row; only what a name cannot tell (2015's VSD files, 2020's name_mapping) has functions of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from segan_pl.data.case import Case
from segan_pl.data.layouts.folders import (
    GRADES,
    CaseFolder,
    Folder,
    Found,
    by_part,
    case_files,
    case_folders,
    part_of,
    shortened,
    suffix_of,
)
from segan_pl.data.layouts.table import read_table

# Of a name of 2015, VSD.<location>.XX.<O|XX>.<type>.<id>.mha, split at the dots.
VSD_TYPE, VSD_ID = 4, 5
MAPPING_KEY = "BraTS_2020_subject_ID"
_EARLIER = re.compile(r"BraTS_20(?:1\d)_subject_ID", re.IGNORECASE)
_EARLIER_NAME = re.compile(r"brats\d\d_(?P<patient>(?P<site>[^_]+)_.+)_\d+", re.IGNORECASE)


def named_cases(folders: Sequence[CaseFolder], _: Folder) -> tuple[list[Case], list[str]]:
    """Cases whose folders' names tell patient and site, where they do; without a patient a case is its own."""
    cases = []
    for folder, match, grade in folders:
        told = match.groupdict()
        patient = told.get("patient") or folder.path.name
        cases.append(Case(folder.path.name, patient, *case_files(folder), grade, told.get("site")))
    return cases, []


def cases_of_2015(folders: Sequence[CaseFolder], _: Folder) -> tuple[list[Case], list[str]]:
    """BraTS 2015's cases: {HGG|LGG}/brats_<version>_<patient>_<scan>/VSD.<...>/<the same>.mha.

    Ten case names occur under both grades, so a case's name begins with its grade; patients are told apart by grade,
    version and patient number.
    """
    cases = []
    for folder, match, grade in folders:
        prefix = f"{grade}_" if grade else ""
        parts = []
        for place in (folder, *folder.folders):
            for name in place.files:
                fields = name.split(".")
                is_vsd = suffix_of(name) and fields[0] == "VSD" and len(fields) > VSD_ID + 1
                if is_vsd and (part := part_of(fields[VSD_TYPE])):
                    parts.append((part, place.path / name))
        images, mask = by_part(folder.path.name, parts)
        # How the evaluation site knew a segmentation: VSD.<description>.<id of the FLAIR image>.mha. That the id is
        # FLAIR's is from the code that N. Tustison uploaded his BRATS 2013 results with.
        output = f"VSD.Seg.{images['flair'].name.split('.')[VSD_ID]}.mha" if "flair" in images else None
        cases.append(
            Case(
                name=f"{prefix}{folder.path.name}",
                patient=f"{prefix}{match['site']}_{match['patient']}",
                images=images,
                mask=mask,
                grade=grade,
                institution=match["site"],
                output=output,
            )
        )
    return cases, []


def cases_of_2020(folders: Sequence[CaseFolder], here: Folder) -> tuple[list[Case], list[str]]:
    """BraTS 2020's cases, whose grade and institution name_mapping*.csv in `here` alone tells; else None, with a note.

    They are its column Grade, and the second field of the name that the case had in an earlier year.
    """
    tables = [name for name in here.files if name.lower().startswith("name_mapping") and name.lower().endswith(".csv")]
    mapping: dict[str, dict[str, str]] = {}
    for name in tables:
        table = read_table(here.path / name, MAPPING_KEY)
        key = table.named(MAPPING_KEY) or MAPPING_KEY
        mapping |= {cells[key].lower(): cells for _, cells in table.rows}
    notes: list[str] = []
    cases = [_case_of_2020(folder, mapping.get(folder.path.name.lower()), notes) for folder, _, _ in folders]
    if untold := [case.name for case in cases if case.name.lower() not in mapping]:
        why = "has no row for" if mapping else "is missing for"
        notes.append(
            f"name_mapping.csv {why} {len(untold)} cases, so their grade and institution are unknown: "
            f"{shortened(untold)}"
        )
    return cases, notes


def _case_of_2020(folder: Folder, row: Mapping[str, str] | None, notes: list[str]) -> Case:
    images, mask = case_files(folder)
    if mask is None:
        # The mask of case 355 has a foreign name: the one image file with "seg" in it that is no modality's.
        taken = {path.name for path in images.values()}
        left = [name for name in folder.files if suffix_of(name) and "seg" in name.lower() and name not in taken]
        mask = folder.path / left[0] if len(left) == 1 else None
    if mask and not mask.name.lower().startswith(folder.path.name.lower()):
        notes.append(f"{folder.path.name}: its mask has the foreign name {mask.name}")
    row = {column.lower(): cell for column, cell in (row or {}).items()}
    grade = row.get("grade", "").upper()
    earlier = sorted((column for column in row if _EARLIER.fullmatch(column)), reverse=True)
    names = (match for column in earlier if (match := _EARLIER_NAME.fullmatch(row[column])))
    # The latest name of an earlier year; a case that is new in 2020 has none, and is its own patient.
    patient, site = next(((match["patient"], match["site"]) for match in names), (folder.path.name, None))
    return Case(folder.path.name, patient, images, mask, grade if grade in GRADES else None, site)


@dataclass(eq=False)
class Challenge:
    """A challenge's data set; a layout.

    Attributes:
        NAME: Of the layout.
        EXPECTS: Its form, for messages.
        CASE: What a case's folder is called; the groups "patient", "site" and "cohort" tell these.
        labels: The convention of its masks.
        graded: Whether the folders HGG and LGG tell the grade; cases without one lie flat.
        cases: Makes the cases of the folders, and notes.
        cohort_notes: Cohort to what a user must know of it.
    """

    NAME: str
    EXPECTS: str
    CASE: re.Pattern[str]
    labels: str
    graded: bool = False
    cases: Callable[[Sequence[CaseFolder], Folder], tuple[list[Case], list[str]]] = named_cases
    cohort_notes: Mapping[str, str] = field(default_factory=dict)

    def recognises(self, here: Folder) -> bool:
        """Whether the folder, or its HGG, LGG or HGG_LGG, holds cases so named."""
        return bool(case_folders(here, self.CASE, graded=self.graded)[0])

    def find(self, here: Folder) -> Found:
        """All cases so named, and the folders that lie among them."""
        folders, others = case_folders(here, self.CASE, graded=self.graded)
        cases, notes = self.cases(folders, here)
        cohorts = {(match.groupdict().get("cohort") or "").upper() for _, match, _ in folders}
        notes += [note for cohort, note in self.cohort_notes.items() if cohort in cohorts]
        return Found(cases, self.labels, notes, others)


BRATS = (
    # Ten case names occur under both grades, 20 patients have 2 to 10 scans; the test set lies in HGG_LGG.
    Challenge(
        "brats2015",
        "{HGG|LGG}/brats_<version>_<patient>_<scan>/VSD.*.<MR_T1|MR_T1c|MR_T2|MR_Flair|OT>.<id>/VSD.*.mha",
        re.compile(r"brats_(?P<site>[^_]+)_(?P<patient>[^_]+)_(?P<scan>[^_]+)", re.IGNORECASE),
        labels="brats2015",
        graded=True,
        cases=cases_of_2015,
    ),
    # 2017 to 2019: the site is the second field, as SegAN-CAT's authors took it; validation sets lie flat.
    Challenge(
        "brats2019",
        "{HGG|LGG}/BraTS19_<site>_<patient>_<scan>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz]",
        re.compile(r"(?P<patient>brats1[789]_(?P<site>[^_]+)_.+)_\d+", re.IGNORECASE),
        labels="brats2017",
        graded=True,
    ),
    Challenge(
        "brats2020",
        "BraTS20_<Training|Validation>_<number>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz] and name_mapping.csv",
        re.compile(r"BraTS20_[A-Za-z]+_\d+", re.IGNORECASE),
        labels="brats2017",
        cases=cases_of_2020,
    ),
    Challenge(
        "brats2021",
        "BraTS2021_<number>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz]",
        re.compile(r"BraTS2021_\d+", re.IGNORECASE),
        labels="brats2017",
    ),
    # 2023 and later, of one form: GLI, MEN, MET, PED, SSA (BraTS-Africa), and GoAT, whose names have no time point. The
    # post-operative gliomas and metastases of 2024 and 2025 have a label more, 4 = resection cavity: nothing but a mask
    # with a 4 tells the years apart, so 2023 is assumed, and the check of the labels refuses a 4 and names brats2024.
    Challenge(
        "brats2023",
        "BraTS-<GLI|MEN|MET|PED|SSA|GoAT>-<patient>[-<time point>]/<case>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]",
        re.compile(r"(?P<patient>BraTS-(?P<cohort>[A-Za-z]+)-\d+)(?:-\d+|(?<=-GoAT-\d{5}))", re.IGNORECASE),
        labels="brats2023",
        cohort_notes={
            "PED": "BraTS-PED: the labels are taken for those of 2023 (1 necrosis, 2 oedema, 3 enhancing); those of "
            "2024 mean something else: state them with --data.native_labels brats2024_ped"
        },
    ),
    # Meningioma before radiotherapy, 2024: one sequence on its own grid, with skull; the mask is the target volume.
    Challenge(
        "brats_men_rt",
        "BraTS-MEN-RT-<patient>-<scan>/<case>_{t1c,gtv}.nii[.gz]",
        re.compile(r"(?P<patient>BraTS-MEN-RT-\d+)-\d+", re.IGNORECASE),
        labels="binary",
    ),
)


def patient_of(name: str) -> str | None:
    """The patient that a name of 2023 or later tells; None for any other, whose names do not tell it by themselves."""
    since_2023 = [challenge for challenge in BRATS if challenge.NAME in ("brats2023", "brats_men_rt")]
    found = [match for challenge in since_2023 if (match := challenge.CASE.fullmatch(name))]
    return found[0]["patient"] if found else None
