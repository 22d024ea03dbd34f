"""dataset.json, as the Medical Segmentation Decathlon and nnU-Net write it, and their two layouts.

It names the channels and the labels. The Decathlon (e.g. Task01_BrainTumour) has one 4-D file for each case, whose last
axis is the modality: imagesTr/BRATS_001.nii.gz. nnU-Net has one 3-D file for each channel, imagesTr/<case>_0000.nii.gz,
in version 2 (channel_names, file_ending) as in version 1 (modality). The masks are in labelsTr. The test images,
without masks, are a data set of their own: give imagesTs as the root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segan_pl.data.case import Case, CaseError, ordered
from segan_pl.data.conventions import described_convention
from segan_pl.data.label_names import LabelNames
from segan_pl.data.layouts.folders import SUFFIXES, Folder, Found, modality_name, shortened, suffix_of

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
        labels: What the labels are called.
        separate: Whether each channel is a file of its own, <case>_0000.
        suffix: What every file's name must end with, or None where nothing says it.
    """

    path: Path
    images: Folder
    masks: Folder | None
    test: int
    channels: Mapping[int, str]
    labels: LabelNames
    separate: bool
    suffix: str | None

    def modalities(self) -> dict[int, str]:
        """Number of a channel to its modality.

        Raises:
            CaseError: A channel has no name, or two are one modality.
        """
        named = {number: modality_name(name) for number, name in self.channels.items()}
        if not all(named.values()) or len(set(named.values())) < len(named):
            raise CaseError(
                f"{self.path}: channels {dict(self.channels)}, expected another name for each, e.g. t1, t1_ir, flair; "
                f"fix the names, or list the files in a CSV manifest"
            )
        return named


@dataclass(eq=False)
class DescribedLayout:
    """A layout with a dataset.json.

    Attributes:
        NAME: Of the layout.
        EXPECTS: Its form, for messages.
        separate: Whether each channel is a file of its own.
    """

    NAME: str
    EXPECTS: str
    separate: bool

    def recognises(self, here: Folder) -> bool:
        """Whether the folder has a dataset.json, and images that are numbered by channel, or that are not."""
        found = describe(here)
        return found is not None and found.separate == self.separate

    def find(self, here: Folder) -> Found:
        """The cases of imagesTr, or of the imagesTs that `here` is; a case is its own patient.

        Raises:
            CaseError: The files have a form that is not read, or two files are one channel of one case.
        """
        found = describe(here)
        assert found is not None  # recognised
        cases: list[Case] = []
        notes: list[str] = []
        if self.separate:
            cases, notes = _cases_of_channels(found)
        numbers = {modality: number for number, modality in found.modalities().items()}
        channels = {modality: numbers[modality] for modality in ordered(numbers)}
        # the Decathlon's cases: each a 4-D file, the mask a file of the same name
        for name in () if self.separate else found.images.files:
            if suffix := suffix_of(name):
                stem, path = name.removesuffix(suffix), found.images.path / name
                mask = found.masks.path / name if found.masks and name in found.masks.files else None
                cases.append(Case(stem, stem, dict.fromkeys(channels, path), mask, channels=channels))
        if found.test:
            notes.insert(
                0, f"{found.test} image files in imagesTs are not used; give that folder as --root to use them"
            )
        used = {case.mask for case in cases}
        names = found.masks.files if found.masks else ()
        left = [name for name in names if found.masks and suffix_of(name) and found.masks.path / name not in used]
        notes += [f"{len(left)} masks belong to no image: {shortened(left)}"] if left else []
        return Found(cases, described_convention(found.labels), notes, names=found.labels)


MSD = DescribedLayout(
    "msd", "dataset.json (modality, labels), imagesTr/<case>.nii.gz (4-D), labelsTr/<case>.nii.gz", separate=False
)
NNUNET = DescribedLayout(
    "nnunet",
    "dataset.json (channel_names, labels, file_ending), imagesTr/<case>_0000<ending>, labelsTr/<case><ending>",
    separate=True,
)


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
    path = home.path / FILE
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CaseError(f"{path}: cannot be read ({error}); expected JSON; fix or restore it") from error
    if not isinstance(content, dict) or not (content.get("channel_names") or content.get("modality")):
        raise CaseError(f"{path}: neither 'channel_names' nor 'modality'; expected the channels' names; add them")
    if "dataset" in content:
        raise CaseError(f"{path}: lists its files under 'dataset', which is not read; list them in a CSV manifest")
    tests = home.within("imagesTs") if images.name == "imagesTr" and home is here else None
    names = content.get("channel_names") or content["modality"]
    try:
        channels = {int(number): str(name) for number, name in dict(names).items()}
    except (TypeError, ValueError):
        raise CaseError(f'{path}: channels {names!r}; expected {{"0": "T1", "1": "FLAIR", ...}}; fix it') from None
    numbers = [split_channel(name[: -len(suffix)]) for name in images.files if (suffix := suffix_of(name))]
    # Version 1 does not say it: then every image's name ends with a channel's number, the first one's among them.
    numbered = bool(numbers) and None not in numbers and any(number and number[1] == 0 for number in numbers)
    return Description(
        path=path,
        images=images,
        masks=home.within(images.name.replace("images", "labels")),
        test=sum(1 for name in tests.files if suffix_of(name)) if tests else 0,
        channels=channels,
        labels=LabelNames(FILE, _labels(content.get("labels"))),
        separate="channel_names" in content or numbered,
        suffix=content.get("file_ending"),
    )


def split_channel(stem: str) -> tuple[str, int] | None:
    """("BRATS_001", 2) of "BRATS_001_0002", or None."""
    match = _CHANNEL.fullmatch(stem)
    return (match["case"], int(match["channel"])) if match else None


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


def _cases_of_channels(found: Description) -> tuple[list[Case], list[str]]:
    """nnU-Net's cases: each a 3-D file for each channel; and a note on the files that are no channel's."""
    if found.suffix and found.suffix.lower() not in SUFFIXES:
        raise CaseError(f"{found.path}: file_ending {found.suffix}, expected one of {SUFFIXES}; convert the images")
    named = found.modalities()
    images: dict[str, dict[str, Path]] = {}
    strays = []
    for name in found.images.files:
        if not (suffix := suffix_of(name)):
            continue
        parted = split_channel(name[: -len(suffix)])
        if parted is None or parted[1] not in found.channels:
            strays.append(name)
            continue
        stem, channel = parted
        case = images.setdefault(stem, {})
        if (other := case.setdefault(named[channel], found.images.path / name)).name != name:
            raise CaseError(f"{stem}: {other.name} and {name} are one channel; expected one file; remove one")
    folder = found.masks
    masks = {
        name.removesuffix(suffix): folder.path / name
        for name in (folder.files if folder else ())
        if folder and (suffix := suffix_of(name))
    }
    cases = [
        Case(stem, stem, {modality: files[modality] for modality in ordered(files)}, masks.get(stem))
        for stem, files in images.items()
    ]
    return cases, [f"{len(strays)} images end with no channel's number: {shortened(strays)}"] if strays else []
