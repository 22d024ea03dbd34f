"""Who is in a generated tree of a data set's form, and under which names; known by construction.

Strata follow the real data sets (grades, sites, scans a patient). They are filled so that a small tree already has one
case of each and a whole one has the real numbers; a tree of 10 is the beginning of a tree of 300.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Stratum = tuple[str, str]  # grade and site

# Totals by grade and the sites are BraTS 2019's (259 HGG, 76 LGG); how many cases a site has is made up.
SITES_2019: Mapping[Stratum, int] = {
    **{("HGG", "2013"): 20, ("LGG", "2013"): 10, ("HGG", "CBICA"): 129, ("LGG", "TCIA09"): 39, ("HGG", "TCIA01"): 6},
    **{("LGG", "TCIA10"): 7, ("HGG", "TCIA02"): 28, ("LGG", "TCIA12"): 6, ("HGG", "TCIA03"): 16, ("LGG", "TCIA13"): 10},
    **{("HGG", "TCIA04"): 4, ("LGG", "TCIA14"): 1, ("HGG", "TCIA05"): 12, ("LGG", "TCIA15"): 2, ("HGG", "TCIA06"): 32},
    **{("LGG", "TMC"): 1, ("HGG", "TCIA08"): 4, ("HGG", "TMC"): 8},
}
# BraTS 2015's 274 scans; "several" are those of 20 patients with 2 to 10 scans, 96 in all, made up how many each.
SITES_2015: Mapping[Stratum, int] = {
    **{("HGG", "2013"): 20, ("LGG", "2013"): 10, ("HGG", "several"): 96, ("HGG", "tcia"): 104, ("LGG", "tcia"): 44},
}
SCANS_2015 = (10, 9, 8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2)
NAMES_2013 = {"HGG": [*range(1, 16), 22, 24, 25, 26, 27], "LGG": [1, 2, 4, 6, 8, 11, 12, 13, 14, 15]}


@dataclass(frozen=True)
class Identity:
    """What a layout must find out about a generated case.

    Attributes:
        name: Of the case.
        patient: Shared by its scans.
        grade: None where the form does not tell it.
        institution: Likewise.
        folder: Of the case, below the tree's root; its name for the forms without one.
    """

    name: str
    patient: str
    grade: str | None
    institution: str | None
    folder: str


def _strata(quotas: Mapping[Stratum, int], capped: Sequence[Stratum] = ()) -> Iterator[Stratum]:
    """Strata without end, each as often as its quota says: always the one that is filled least.

    One case of each comes first; after as many cases as the quotas sum to, each has exactly its quota.
    """
    filled: Counter[Stratum] = Counter()
    while True:
        left = [stratum for stratum in quotas if stratum not in capped or filled[stratum] < quotas[stratum]]
        stratum = min(left, key=lambda one: filled[one] / quotas[one])
        filled[stratum] += 1
        yield stratum


def brats2019_people() -> Iterator[Identity]:
    """Grades and sites of SITES_2019, a scan a patient."""
    numbers: Counter[str] = Counter()
    for grade, site in _strata(SITES_2019):
        numbers[site] += 1
        patient = f"BraTS19_{site}_{numbers[site]}"
        yield Identity(f"{patient}_1", patient, grade, site, f"{grade}/{patient}_1")


def brats2015_people() -> Iterator[Identity]:
    """The 2013 scans of both grades share their names, as far as there are such; no site is filled beyond them."""
    several = ((patient, scan) for patient, scans in enumerate(_forever(SCANS_2015)) for scan in range(1, scans + 1))
    numbers: Counter[Stratum] = Counter()
    for grade, kind in _strata(SITES_2015, capped=[("HGG", "2013"), ("LGG", "2013")]):
        count = numbers[grade, kind]
        numbers[grade, kind] += 1
        if kind == "2013":
            version, patient, scan = "2013", f"pat{NAMES_2013[grade][count]:04d}", "1"
        elif kind == "several":
            one, visit = next(several)
            version, patient, scan = "tcia", f"pat{900 + one}", f"{visit:04d}"
        else:
            number = count + (2000 if grade == "LGG" else 100 if count < 800 else 1000)
            version, patient, scan = "tcia", f"pat{number}", "0001"
        folder = f"brats_{version}_{patient}_{scan}"
        yield Identity(f"{grade}_{folder}", f"{grade}_{version}_{patient}", grade, version, f"{grade}/{folder}")


def scan_number(identity: Identity) -> int:
    """A number that a scan of `brats2015_people` shares with no other."""
    version, patient, scan = identity.name.split("_")[2:]
    kind = 2 * (identity.grade == "LGG") + (version == "tcia")
    return (4 * int(patient.removeprefix("pat")) + kind) * (max(SCANS_2015) + 1) + int(scan)


def _forever(numbers: Sequence[int]) -> Iterator[int]:
    while True:
        yield from numbers


def brats2020_people() -> Iterator[Identity]:
    """Every fifth is new in 2020 and was in no earlier year: its institution is unknown."""
    for number, old in enumerate(brats2019_people(), start=1):
        name = f"BraTS20_Training_{number:03d}"
        known = number % 5 != 0
        patient = old.patient.removeprefix("BraTS19_") if known else name
        yield Identity(name, patient, old.grade, old.institution if known else None, name)


def plain_people(
    name: Callable[[int], str], patient: Callable[[int], str] | None = None
) -> Callable[[], Iterator[Identity]]:
    """Identities of which nothing is told but the name, and perhaps the patient."""

    def everyone() -> Iterator[Identity]:
        number = 0
        while True:
            yield Identity(name(number), (patient or name)(number), None, None, name(number))
            number += 1

    return everyone


def lgg_people() -> Iterator[Identity]:
    """The five institutions in turn, no grade."""
    for number in plain_people(str)():
        site = ("CS", "DU", "EZ", "FG", "HT")[int(number.name) % 5]
        patient = f"TCGA_{site}_{int(number.name):04d}"
        yield Identity(f"{patient}_20000101", patient, None, site, f"{patient}_20000101")


def manifest_people() -> Iterator[Identity]:
    """Two scans of every fourth patient, grades and sites as in 2019."""
    for number, old in enumerate(brats2019_people()):
        patient = f"patient-{number - (number % 4 == 1)}"
        yield Identity(f"scan {number}", patient, old.grade, old.institution, f"files/{number}")
