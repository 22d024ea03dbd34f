"""Words that data sets share: what the modalities are called, and how the folder of a case is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from segan_pl.data.layouts.listing import Folder, suffix_of
from segan_pl.data.volume import MODALITIES, CaseError

ALIASES = {
    "t1": ("t1", "t1n", "t1w", "t1pre", "t1wpre", "t1native"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1gad", "t1post", "t1wce", "t1wc", "t1wgd", "t1wpost", "t1contrast", "t1km"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2f", "fla", "t2flair", "t2wflair"),
}
MASK_WORDS = ("seg", "segm", "segmentation", "mask", "label", "gt", "ot")
GRADES = ("HGG", "LGG")
UNGRADED = "HGG_LGG"  # BraTS 2015's test set
_MODALITY = {alias: modality for modality, aliases in ALIASES.items() for alias in aliases}
_BETWEEN = re.compile(r"[\s_\-.+]")


def modality_of(word: str) -> str | None:
    """The modality ("t1", "t1ce", "t2", "flair") that a word such as "T1Gd", "T2-FLAIR" or "MR_T1c" means, or None."""
    plain = _BETWEEN.sub("", word.lower())
    return _MODALITY.get(plain) or _MODALITY.get(re.sub("^mri?", "", plain))


def part_of(stem: str) -> str | None:
    """The modality or "mask" that a file name without its suffix ends with, e.g. "x_t1_gd" or "x-seg", or None."""
    words = _BETWEEN.split(stem)
    if words[-1].lower() in MASK_WORDS:
        return "mask"
    return modality_of("".join(words[-2:])) or modality_of(words[-1])


def case_files(folder: Folder) -> tuple[dict[str, Path], Path | None]:
    """A case folder's images by modality, in MODALITIES' order, and its mask, told by how each file name ends.

    Raises:
        CaseError: Two files claim the same modality.
    """
    return by_part(folder.path.name, _parts(folder))


def by_part(case: str, parts: Iterator[tuple[str, Path]]) -> tuple[dict[str, Path], Path | None]:
    """Images in MODALITIES' order, and the mask, of (modality or "mask", file) pairs.

    Raises:
        CaseError: Two files claim the same modality.
    """
    found: dict[str, Path] = {}
    for part, path in parts:
        if (other := found.setdefault(part, path)) != path:
            raise CaseError(
                f"{case}: {other.name} and {path.name} both claim to be {part}; expected one file; remove one"
            )
    return {modality: found[modality] for modality in MODALITIES if modality in found}, found.get("mask")


def matching(here: Folder, pattern: re.Pattern[str]) -> tuple[list[tuple[Folder, re.Match[str]]], list[Folder]]:
    """The folders in `here` whose names the pattern fits, with the match, and the other folders."""
    named = [(folder, pattern.fullmatch(folder.path.name)) for folder in here.folders]
    return [(folder, match) for folder, match in named if match], [folder for folder, match in named if not match]


def graded(here: Folder) -> list[tuple[Folder, str | None]]:
    """The folders that may hold cases, each with the grade that its name tells: `here`, HGG, LGG and HGG_LGG."""
    own = here.name.upper()
    inner = [(folder, folder.path.name.upper()) for folder in here.folders]
    return [
        (here, own if own in GRADES else None),
        *((folder, name if name in GRADES else None) for folder, name in inner if name in (*GRADES, UNGRADED)),
    ]


def graded_cases(
    here: Folder, pattern: re.Pattern[str]
) -> tuple[list[tuple[Folder, re.Match[str], str | None]], list[Folder]]:
    """(folder, match, grade) of each case in `here` and in the folders of the grades, and the folders beside them."""
    found: list[tuple[Folder, re.Match[str], str | None]] = []
    beside: list[Folder] = []
    places = graded(here)
    for place, grade in places:
        cases, others = matching(place, pattern)
        found += [(folder, match, grade) for folder, match in cases]
        beside += [folder for folder in others if folder not in [place for place, _ in places]]
    return found, beside


def _parts(folder: Folder) -> Iterator[tuple[str, Path]]:
    """(modality or "mask", file) of each image file in a folder; other files are left alone."""
    for name in folder.files:
        suffix = suffix_of(name)
        part = suffix and part_of(name[: -len(suffix)])
        if part:
            yield part, folder.path / name
