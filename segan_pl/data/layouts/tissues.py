"""The data sets of a brain's tissues: iSEG-2017 and 2019, MRBrainS13, MRBrainS18, and IBSR18 in folders.

Cerebrospinal fluid, grey and white matter; no tumour and no grade. A case is its own patient. Facts of the first three
are from the challenges' pages and readers of their files, of IBSR18 from its files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segan_pl.data.case import Case, CaseError, ordered
from segan_pl.data.layouts.folders import Folder, Found, by_part, holds_images, shortened, suffix_of

Place = tuple[Folder, str]  # a folder of cases, and the part that its name tells, in small letters, or ""


def _places(here: Folder, named: re.Pattern[str]) -> list[Place]:
    """The folder, and those in it that are named like a part of the data set."""
    own = named.fullmatch(here.name)
    inner = [(folder, match["part"].lower()) for folder in here.folders if (match := named.fullmatch(folder.name))]
    return [(here, own["part"].lower() if own else ""), *inner]


def _strangers(places: Sequence[Place], known: Sequence[Folder]) -> list[Folder]:
    """Folders that lie where cases do and are none."""
    used = {folder.path for folder in (*known, *(place for place, _ in places))}
    return [folder for place, _ in places for folder in place.folders if folder.path not in used]


def _named(case: str, folder: Folder, parts: Mapping[str, str]) -> dict[str, Path]:
    """The images of a folder by part.

    Args:
        case: Of the message.
        folder: Where they lie.
        parts: File name without its suffix, in small letters, to its part.

    Raises:
        CaseError: Two files are one part, e.g. T1.nii and T1.mhd.
    """
    stems = [(name[: -len(suffix)].lower(), folder.path / name) for name in folder.files if (suffix := suffix_of(name))]
    images, mask = by_part(case, [(parts[stem], path) for stem, path in stems if stem in parts])
    return {**images, **({"mask": mask} if mask else {})}


ISEG_PARTS = re.compile(r"(?:iseg[-_ ]?\d{4}[-_ ])?(?P<part>training|testing|validation)", re.IGNORECASE)
ISEG_FILE = re.compile(r"(subject-\d+)-(T1|T2|label)(\.hdr|\.img|\.nii)(?:\.gz)?", re.IGNORECASE)
ISEG_KINDS = {"t1": "t1", "t2": "t2", "label": "mask"}


@dataclass(eq=False)
class ISeg:
    """iSEG-2017 and 2019: six-month-old infants, T1 and T2, flat files or Mondal's tree; a layout.

    The challenge's files are Analyze pairs; of a pair without its header the voxels are found, and the reader says what
    is missing. Mondal's code has a folder for each kind: {Training|Testing}/{T1,T2,label}/subject-<n>-<kind>.nii.
    """

    NAME: str = "iseg"
    EXPECTS: str = "iSeg-2017-<Training|Testing>/subject-<n>-{T1,T2,label}.hdr and .img, or .nii[.gz]"

    def recognises(self, here: Folder) -> bool:
        """Whether the folder, or its Training or Testing, holds a file so named."""
        return any(ISEG_FILE.fullmatch(name) for place in self._folders(here) for name in place.files)

    def find(self, here: Folder) -> Found:
        """All subjects, those of a test set without a mask.

        Raises:
            CaseError: Two files are one image of a subject.
        """
        cases = [case for place, _ in _places(here, ISEG_PARTS) for case in self._cases(place)]
        return Found(cases, "iseg", others=_strangers(_places(here, ISEG_PARTS), self._folders(here)))

    def _folders(self, here: Folder) -> list[Folder]:
        """The folders that hold files: those of the parts, and in them Mondal's T1, T2 and label."""
        places = [place for place, _ in _places(here, ISEG_PARTS)]
        return [*places, *(inner for place in places for inner in self._kinds_of(place))]

    def _kinds_of(self, place: Folder) -> list[Folder]:
        return [folder for folder in place.folders if folder.name.lower() in ISEG_KINDS]

    def _cases(self, place: Folder) -> list[Case]:
        """The subjects of one part."""
        files: dict[str, list[tuple[str, Path]]] = {}
        for folder in (place, *self._kinds_of(place)):
            found = [(name, match) for name in folder.files if (match := ISEG_FILE.fullmatch(name))]
            headers = {(match[1].lower(), match[2].lower()) for _, match in found if match[3].lower() == ".hdr"}
            for name, match in found:
                subject, kind = match[1].lower(), match[2].lower()
                if match[3].lower() != ".img" or (subject, kind) not in headers:  # a pair is known by its header
                    files.setdefault(subject, []).append((ISEG_KINDS[kind], folder.path / name))
        return [Case(subject, subject, *by_part(subject, parts)) for subject, parts in files.items()]


MRBRAINS_PARTS = re.compile(r"(?P<part>training|test)(?:ing)?(?:[-_ ]?data)?", re.IGNORECASE)
IMAGES_13 = {"t1": "t1", "t1_ir": "t1_ir", "t2_flair": "flair"}
LABELS_13 = {"labelsfortraining": "mrbrains13_training", "labelsfortesting": "mrbrains13"}
IMAGES_18 = {"reg_t1": "t1", "reg_ir": "t1_ir", "flair": "flair"}
# Conventions of MRBrainS13's two masks: what a user is told of each, and the layout that takes it whatever there is.
MASKS = {
    "mrbrains13_training": ("LabelsForTraining, whose cerebellum and brainstem are ignored", "mrbrains13_training"),
    "mrbrains13": ("LabelsForTesting, in which cerebellum and brainstem are background", "mrbrains13_testing"),
}


@dataclass(eq=False)
class MRBrainS13:
    """MRBrainS13: T1, T1_IR and T2_FLAIR on one grid, with two masks of which one is used; a layout.

    T1_1mm is on a grid of its own and never used. Training and test cases have the same numbers, so a case's name
    begins with its part: training_1, test_1.

    Attributes:
        NAME: Of the layout.
        masks: Keys of `MASKS`; the first that all cases with any mask have is used, else the last.
        BY_NAME: Whether `--data.layout auto` leaves it out.
    """

    NAME: str
    masks: Sequence[str] = (*MASKS,)
    BY_NAME: bool = False
    EXPECTS: str = "<TrainingData|TestData>/<n>/{T1,T1_IR,T2_FLAIR,LabelsForTraining,LabelsForTesting}.nii[.gz] or .mhd"

    def recognises(self, here: Folder) -> bool:
        """Whether the folder, or its TrainingData or TestData, holds a number with files that no other data set has."""
        return any({"t1_ir", *LABELS_13} & _stems(folder) for folder, _ in self._numbers(here))

    def find(self, here: Folder) -> Found:
        """All cases with the mask that is used, and a note that says which and how to have the other.

        Raises:
            CaseError: Two files are one image of a case.
        """
        numbers = self._numbers(here)
        files = {
            f"{part}_{folder.name}" if part else folder.name: _named(folder.name, folder, {**IMAGES_13, **LABELS_13})
            for folder, part in numbers
        }
        labelled = [found for found in files.values() if found.keys() & MASKS.keys()]
        used = next((one for one in self.masks if all(one in found for found in labelled)), self.masks[-1])
        cases = [
            Case(name, name, {part: found[part] for part in ordered(found.keys() - MASKS.keys())}, found.get(used))
            for name, found in files.items()
        ]
        ((what, layout),) = (MASKS[one] for one in MASKS if one != used)
        note = f"the masks are {MASKS[used][0]}; --data.layout {layout} takes {what}"
        other = [name for name, found in files.items() if found.keys() & MASKS.keys() and used not in found]
        notes = [note] if labelled else []
        if other:
            notes.append(f"{len(other)} cases have the other mask alone and count as without one: {shortened(other)}")
        strangers = _strangers(_places(here, MRBRAINS_PARTS), [folder for folder, _ in numbers])
        return Found(cases, used, notes, strangers)

    def _numbers(self, here: Folder) -> list[Place]:
        """The folders whose names are numbers and that hold an image, and the part that each is of."""
        places = _places(here, MRBRAINS_PARTS)
        numbers = [(folder, part) for place, part in places for folder in place.folders if folder.name.isdigit()]
        return [(folder, part) for folder, part in numbers if {*IMAGES_13} & _stems(folder)]


def _stems(folder: Folder) -> set[str]:
    """Names of a folder's images, without suffix and in small letters."""
    return {name[: -len(suffix)].lower() for name in folder.files if (suffix := suffix_of(name))}


@dataclass(eq=False)
class MRBrainS18:
    """MRBrainS18: `<n>/segm` and `<n>/pre`, of which the bias-corrected and registered images are used; a layout.

    Of the inversion recovery reg_IR is taken, else IR, which lies on the same grid; of T1 reg_T1 alone.
    """

    NAME: str = "mrbrains18"
    EXPECTS: str = "training/<n>/segm.nii.gz and training/<n>/pre/{reg_T1,reg_IR,FLAIR}.nii.gz"

    def recognises(self, here: Folder) -> bool:
        """Whether the folder, or its training or test, holds a number with such a folder `pre`."""
        return bool(self._numbers(here))

    def find(self, here: Folder) -> Found:
        """All cases, and a note on those whose inversion recovery is not the registered one.

        Raises:
            CaseError: Two files are one image of a case.
        """
        cases, unregistered = [], []
        for folder, pre in self._numbers(here):
            found = _named(folder.name, pre, IMAGES_18)
            if "t1_ir" not in found and (other := _named(folder.name, pre, {"ir": "t1_ir"})):
                found |= other
                unregistered.append(folder.name)
            images = {part: found[part] for part in ordered(found)}
            mask = _named(folder.name, folder, {"segm": "mask"}).get("mask")
            cases.append(Case(folder.name, folder.name, images, mask))
        notes = [f"{len(unregistered)} cases have no reg_IR, IR is used: {shortened(unregistered)}"]
        strangers = _strangers(_places(here, MRBRAINS_PARTS), [folder for folder, _ in self._numbers(here)])
        return Found(cases, "mrbrains18", notes if unregistered else [], strangers)

    def _numbers(self, here: Folder) -> list[tuple[Folder, Folder]]:
        """The folders whose names are numbers, and the folder `pre` in each."""
        numbers = [folder for place, _ in _places(here, MRBRAINS_PARTS) for folder in place.folders]
        pairs = [(folder, folder.within("pre")) for folder in numbers if folder.name.isdigit()]
        return [(folder, pre) for folder, pre in pairs if pre and _stems(pre) & {"reg_t1", "flair"}]


# In-plane size of a voxel, mm; slices are 1.5 mm. The data set names no scanner: A, B and C are ours.
IBSR_SCANNERS = {"A": 0.9375, "B": 1.0, "C": 0.8371}
IBSR_SLICES_MM, IBSR_TOLERANCE_MM = 1.5, 0.005


@dataclass(eq=False)
class IBSR18:
    """IBSR18 in folders, T1 alone; the institution is the scanner, told by the size of a voxel; a layout.

    The headers of the images are read for it, and no voxel.
    """

    NAME: str = "ibsr18"
    EXPECTS: str = "IBSR_<nn>/IBSR_<nn>.nii[.gz] and IBSR_<nn>_seg.nii[.gz]"
    CASE = re.compile(r"IBSR_\d+", re.IGNORECASE)

    def recognises(self, here: Folder) -> bool:
        """Whether the folder holds a subject's folder with the image of its name."""
        return any(folder.name.lower() in _stems(folder) for folder in self._subjects(here))

    def find(self, here: Folder) -> Found:
        """All subjects; of those whose header tells no scanner the institution is None, with a note.

        Raises:
            CaseError: Two files are one image of a subject.
        """
        cases = []
        for folder in self._subjects(here):
            name = folder.name
            found = _named(name, folder, {name.lower(): "t1", f"{name.lower()}_seg": "mask"})
            if "t1" in found or "mask" in found:
                images = {"t1": found["t1"]} if "t1" in found else {}
                scanner = scanner_of(found["t1"]) if images else None
                cases.append(Case(name, name, images, found.get("mask"), institution=scanner))
        untold = [case.name for case in cases if case.institution is None]
        counts = Counter(case.institution for case in cases if case.institution)
        told = ", ".join(f"{name} ({IBSR_SCANNERS[name]:g} mm in plane) {counts[name]}" for name in sorted(counts))
        notes = [f"the institution is the scanner, told by the voxel size and named by us: {told}"] if told else []
        notes += [f"{len(untold)} cases are of no known voxel size, or cannot be read: {shortened(untold)}"] * bool(
            untold
        )
        others = [folder for folder in here.folders if folder.name not in {case.name for case in cases}]
        return Found(cases, "ibsr18", notes, [folder for folder in others if holds_images(folder)])

    def _subjects(self, here: Folder) -> list[Folder]:
        return [folder for folder in here.folders if self.CASE.fullmatch(folder.name)]


def scanner_of(image: Path) -> str | None:
    """The scanner of an IBSR18 image by the voxel size in its header; None for another size or a broken header."""
    from segan_pl.data.io import read_grid  # nibabel, which no other layout waits for

    try:
        sizes = np.linalg.norm(read_grid(image).affine[:3, :3], axis=0)
    except CaseError:
        return None  # whoever reads the voxels says what is wrong
    for name, in_plane in IBSR_SCANNERS.items():
        if np.abs(np.sort(sizes) - sorted([in_plane, in_plane, IBSR_SLICES_MM])).max() <= IBSR_TOLERANCE_MM:
            return name
    return None


TISSUES = (
    ISeg(),
    MRBrainS13("mrbrains13"),
    MRBrainS13("mrbrains13_training", ("mrbrains13_training",), BY_NAME=True),
    MRBrainS13("mrbrains13_testing", ("mrbrains13",), BY_NAME=True),
    MRBrainS18(),
    IBSR18(),
)
