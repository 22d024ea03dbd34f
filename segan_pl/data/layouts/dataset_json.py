"""dataset.json, as the Medical Segmentation Decathlon and nnU-Net write it: names of the channels and of the labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segan_pl.data.layouts.listing import Folder, shortened, suffix_of
from segan_pl.data.layouts.naming import modality_of
from segan_pl.data.volume import CaseError

FILE = "dataset.json"
PARTS = ("imagesTr", "imagesTs")
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True)
class Description:
    """A data set that a dataset.json describes, or one of its parts.

    Attributes:
        path: The dataset.json.
        images: The folder imagesTr, or imagesTs where that was asked for.
        masks: labelsTr or labelsTs; None where there is none.
        test: Number of image files in imagesTs that are not part of this.
        channels: Number of a channel to its name.
        labels: Name of a label to its number, or to the numbers of the labels that make the region.
        separate: Whether each channel is a file of its own, <case>_0000.
        suffix: What every file's name must end with, or None where nothing says it.
    """

    path: Path
    images: Folder
    masks: Folder | None
    test: int
    channels: Mapping[int, str]
    labels: Mapping[str, tuple[int, ...]]
    separate: bool
    suffix: str | None

    def modalities(self) -> dict[int, str]:
        """Number of a channel to its modality, those that are known.

        Raises:
            CaseError: None is, or two channels are one modality.
        """
        known = {number: modality for number, name in self.channels.items() if (modality := modality_of(name))}
        if not known or len(set(known.values())) < len(known):
            raise CaseError(
                f"{self.path}: channels {dict(self.channels)}, expected one each of t1, t1ce, t2, flair; "
                f"mend the names, or list the files in a CSV manifest"
            )
        return known

    def notes(self, named: Mapping[int, str]) -> list[str]:
        """What is not used: channels that are no modality, and the test part."""
        unused = [name for number, name in self.channels.items() if number not in named]
        tests = f"{self.test} image files in imagesTs are not used; give that folder as --data.root to use them"
        return [
            *([f"channels {unused} are no known modality and are not used"] if unused else []),
            *([tests] if self.test else []),
        ]


def describe(here: Folder) -> Description | None:
    """The data set of a folder with dataset.json and imagesTr, or of such an imagesTr or imagesTs; None for others.

    Raises:
        CaseError: The dataset.json of such a folder cannot be understood.
    """
    home = Folder(here.path.absolute().parent) if here.name in PARTS else here
    images = next((home.within(part) for part in PARTS if home.within(part)), None)
    if FILE not in home.files or images is None:
        return None
    if here.name in PARTS:
        images = here
    content = _read(home.path / FILE)
    tests = home.within("imagesTs") if images.name == "imagesTr" and home is here else None
    names = content.get("channel_names") or content["modality"]
    return Description(
        path=home.path / FILE,
        images=images,
        masks=home.within(images.name.replace("images", "labels")),
        test=sum(1 for name in tests.files if suffix_of(name)) if tests else 0,
        channels=_channels(home.path / FILE, names),
        labels=_labels(content.get("labels")),
        separate="channel_names" in content or _numbered(images),
        suffix=content.get("file_ending"),
    )


def split_channel(stem: str) -> tuple[str, int] | None:
    """("BRATS_001", 2) of "BRATS_001_0002", or None."""
    match = _CHANNEL.fullmatch(stem)
    return (match["case"], int(match["channel"])) if match else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CaseError(f"{path}: cannot be read ({error}); expected JSON; mend or restore it") from error
    if not isinstance(content, dict) or not (content.get("channel_names") or content.get("modality")):
        raise CaseError(f"{path}: neither 'channel_names' nor 'modality'; expected the channels' names; add them")
    if "dataset" in content:
        raise CaseError(f"{path}: lists its files under 'dataset', which is not read; list them in a CSV manifest")
    return content


def _channels(path: Path, names: Any) -> dict[int, str]:
    """Number to name."""
    try:
        return {int(number): str(name) for number, name in dict(names).items()}
    except (TypeError, ValueError):
        raise CaseError(f'{path}: channels {names!r}; expected {{"0": "T1", "1": "FLAIR", ...}}; mend it') from None


def _labels(labels: Any) -> dict[str, tuple[int, ...]]:
    """Name to numbers, from {"background": 0, "tumour": [1, 2]} (nnU-Net 2) or {"0": "background"} (the older form).

    Empty where they are anything else: then nothing says what the labels mean, and the user must.
    """
    if not isinstance(labels, dict):
        return {}
    try:
        if all(str(key).isdigit() for key in labels):
            return {str(name): (int(number),) for number, name in labels.items()}
        lists = {name: value if isinstance(value, list) else [value] for name, value in labels.items()}
        return {str(name): tuple(int(number) for number in numbers) for name, numbers in lists.items()}
    except (TypeError, ValueError):
        return {}


def _numbered(images: Folder) -> bool:
    """Whether every image's name ends with a channel's number, the first one's among them."""
    stems = [name[: -len(suffix)] for name in images.files if (suffix := suffix_of(name))]
    numbers = [split_channel(stem) for stem in stems]
    return bool(numbers) and None not in numbers and any(number and number[1] == 0 for number in numbers)


def without_images(masks: Folder | None, used: set[Path]) -> list[str]:
    """A note on masks that belong to no case."""
    left = [name for name in masks.files if suffix_of(name) and masks.path / name not in used] if masks else []
    return [f"{len(left)} masks belong to no image: {shortened(left)}"] if left else []
