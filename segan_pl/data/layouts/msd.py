"""Medical Segmentation Decathlon, Task01_BrainTumour: dataset.json, imagesTr/BRATS_001.nii.gz (4-D), labelsTr.

The last axis of an image is the modality, in the order of dataset.json; `Case.channels` says which volume is which. The
test images, without masks, are a data set of their own: give imagesTs as the root.
"""

from __future__ import annotations

import re

from segan_pl.data.layouts.dataset_json import Description, describe, without_images
from segan_pl.data.layouts.label_names import convention_of
from segan_pl.data.layouts.listing import Folder, Found, suffix_of
from segan_pl.data.volume import MODALITIES, Case

NAME = "msd"
EXPECTS = "dataset.json (modality, labels), imagesTr/<case>.nii.gz (4-D), labelsTr/<case>.nii.gz"
CASE: re.Pattern[str] | None = None  # any name


def recognises(here: Folder) -> bool:
    """Whether the folder has a dataset.json, and images that are not numbered by channel."""
    found = describe(here)
    return found is not None and not found.separate


def find(here: Folder) -> Found:
    """The cases of imagesTr, or of the imagesTs that `here` is; a case is its own patient."""
    found = describe(here)
    assert found is not None  # recognised
    named = found.modalities()
    channels = {modality: number for modality in MODALITIES for number, known in named.items() if known == modality}
    cases = [_case(found, name, suffix, channels) for name in found.images.files if (suffix := suffix_of(name))]
    strays = without_images(found.masks, {case.mask for case in cases if case.mask})
    return Found(cases, convention_of(found.labels), [*found.notes(named), *strays])


def _case(found: Description, name: str, suffix: str, channels: dict[str, int]) -> Case:
    path = found.images.path / name
    masked = found.masks is not None and name in found.masks.files
    mask = found.masks.path / name if masked and found.masks else None
    stem = name.removesuffix(suffix)
    return Case(stem, stem, dict.fromkeys(channels, path), mask, channels=channels)
