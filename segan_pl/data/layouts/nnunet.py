"""nnU-Net's raw form: DatasetNNN_<name>/dataset.json, imagesTr/<case>_0000.nii.gz, ..., labelsTr/<case>.nii.gz.

Of version 2 (channel_names, file_ending) and of version 1 (modality). The test images, without masks, are a data set of
their own: give imagesTs as the root.
"""

from __future__ import annotations

import re
from pathlib import Path

from segan_pl.data.layouts.dataset_json import Description, describe, split_channel, without_images
from segan_pl.data.layouts.label_names import convention_of
from segan_pl.data.layouts.listing import SUFFIXES, Folder, Found, shortened, suffix_of
from segan_pl.data.volume import MODALITIES, Case, CaseError

NAME = "nnunet"
EXPECTS = "dataset.json (channel_names, labels, file_ending), imagesTr/<case>_0000<ending>, labelsTr/<case><ending>"
CASE: re.Pattern[str] | None = None  # any name


def recognises(here: Folder) -> bool:
    """Whether the folder has a dataset.json, and images that are numbered by channel."""
    found = describe(here)
    return found is not None and found.separate


def find(here: Folder) -> Found:
    """The cases of imagesTr, or of the imagesTs that `here` is; a case is its own patient.

    Raises:
        CaseError: The files have a form that is not read, or two files are one channel of one case.
    """
    found = describe(here)
    assert found is not None  # recognised
    if found.suffix and found.suffix.lower() not in SUFFIXES:
        raise CaseError(f"{found.path}: file_ending {found.suffix}, expected one of {SUFFIXES}; convert the images")
    named = found.modalities()
    images, strays = _by_case(found, named)
    masks = {name.removesuffix(suffix): name for name in _files(found.masks) if (suffix := suffix_of(name))}
    cases = [_case(found, stem, files, masks.get(stem)) for stem, files in images.items()]
    notes = [f"{len(strays)} images end with no channel's number: {shortened(strays)}"] if strays else []
    notes += without_images(found.masks, {case.mask for case in cases if case.mask})
    return Found(cases, convention_of(found.labels), [*found.notes(named), *notes])


def _by_case(found: Description, named: dict[int, str]) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Case to its files by modality, and the names that are no channel's."""
    images: dict[str, dict[str, Path]] = {}
    strays = []
    for name in _files(found.images):
        parted = split_channel(name[: -len(suffix_of(name) or "")])
        if parted is None or parted[1] not in found.channels:
            strays.append(name)
            continue
        case = images.setdefault(parted[0], {})
        if parted[1] in named and (other := case.setdefault(named[parted[1]], found.images.path / name)).name != name:
            raise CaseError(f"{parted[0]}: {other.name} and {name} are one channel; expected one file; remove one")
    return images, strays


def _files(folder: Folder | None) -> list[str]:
    return [name for name in folder.files if suffix_of(name)] if folder else []


def _case(found: Description, stem: str, files: dict[str, Path], mask: str | None) -> Case:
    ordered = {modality: files[modality] for modality in MODALITIES if modality in files}
    return Case(stem, stem, ordered, found.masks.path / mask if mask and found.masks else None)
