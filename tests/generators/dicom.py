"""DICOM series of generated heads, as a scanner writes them: headers, slices, and planted motion."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from segan_pl.clinical.space import Space, resampled
from segan_pl.data.case import Shape
from segan_pl.data.io import Volume, held_volume

TIMES = {  # echo, repetition and inversion time in ms
    "t1": (12.0, 550.0, None),
    "t1ce": (12.0, 550.0, None),
    "t2": (95.0, 4500.0, None),
    "flair": (120.0, 9000.0, 2500.0),
}
WORDS = {"t1": "AX T1 PRE", "t1ce": "AX T1 POST GD", "t2": "AX T2 TSE", "flair": "AX FLAIR"}
NAME, IDENTITY = "Mustermann^Erika", "MRN-4711"


def uid(*parts: object) -> str:
    """A valid UID that follows from its parts."""
    number = int(hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:20], 16)
    return f"1.2.826.0.1.3680043.10.543.{number}"


def write_series(
    folder: Path,
    volume: Volume,
    modality: str,
    *,
    patient: str = IDENTITY,
    study: str = "study",
    number: int = 1,
    words: str | None = None,
    times: tuple[float | None, float | None, float | None] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Path]:
    """One file for each slice of a volume (axes at right angles), uncompressed; the files in order.

    Args:
        folder: Made where it is missing.
        volume: (D, H, W); what it holds is rounded to 16 bits.
        modality: Of TIMES, which says the times and the words.
        patient: Patient ID.
        study: Names the study.
        number: Of the series.
        words: Series description instead.
        times: Echo, repetition and inversion time instead.
        changes: Header fields that all slices have otherwise; None for those that are left out.
    """
    pydicom = importlib.import_module("pydicom")
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    x, y, z = np.linalg.norm(lps[:3, :3], axis=0)
    echo, repetition, inversion = times or TIMES[modality]
    files = []
    for index, pixels in enumerate(volume.array):
        one = pydicom.Dataset()
        one.SOPClassUID = pydicom.uid.MRImageStorage
        one.SOPInstanceUID = uid(patient, study, number, index)
        one.PatientName, one.PatientID = NAME, patient
        one.PatientBirthDate, one.PatientSex = "19700101", "F"
        one.StudyInstanceUID, one.SeriesInstanceUID = uid(patient, study), uid(patient, study, number)
        one.FrameOfReferenceUID = uid(patient, study, "frame")
        one.StudyDate, one.StudyTime, one.AccessionNumber, one.StudyID = "20200101", "120000", "ACC1", "1"
        one.SeriesNumber, one.InstanceNumber, one.Modality = number, index + 1, "MR"
        one.InstitutionName, one.ReferringPhysicianName, one.Manufacturer = "St. Elsewhere", "House^G", "maker"
        one.SeriesDescription = words or WORDS[modality]
        one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        one.ScanningSequence, one.SequenceVariant = "SE", "SK"
        one.ScanOptions, one.MRAcquisitionType = "", "2D"
        one.PositionReferenceIndicator, one.PatientPosition, one.Laterality = "", "HFS", ""
        for name, value in (("EchoTime", echo), ("RepetitionTime", repetition), ("InversionTime", inversion)):
            if value is not None:
                setattr(one, name, value)
        if modality == "t1ce":
            one.ContrastBolusAgent = "Gadolinium"
        one.SliceThickness, one.SpacingBetweenSlices = f"{z:.6f}", f"{z:.6f}"
        one.PixelSpacing = [f"{y:.6f}", f"{x:.6f}"]
        one.ImageOrientationPatient = [f"{value:.9f}" for value in [*lps[:3, 0] / x, *lps[:3, 1] / y]]
        one.ImagePositionPatient = [f"{value:.6f}" for value in lps[:3, 3] + index * lps[:3, 2]]
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.EchoTrainLength = 1
        one.PixelData = np.rint(pixels).clip(0, 65535).astype("<u2").tobytes()
        for name, value in (changes or {}).items():
            if value is None:
                delattr(one, name)
            else:
                setattr(one, name, value)
        path = folder / f"IM{index:04d}.dcm"
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def rigid(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """(4, 4): a rotation by a rotation vector, and a shift."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return motion


def centred(array: NDArray, spacing_mm: float = 1.0) -> Volume:
    """Voxels of a generated case, whose middle is the scanner's; axes lead to L, P and S."""
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(array.shape[::-1]) - 1) / 2)
    return held_volume(np.ascontiguousarray(array, np.float32), affine)


def scanned(
    volume: Volume,
    motion: NDArray[np.float64],
    *,
    thickness_mm: float = 5.0,
    pixel_mm: float = 1.0,
    margin_mm: float = 15.0,
) -> Volume:
    """A head that moved, scanned in thick slices, each the mean over its thickness.

    Args:
        volume: The head.
        motion: (4, 4), from places of the head to where they lie during the scan, mm, LPS.
        thickness_mm: Of slices without gaps, whole multiples of `pixel_mm`.
        pixel_mm: Within a slice.
        margin_mm: Around the volume.
    """
    parts = round(thickness_mm / pixel_mm)
    size = np.array(volume.shape[::-1]) * np.array(volume.spacing_mm) + 2 * margin_mm
    columns, rows = (int(mm / pixel_mm) for mm in size[:2])
    slices = int(size[2] / thickness_mm)
    affine = np.diag([-pixel_mm, -pixel_mm, pixel_mm, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array([columns, rows, slices * parts]) - 1) / 2)
    fine: Shape = (slices * parts, rows, columns)
    found = resampled(volume, np.linalg.inv(motion), Space(fine, affine), "linear")
    thick = found.reshape(slices, parts, rows, columns).mean(1)
    coarse = affine.copy()
    coarse[:3, 3] += affine[:3, 2] * (parts - 1) / 2
    coarse[:3, 2] *= parts
    return held_volume(thick, coarse)
