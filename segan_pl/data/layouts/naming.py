"""Words that data sets share: what the modalities are called, and how a case's folder is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from segan_pl.data.volume import MODALITIES, CaseError

ALIASES = {
    "t1": ("t1", "t1n", "t1w", "t1pre"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1post", "t1wce", "t1km"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2f", "fla", "t2flair"),
}
MASK_WORDS = ("seg", "segm", "mask", "label", "gt")
SUFFIXES = (".nii.gz", ".nii")
_MODALITY = {alias: modality for modality, aliases in ALIASES.items() for alias in aliases}


def modality_of(word: str) -> str | None:
    """The modality ("t1", "t1ce", "t2", "flair") that a word such as "T1Gd" means, or None."""
    return _MODALITY.get(word.lower().replace("-", "").replace("_", ""))


def folders(root: Path) -> list[Path]:
    """The visible folders in `root`, by name."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise CaseError(f"{root}: cannot be listed ({error.strerror}); check --data.root") from error


def case_files(folder: Path) -> tuple[dict[str, Path], Path | None]:
    """A case folder's images by modality, in MODALITIES' order, and its mask, told by each file name's last word.

    Raises:
        CaseError: Two files claim the same modality.
    """
    found: dict[str, Path] = {}
    for part, path in sorted(_parts(folder), key=lambda item: item[1].name):
        if (other := found.setdefault(part, path)) != path:
            raise CaseError(
                f"{folder.name}: {other.name} and {path.name} both claim to be {part}; expected one file; remove one"
            )
    return {modality: found[modality] for modality in MODALITIES if modality in found}, found.get("mask")


def has_images(folder: Path) -> bool:
    """Whether at least one file of a folder is an image or a mask by its name."""
    return next(_parts(folder), None) is not None


def _parts(folder: Path) -> Iterator[tuple[str, Path]]:
    """(modality or "mask", file) of each image file in a folder; other files are left alone."""
    for path in folder.iterdir():
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is None or path.name.startswith("."):
            continue
        word = re.split(r"[_\-.]", path.name[: -len(suffix)])[-1].lower()
        part = "mask" if word in MASK_WORDS else modality_of(word)
        if part is not None:
            yield part, path
