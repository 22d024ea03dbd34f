"""One row a case: what the check found in its files, as a record, as JSON and as CSV.

Shapes, spacings and orientations are in the file's own order (x, y, z), as viewers show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from segan_pl.data.case import Shape, ordered
from segan_pl.files import csv_text

Status = Literal["used", "left out", "refused"]
# Significant, in CSV and JSON.
FLOAT_DIGITS = 6


@dataclass(frozen=True)
class Intensities:
    """What the voxels of one image are.

    Attributes:
        minimum: Smallest value, in the file's units.
        maximum: Largest value.
        zeros: Share of the voxels that are 0, in [0, 1].
    """

    minimum: float
    maximum: float
    zeros: float


@dataclass(frozen=True)
class CaseRow:
    """One case as the check found it; what could not be read is None or missing in the mappings.

    Attributes:
        name: The case's name.
        patient: Scans of one patient share it.
        grade: "HGG", "LGG" or None.
        institution: Site or None.
        extra: Further columns of a manifest.
        files: Modality or "mask" to the file's path.
        channels: Modality to its volume in a 4-D file.
        missing: Modalities asked for that the case lacks.
        left_out: Whether the case is left out on request (`--data.missing`).
        size_bytes: Of all its files on disk.
        shape: (X, Y, Z), voxels, of most of its files.
        spacing_mm: (x, y, z).
        orientation: Where the axes point, e.g. "LPS".
        data_types: Part to the type on disk, e.g. "int16".
        intensities: Modality to its range.
        labels: Native label to its number of voxels, background included; empty without a readable mask.
        tumour_ml: Volume of the labels that are tumour; None without a mask or a convention.
        slice: Axial slice (z, from 0) with most labelled voxels, for pictures; None where there are none.
        contents: Part to a digest of its type, shape and voxels, however they are compressed; constant images are left
            out, because they tell no two cases apart.
        notes: What a user should know; begins with the part it is about.
        faults: Why the case is refused: every reason found, each on one line.
    """

    name: str
    patient: str
    grade: str | None = None
    institution: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    left_out: bool = False
    size_bytes: int = 0
    shape: Shape | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    data_types: Mapping[str, str] = field(default_factory=dict)
    intensities: Mapping[str, Intensities] = field(default_factory=dict)
    labels: Mapping[int, int] = field(default_factory=dict)
    tumour_ml: float | None = None
    slice: int | None = None
    contents: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """What becomes of the case."""
        if self.faults:
            return "refused"
        return "left out" if self.left_out else "used"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the case has a file for."""
        return tuple(part for part in self.files if part != "mask")

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it; every number is finite."""
        return {
            "name": self.name,
            "patient": self.patient,
            "grade": self.grade,
            "institution": self.institution,
            "extra": dict(self.extra),
            "status": self.status,
            "files": dict(self.files),
            "channels": dict(self.channels),
            "missing": list(self.missing),
            "size_bytes": self.size_bytes,
            "shape": None if self.shape is None else list(self.shape),
            "spacing_mm": None if self.spacing_mm is None else [rounded(s) for s in self.spacing_mm],
            "orientation": self.orientation,
            "data_types": dict(self.data_types),
            "intensities": {
                part: {"minimum": rounded(i.minimum), "maximum": rounded(i.maximum), "zeros": rounded(i.zeros)}
                for part, i in self.intensities.items()
            },
            "labels": {str(label): count for label, count in self.labels.items()},
            "tumour_ml": None if self.tumour_ml is None else rounded(self.tumour_ml),
            "slice": self.slice,
            "contents": dict(self.contents),
            "notes": list(self.notes),
            "faults": list(self.faults),
        }


def rounded(number: float) -> float:
    """A number to FLOAT_DIGITS significant digits: what is written does not hang on the last bit."""
    return float(f"{number:.{FLOAT_DIGITS}g}")


def triple(numbers: Sequence[float]) -> str:
    """E.g. "240 x 240 x 155"; spacings to four digits."""
    return " x ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)


def case_table_csv(rows: Sequence[CaseRow]) -> str:
    """The case table as CSV: a line a case, with columns for the modalities, labels and extras that occur."""
    parts = ordered({part for row in rows for part in row.files} - {"mask"})
    labels = sorted({label for row in rows for label in row.labels})
    extra = sorted({name for row in rows for name in row.extra})
    return csv_text([_flat(row, parts, labels, extra) for row in rows], () if rows else ["case"])


def _flat(row: CaseRow, parts: Sequence[str], labels: Sequence[int], extra: Sequence[str]) -> dict[str, Any]:
    """A row as one level of cells; empty where nothing is known."""
    cells: dict[str, Any] = {
        "case": row.name,
        "patient": row.patient,
        "grade": row.grade,
        "institution": row.institution,
        "status": row.status,
        **{f"extra_{name}": row.extra.get(name) for name in extra},
        "modalities": " ".join(row.modalities),
        "mask": "yes" if "mask" in row.files else "no",
        "shape": row.shape and triple(row.shape),
        "spacing_mm": row.spacing_mm and triple(row.spacing_mm),
        "orientation": row.orientation,
        "tumour_ml": None if row.tumour_ml is None else rounded(row.tumour_ml),
        **{f"label_{label}": row.labels.get(label, 0) if row.labels else None for label in labels},
    }
    for part in parts:
        found = row.intensities.get(part)
        cells[f"{part}_type"] = row.data_types.get(part)
        cells[f"{part}_min"] = found and rounded(found.minimum)
        cells[f"{part}_max"] = found and rounded(found.maximum)
        cells[f"{part}_zeros"] = found and rounded(found.zeros)
    return {**cells, "notes": "; ".join(row.notes), "faults": "; ".join(row.faults)}
