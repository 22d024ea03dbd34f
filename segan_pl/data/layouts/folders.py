"""A folder's entries, listed once, and what their names say; what a layout finds in it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segan_pl.data.case import Case, CaseError, ordered
from segan_pl.data.label_names import LabelNames

# Of a pair, the half with the header is listed for both.
SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".hdr")
# How far below a strange folder images are looked for; BraTS 2015 needs 3.
DEPTH = 3


class Folder:
    """A folder whose visible entries are listed when first asked for, and only once.

    Attributes:
        path: As given, or below the one given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Its name, also where the path is "." or ends with ".."."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def folders(self) -> tuple[Folder, ...]:
        """The folders in it, by name; links to folders too, and broken links that were meant for one."""
        return self._entries[0]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files in it, sorted; links to files too, broken or not."""
        return self._entries[1]

    def within(self, name: str) -> Folder | None:
        """The folder of that name in it, or None."""
        return next((folder for folder in self.folders if folder.path.name == name), None)

    @cached_property
    def _entries(self) -> tuple[tuple[Folder, ...], tuple[str, ...]]:
        """Folders and file names.

        Raises:
            CaseError: It cannot be listed.
        """
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    # A link that leads nowhere and has no file's suffix (2015's folders end with a number).
                    suffix = os.path.splitext(entry.name)[1][1:]
                    plain = not suffix or suffix.isdigit()
                    broken_folder = plain and entry.is_symlink() and not os.path.exists(entry.path)
                    if not entry.name.startswith("."):  # macOS leaves ._<name> next to each file
                        (folders if entry.is_dir() or broken_folder else files).append(entry.name)
        except OSError as error:
            broken = self.path.is_symlink() and not os.path.exists(self.path)
            what = (
                f"a broken link to {os.readlink(self.path)}; restore its target or remove the link"
                if broken
                else f"cannot be listed ({error.strerror}); expected a folder that may be read; check its permissions"
            )
            raise CaseError(f"{self.path}: {what}") from error
        return tuple(Folder(self.path / name) for name in sorted(folders)), tuple(sorted(files))


@dataclass(frozen=True)
class Found:
    """What a layout found in a folder.

    Attributes:
        cases: In any order.
        native_labels: Which of `labels.CONVENTIONS` the masks follow, or None where the data set does not say.
        notes: What a user must know of the data set.
        others: Folders that lie where cases lie and are none.
        root: What the data set is known by, if not by the folder.
        names: What the data set itself calls its labels, where it does.
    """

    cases: Sequence[Case]
    native_labels: str | None
    notes: Sequence[str] = ()
    others: Sequence[Folder] = ()
    root: Path | None = None
    names: LabelNames | None = None


def suffix_of(name: str) -> str | None:
    """The suffix of a file name that is an image's, in whatever case, or None."""
    lower = name.lower()
    return next((name[-len(suffix) :] for suffix in SUFFIXES if lower.endswith(suffix)), None)


def holds_images(folder: Folder, depth: int = DEPTH) -> bool:
    """Whether a folder, or one up to `depth` levels down, holds a file that is an image by its suffix."""
    if any(suffix_of(name) for name in folder.files):
        return True
    return depth > 0 and any(holds_images(inner, depth - 1) for inner in folder.folders)


def shortened(names: Sequence[str], most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


ALIASES = {
    "t1": ("t1", "t1n", "t1w", "t1pre", "t1wpre", "t1native"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1gad", "t1post", "t1wce", "t1wc", "t1wgd", "t1wpost", "t1contrast", "t1km"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2f", "fla", "t2flair", "t2wflair"),
}
MASK_WORDS = ("seg", "segm", "segmentation", "mask", "label", "gt", "gtv", "ot")
GRADES = ("HGG", "LGG")
# BraTS 2015's test set.
UNGRADED = "HGG_LGG"
CaseFolder = tuple[Folder, "re.Match[str]", str | None]  # a case's folder, what its name says, the grade
_MODALITY = {alias: modality for modality, aliases in ALIASES.items() for alias in aliases}
_BETWEEN = re.compile(r"[\s_\-.+]")


def modality_of(word: str) -> str | None:
    """BraTS's modality ("t1", "t1ce", "t2", "flair") that a word like "T1Gd", "T2-FLAIR" or "MR_T1c" means, or None."""
    plain = _BETWEEN.sub("", word.lower())
    return _MODALITY.get(plain) or _MODALITY.get(re.sub("^mri?", "", plain))


def modality_name(word: str) -> str:
    """What a modality is called here: by its usual name, else the word in lower case, e.g. "t1_ir" of "T1-IR"."""
    return modality_of(word) or re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")


def part_of(stem: str, others: Collection[str] = ()) -> str | None:
    """The modality or "mask" that a file name without its suffix ends with, e.g. "x_t1_gd" or "x-seg", or None.

    Args:
        stem: The name.
        others: Modalities without a usual name, e.g. ("t1_ir",), of which "x_T1-IR" is one.
    """
    words = _BETWEEN.split(stem)
    if words[-1].lower() in MASK_WORDS:
        return "mask"
    named = [other for other in others if f"_{modality_name(stem)}".endswith(f"_{other}")]
    return max(named, key=len, default=None) or modality_of("".join(words[-2:])) or modality_of(words[-1])


def case_files(folder: Folder, others: Collection[str] = ()) -> tuple[dict[str, Path], Path | None]:
    """A case folder's images by modality, in their usual order, and its mask, told by how each file name ends.

    Args:
        folder: The case's.
        others: As `part_of`.

    Raises:
        CaseError: Two files claim the same modality.
    """
    return by_part(folder.path.name, _parts(folder, others))


def by_part(case: str, parts: Iterable[tuple[str, Path]]) -> tuple[dict[str, Path], Path | None]:
    """Images in their usual order, and the mask, of (modality or "mask", file) pairs.

    Raises:
        CaseError: Two files claim the same modality.
    """
    found: dict[str, Path] = {}
    for part, path in parts:
        if (other := found.setdefault(part, path)) != path:
            raise CaseError(
                f"{case}: {other.name} and {path.name} both claim to be {part}; expected one file; remove one"
            )
    return {modality: found[modality] for modality in ordered(found.keys() - {"mask"})}, found.get("mask")


def case_folders(
    here: Folder, pattern: re.Pattern[str], *, graded: bool = False
) -> tuple[list[CaseFolder], list[Folder]]:
    """The folders of cases in `here`, by their names, and the other folders there.

    Args:
        here: Where they lie.
        pattern: Of a case's folder.
        graded: Whether they may lie in HGG, LGG or HGG_LGG too; the first two, and `here` so named, tell the grade.
    """
    own = here.name.upper() if graded else ""
    inner = [(folder, folder.path.name.upper()) for folder in here.folders] if graded else []
    graded_folders = [
        (folder, name if name in GRADES else None) for folder, name in inner if name in (*GRADES, UNGRADED)
    ]
    cases: list[CaseFolder] = []
    others: list[Folder] = []
    for place, grade in [(here, own if own in GRADES else None), *graded_folders]:
        named = [(folder, pattern.fullmatch(folder.path.name)) for folder in place.folders]
        cases += [(folder, match, grade) for folder, match in named if match]
        others += [folder for folder, match in named if not match and folder not in [one for one, _ in graded_folders]]
    return cases, others


def _parts(folder: Folder, others: Collection[str]) -> Iterator[tuple[str, Path]]:
    """(modality or "mask", file) of each image file in a folder; other files are left alone."""
    for name in folder.files:
        suffix = suffix_of(name)
        part = suffix and part_of(name[: -len(suffix)], others)
        if part:
            yield part, folder.path / name
