"""A folder's entries, listed once; what a layout finds in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segan_pl.data.volume import Case, CaseError

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".hdr")  # of a pair, the half with the header stands for both
DEPTH = 3  # how far below a strange folder images are looked for; BraTS 2015 needs 3


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
                    if not entry.name.startswith("."):  # macOS leaves ._<name> beside each file
                        (folders if entry.is_dir() or _meant_a_folder(entry) else files).append(entry.name)
        except OSError as error:
            raise CaseError(_unlistable(self.path, error)) from error
        return tuple(Folder(self.path / name) for name in sorted(folders)), tuple(sorted(files))


@dataclass(frozen=True)
class Found:
    """What a layout found in a folder.

    Attributes:
        cases: In any order.
        native_labels: Which of `labels.CONVENTIONS` the masks follow, or None where the data set does not say.
        notes: What a user must know of the data set.
        beside: Folders that lie where cases lie and are none.
        root: What the data set is known by, if not by the folder.
    """

    cases: Sequence[Case]
    native_labels: str | None
    notes: Sequence[str] = ()
    beside: Sequence[Folder] = ()
    root: Path | None = None


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


def _meant_a_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads nowhere and has no file's suffix (2015's folders end with a number)."""
    suffix = os.path.splitext(entry.name)[1][1:]
    return entry.is_symlink() and not (suffix and not suffix.isdigit()) and not os.path.exists(entry.path)


def _unlistable(path: Path, error: OSError) -> str:
    if path.is_symlink() and not os.path.exists(path):
        return f"{path}: a broken link to {os.readlink(path)}; restore its target or remove the link"
    return f"{path}: cannot be listed ({error.strerror}); expected a folder that may be read; check its permissions"
