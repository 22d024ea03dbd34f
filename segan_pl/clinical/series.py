"""One image series: what its header says, and its voxels.

What identifies a patient stays in `Series.patient`, `Series.visit`, `Series.files` and `Header.description`; nothing
that is written or printed is made of them unless a user asks for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from segan_pl.clinical import dicom
from segan_pl.data.case import CaseError
from segan_pl.data.io import Volume, read_volume
from segan_pl.data.layouts.folders import suffix_of


@dataclass(frozen=True)
class Header:
    """How a series was made; times in milliseconds, None where the header does not say.

    Attributes:
        description: What people called it: descriptions, protocol, sequence name, or the end of the file's name. It may
            identify the patient.
        echo_time_ms: TE.
        repetition_time_ms: TR.
        inversion_time_ms: TI.
        contrast: Whether a contrast agent is stated; None where the header has no such field.
        sequence: The sequence's kind, variant and options, e.g. ("GR", "IR", "SP").
        image_type: E.g. ("ORIGINAL", "PRIMARY", "M").
        b_value: Of diffusion.
        number: Of the series in its study.
        order: For sorting by time.
    """

    description: str = ""
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    inversion_time_ms: float | None = None
    contrast: bool | None = None
    sequence: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    b_value: float | None = None
    number: int | None = None
    order: str = ""


@dataclass(frozen=True)
class Series:
    """One image series of a patient.

    Attributes:
        key: A digest of its UID, or of what a NIfTI file holds, by which tables and messages name it.
        patient: Whose it is, as the input says.
        visit: The study, or the NIfTI files' folder.
        files: One for each slice, or the one file that holds all.
        header: How it was made.
        slices: How many.
        spacing_mm: (x, y, z), z the distance of neighbouring slices.
        frame: UID of the frame of reference: two series that share it were scanned without moving the table's origin.
        fault: Why it cannot be used; empty where it can.
        dicom: Whether it is DICOM.
        notes: What a user should know.
    """

    key: str
    patient: str
    visit: str
    files: tuple[Path, ...]
    header: Header
    slices: int = 0
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    frame: str = ""
    fault: str = ""
    dicom: bool = True
    notes: tuple[str, ...] = field(default=())

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        x, y, z = self.spacing_mm
        return x * y * z


def key_of(*parts: str) -> str:
    """What names a series without its UID or path: 10 hexadecimal digits."""
    return "s" + hashlib.blake2b("\0".join(parts).encode(), digest_size=5).hexdigest()


def read_series(series: Series) -> Volume:
    """The voxels of a series and where they lie.

    Raises:
        CaseError: It cannot be decoded or is no regular volume; the message names neither patient nor file.
    """
    if series.fault:
        raise CaseError(f"series {series.key}: {series.fault}")
    try:
        if series.dicom:
            return dicom.read_volume(series.files)
        return read_volume(series.files[0])
    except Exception as error:  # decoders raise what they like
        said = without_paths(error, series.files)[:200]
        raise CaseError(f"series {series.key}: cannot be read ({said}); export it again") from error


def without_paths(error: Exception, files: Iterable[Path]) -> str:
    """What an error says, in one line, without the files and their folders: each may be called like the patient."""
    said = " ".join(str(error).split())
    if isinstance(error, OSError):
        said = error.strerror or type(error).__name__
    for path in files:
        stem = path.with_name(path.name.removesuffix(suffix_of(path.name) or ""))
        # a path of one part, such as "." or "head", is a word of messages, too
        for text in (str(path), str(stem), str(path.parent)):
            said = said.replace(text, "its file") if os.sep in text else said
        # slices that are called 1, 2, 3 name nobody, and a message may hold these numbers
        if len(path.name) > 3:
            said = said.replace(path.name, "its file")
    return said
