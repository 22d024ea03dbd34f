"""A mask on a DICOM series' grid as DICOM-SEG (highdicom), with names and codes of its segments."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl import __version__
from segan_pl.clinical import dicom
from segan_pl.data.case import CaseError
from segan_pl.data.conventions import Convention

DESCRIPTION = "RESEARCH USE ONLY - segan_pl"
"""The series description: at most 64 characters, as DICOM has it."""
ROOT = "1.2.826.0.1.3680043.10.543."
"""highdicom's and pydicom's root for UIDs that anybody may make."""
PRIVATE_SCHEME = "99SEGANPL"
# All of group 8 (identification) that stays of a source: what highdicom asks for, and it names nobody.
KEPT = ("SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "SpecificCharacterSet", "Manufacturer")
# Patient, clinical trial, study, visit, procedure: highdicom copies whole modules of them.
IDENTIFYING_GROUPS = (0x0010, 0x0012, 0x0032, 0x0038, 0x0040)
IDENTIFYING = ("ImageComments", "ProtocolName", "DeviceSerialNumber", "ContributingEquipmentSequence")
# Of DICOM's type 2: they must be there and may be empty.
MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "StudyID", "ReferringPhysicianName"),
)


class Segment(NamedTuple):
    """A segment: the region, its label, and the code of its type (value, scheme, meaning)."""

    region: str
    label: str
    code: tuple[str, str, str]


# No scheme of DICOM's context groups has the tumour's core; its code is therefore a private one.
SEGMENTS = (
    Segment("wt", "Whole tumour", ("108369006", "SCT", "Neoplasm")),
    Segment(
        "tc", "Tumour core", ("TUMOUR_CORE", PRIVATE_SCHEME, "Tumour core: enhancing and non-enhancing, no oedema")
    ),
    Segment("et", "Enhancing tumour", ("C113842", "NCIt", "Enhancing Lesion")),
    Segment("oedema", "Oedema", ("79654002", "SCT", "Edema")),
)


class Algorithm(NamedTuple):
    """What made a segmentation: its name, and the digests of its checkpoints."""

    name: str
    digests: tuple[str, ...]


def segment_masks(label: NDArray[np.uint8], convention: Convention) -> dict[str, NDArray[np.bool_]]:
    """Region to its voxels, those that the native labels tell; "oedema" where they have one."""
    regions = {name: tuple(labels) for name, labels in convention.regions().items()}
    if oedema := convention.numbers.get("oedema"):
        regions["oedema"] = oedema
    return {name: np.isin(label, labels) for name, labels in regions.items()}


def write_segmentation(
    path: Path,
    files: Sequence[Path],
    label: NDArray[np.uint8],
    affine: NDArray[np.float64],
    convention: Convention,
    algorithm: Algorithm,
    *,
    pseudonym: str,
    identifying: bool = False,
) -> None:
    """Write a mask as DICOM-SEG, which refers to the slices of the series that it lies on.

    Empty frames are left out, and none where the mask is empty. The same input gives the same bits: the date of
    creation is 1 January 1900. With `identifying` it is today's.

    Args:
        path: Of the file.
        files: Of the series.
        label: (D, H, W) native labels on the series' grid.
        affine: (4, 4) of that grid, voxel (x, y, z) to mm, RAS.
        convention: What they mean.
        algorithm: What made them.
        pseudonym: Patient's name and ID in the file.
        identifying: Keep the patient's own name, ID, dates and descriptions instead, as an archive needs them.

    Raises:
        UsageError: highdicom is not installed.
        CaseError: The labels tell no region that has a segment.
    """
    highdicom, pydicom = dicom.package("highdicom"), dicom.package("pydicom")
    sources = dicom.datasets(files)
    for one in sources:
        if not identifying:
            _without_identity(one, pseudonym)
        for name in MAY_BE_EMPTY:
            if name not in one:
                setattr(one, name, "")
    masks = segment_masks(label, convention)
    known = [segment for segment in SEGMENTS if segment.region in masks]
    if not known:
        raise CaseError(f"labels {convention.name!r} tell no tumour; DICOM-SEG has no segments for them")
    stack = np.stack([masks[segment.region] for segment in known], -1).astype(np.uint8)  # (D, H, W, S)
    # a volume and not an array: highdicom then finds each slice's source by its place, whatever the order of the files
    volume = highdicom.Volume(
        stack,
        dicom.to_highdicom(affine),
        coordinate_system="PATIENT",
        frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        channels={"SegmentNumber": list(range(1, len(known) + 1))},
    )
    code = highdicom.sr.CodedConcept
    identification = highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=pydicom.sr.codedict.codes.DCM.ArtificialIntelligence,
        version=__version__,
        source="segan_pl",
        parameters={f"checkpoint {number}": digest for number, digest in enumerate(algorithm.digests, 1)} or None,
    )
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=code("49755003", "SCT", "Morphologically Abnormal Structure"),
            segmented_property_type=code(*segment.code),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
            anatomic_regions=[code("12738006", "SCT", "Brain")],
        )
        for number, segment in enumerate(known, 1)
    ]
    content = [sources[0].SeriesInstanceUID, *algorithm.digests, hashlib.sha256(label.tobytes()).hexdigest()]
    with dicom.quiet():
        made = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=volume,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=_uid("series", *content),
            series_number=int(sources[0].get("SeriesNumber") or 0) + 1000,
            sop_instance_uid=_uid("instance", *content),
            instance_number=1,
            manufacturer="segan_pl",
            manufacturer_model_name=algorithm.name,
            software_versions=__version__,
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description="Research use only, not for diagnosis",
            omit_empty_frames=bool(stack.any()),
            series_description=DESCRIPTION,
        )
        # highdicom draws this UID, which would differ from call to call
        for one in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
            one.DimensionOrganizationUID = _uid("dimensions", *content)
        if not identifying:
            for one in made.get("ContributingEquipmentSequence", ()):
                one.pop("ContributionDateTime", None)
            made.ContentDate = made.InstanceCreationDate = "19000101"  # type 1, so that they cannot be empty
            made.ContentTime = made.InstanceCreationTime = "000000"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        made.save_as(partial)
        partial.replace(path)


def _without_identity(header: Any, pseudonym: str) -> None:
    """Replace what identifies the patient; UIDs stay, since the segmentation refers to its series by them."""
    for element in list(header):
        group = element.tag.group
        named = element.keyword in IDENTIFYING or element.keyword in MAY_BE_EMPTY
        if named or group in IDENTIFYING_GROUPS or (group == 8 and element.keyword not in KEPT):
            del header[element.tag]
    header.PatientName = header.PatientID = pseudonym


def _uid(*content: str) -> str:
    number = int.from_bytes(hashlib.sha256("\0".join(content).encode()).digest()[:12], "big")
    return f"{ROOT}{number}"
