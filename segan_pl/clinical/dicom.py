"""DICOM slices: the header fields that are needed and no others, whether they make a volume, and its voxels.

Files are read with pydicom (the extra "clinical"); voxels with highdicom, which knows compressed transfer syntaxes,
rescaling and enhanced multi-frame objects.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError
from segan_pl.data.io import Volume, held_volume
from segan_pl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# highdicom's indices are (slice, row, column), ours (x, y, z) are (column, row, slice).
SWAPPED = np.eye(4)[:, [2, 1, 0, 3]]
# Two slices nearer than this lie at one place.
SAME_PLACE_MM = 0.01
# Distances of neighbours may differ by this share: headers round positions.
UNEVEN = 0.05
# Of cosines between slices' axes.
ORIENTATION_TOLERANCE = 1e-3
# Slices may be displaced along themselves by half a millimetre over a head of 150 mm.
TILT_DEGREES = 0.2
TEXT = ("SeriesDescription", "ProtocolName", "SequenceName", "StudyDescription", "ImageComments")
TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("PatientID", "PatientName", "StudyDate", "StudyTime", "SeriesTime", "AcquisitionTime", "SeriesNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SamplesPerPixel"),
    *("EchoTime", "RepetitionTime", "InversionTime", "ContrastBolusAgent", "ContrastBolusAgentSequence"),
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "ImageType", "DiffusionBValue", "NumberOfFrames"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PulseSequenceName"),
    *TEXT,
)
"""All that is ever read of a header, but for DICOM-SEG's sources."""


@dataclass(frozen=True)
class Slice:
    """What one file's header says; a multi-frame file has several places."""

    path: Path
    instance: str
    series: str
    study: str
    patient: str
    frame: str
    modality: str
    colour: bool
    places: tuple[tuple[float, ...], ...]
    orientations: tuple[tuple[float, ...], ...]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    description: str
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    contrast: bool | None
    sequence: tuple[str, ...]
    image_type: tuple[str, ...]
    b_value: float | None
    number: int | None
    order: str

    @property
    def depth(self) -> float:
        """Place along the normal of the slice in mm; 0 where the header has none."""
        return float(np.dot(_normal(self.orientations[0]), self.places[0])) if self.places else 0.0


def package(name: str) -> Any:
    """The module pydicom or highdicom, which the extra "clinical" installs.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"DICOM needs {name}, which cannot be imported ({error}); pip install 'segan_pl[clinical]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's and highdicom's warnings, which quote values of headers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def looks_like(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file may be DICOM: by its preamble, or by its name.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in suffixes


def read_slice(path: Path) -> Slice | None:
    """The header of an image; None for what is no image (reports, segmentations, DICOMDIR) or no DICOM.

    Raises:
        OSError: It cannot be read.
    """
    pydicom = package("pydicom")
    with quiet():
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
            if "SeriesInstanceUID" not in header or "Rows" not in header or header.get("Modality") == "SEG":
                return None
            return _slice(path, header)
        except (pydicom.errors.InvalidDicomError, EOFError, ValueError, TypeError, AttributeError, NotImplementedError):
            return None


def _slice(path: Path, header: Any) -> Slice:
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    frames = header.get("PerFrameFunctionalGroupsSequence") or []

    def grouped(group: str, field: str, frame: Any) -> Any:
        """A field of a functional group, the frame's own or the one that all frames share."""
        for where in (frame, shared):
            if where and group in where and field in where[group].value[0]:
                return where[group].value[0].get(field)
        return None

    def first(field: str, group: str, inner: str) -> Any:
        found = header.get(field)
        return found if found is not None else grouped(group, inner, frames[0] if frames else None)

    if frames:
        places = [grouped("PlanePositionSequence", "ImagePositionPatient", one) for one in frames]
        turned = [grouped("PlaneOrientationSequence", "ImageOrientationPatient", one) for one in frames]
    else:
        places, turned = [header.get("ImagePositionPatient")], [header.get("ImageOrientationPatient")]
    known = all(places) and all(turned)
    spacing = first("PixelSpacing", "PixelMeasuresSequence", "PixelSpacing") or (0.0, 0.0)
    agent = header.get("ContrastBolusAgent")
    agents = header.get("ContrastBolusAgentSequence")
    stated = None
    if agent is not None or agents is not None:
        stated = bool(agents) or states_agent(str(agent or ""))
    sequence = [text for tag in ("ScanningSequence", "SequenceVariant", "ScanOptions") for text in _texts(header, tag)]
    return Slice(
        path=path,
        instance=str(header.get("SOPInstanceUID", path)),
        series=str(header.SeriesInstanceUID),
        study=str(header.get("StudyInstanceUID", "")),
        patient=str(header.get("PatientID") or header.get("PatientName") or header.get("StudyInstanceUID", "")),
        frame=str(header.get("FrameOfReferenceUID", "")),
        modality=str(header.get("Modality", "")),
        colour=int(header.get("SamplesPerPixel", 1) or 1) > 1,
        places=tuple(tuple(map(float, one)) for one in places) if known else (),
        orientations=tuple(tuple(map(float, one)) for one in turned) if known else (),
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        shape=(int(header.Rows), int(header.Columns)),
        description=" ".join(str(header.get(tag)) for tag in (*TEXT[:3], "PulseSequenceName") if header.get(tag)),
        echo_time_ms=_number(first("EchoTime", "MREchoSequence", "EffectiveEchoTime")),
        repetition_time_ms=_number(first("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime")),
        inversion_time_ms=_number(first("InversionTime", "MRModifierSequence", "InversionTimes")),
        contrast=stated,
        sequence=tuple(one.upper() for one in sequence),
        image_type=tuple(one.upper() for one in _texts(header, "ImageType")),
        b_value=_number(first("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue")),
        number=int(header.SeriesNumber) if header.get("SeriesNumber") is not None else None,
        order=" ".join(
            str(header.get(tag) or "") for tag in ("StudyDate", "StudyTime", "SeriesTime", "AcquisitionTime")
        ),
    )


def states_agent(text: str) -> bool:
    """Whether the field of the contrast agent names one."""
    return text.strip().lower() not in ("", "no", "none", "0", "n", "without")


def stacked(slices: Sequence[Slice]) -> tuple[float, str]:
    """Distance of neighbouring slices in mm, and why they make no volume (empty where they do).

    Args:
        slices: Of one series, sorted by `depth`.
    """
    first = slices[0]
    places = np.array([place for one in slices for place in one.places], np.float64).reshape(-1, 3)  # (N, 3)
    turned = np.array([one for part in slices for one in part.orientations], np.float64).reshape(-1, 6)  # (N, 6)
    if first.modality != "MR":
        return 0.0, f"is of modality {first.modality or 'none'}, expected MR"
    if any(one.colour for one in slices):
        return 0.0, "holds colour images, expected grey values of a scanner"
    if any(not one.places for one in slices):
        return 0.0, "lacks the slices' place in space (ImagePositionPatient); export the original series"
    if len({one.shape for one in slices}) > 1 or np.ptp([one.spacing_mm for one in slices], axis=0).max() > 1e-3:
        return 0.0, "holds slices of several sizes; a series of one size is expected"
    if np.abs(turned - turned[0]).max() > ORIENTATION_TOLERANCE:
        kinds = len(np.unique(np.rint(turned / ORIENTATION_TOLERANCE / 10), axis=0))
        return 0.0, f"holds slices of {max(2, kinds)} orientations, expected one (a localiser, or a mixed series)"
    if len(places) < 3:
        return 0.0, f"has {len(places)} slices, expected a volume"
    if "MOSAIC" in first.image_type:
        return 0.0, "is a mosaic of slices in one image; convert it with dcm2niix"
    normal = _normal(tuple(turned[0]))
    order = np.argsort(places @ normal, kind="stable")
    steps = np.diff(places[order], axis=0)
    along = steps @ normal
    if (twice := int((along < SAME_PLACE_MM).sum())) > 0:
        times, rest = divmod(len(places), len(places) - twice)
        if rest == 0 and times > 1:
            return 0.0, f"holds {times} images at each place (echoes, b values or time points); expected one of each"
        return 0.0, f"holds {twice} slices twice, and they are different images; expected one at each place"
    usual = float(np.median(along))
    if (wide := along > 1.5 * usual).any():
        missing = int(np.rint(along[wide] / usual - 1).sum())
        after = int(np.argmax(wide)) + 1
        return usual, f"lacks {missing} of its slices, the first after slice {after} of {len(places)}; export it whole"
    if np.abs(along - usual).max() > UNEVEN * usual:
        return usual, f"has slices that are {along.min():.2f} to {along.max():.2f} mm apart, expected even distances"
    total = places[order[-1]] - places[order[0]]
    sine = float(np.linalg.norm(total - (total @ normal) * normal) / np.linalg.norm(total))
    if (tilt := math.degrees(math.asin(min(1.0, sine)))) > TILT_DEGREES:
        return usual, f"is tilted: slices are displaced along themselves by {tilt:.1f} degrees; straighten it first"
    return float(along.mean()), ""


def datasets(files: Sequence[Path]) -> list[Any]:
    """Whole files, voxels included."""
    pydicom = package("pydicom")
    with quiet():
        return [pydicom.dcmread(path) for path in files]


def read_volume(files: Sequence[Path]) -> Volume:
    """The voxels of a series, (slice, row, column), rescaled as the header says; float32.

    Raises:
        ValueError: As highdicom says it.
    """
    highdicom = package("highdicom")
    held = datasets(files)
    options = {"dtype": np.float64, "apply_real_world_transform": False}
    with quiet():
        if len(held) == 1 and int(held[0].get("NumberOfFrames", 1) or 1) > 1:
            volume = highdicom.Image.from_dataset(held[0], copy=False).get_volume(atol=0.1, **options)
        else:
            tolerances = {"rtol": UNEVEN, "orientation_tol": ORIENTATION_TOLERANCE}
            for one in held[1:]:  # highdicom wants what rounding may have changed in the last digit to be equal
                one.PixelSpacing = held[0].PixelSpacing
            volume = highdicom.image.get_volume_from_series(held, **tolerances, **options)
    if volume.array.ndim != 3:
        raise CaseError(f"has {volume.array.ndim} axes, expected 3")
    return held_volume(np.ascontiguousarray(volume.array, np.float32), LPS_TO_RAS @ volume.affine @ SWAPPED)


def to_highdicom(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """A (4, 4) affine of ours, voxel (x, y, z) to mm, RAS, as highdicom has it."""
    return LPS_TO_RAS @ affine @ SWAPPED


def _normal(orientation: Sequence[float]) -> NDArray[np.float64]:
    across, down = np.array(orientation[:3], np.float64), np.array(orientation[3:], np.float64)
    normal: NDArray[np.float64] = np.cross(across, down)
    return normal / np.linalg.norm(normal)


def _texts(header: Any, tag: str) -> list[str]:
    value = header.get(tag)
    if value is None or value == "":
        return []
    return [str(value)] if isinstance(value, str) else [str(one) for one in value]


def _number(value: Any) -> float | None:
    """A number of a header, the first of several; 0 says nothing."""
    if value is None or value == "":
        return None
    number = float(value[0] if not isinstance(value, (str, int, float)) and hasattr(value, "__len__") else value)
    return number or None
