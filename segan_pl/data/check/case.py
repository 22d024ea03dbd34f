"""Everything that can be said of one case's files: each is read on its own, so that one fault hides no other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Case, CaseError, Shape
from segan_pl.data.case_files import MASK, difference, labels_of, remedy
from segan_pl.data.check.case_table import CaseRow, Intensities
from segan_pl.data.check.voxels import brain_notes, label_counts, mask_notes, two_values
from segan_pl.data.cohort import Missing
from segan_pl.data.conventions import Convention
from segan_pl.data.io import DIGEST_BYTES, Volume, read_channels, read_volume, same_affine
from segan_pl.data.layouts import missing_parts
from segan_pl.data.prepare.cache_entry import halves

MM3_PER_ML = 1000.0


def check_case(
    case: Case, convention: Convention | None, *, modalities: Sequence[str], missing: Missing = "refuse"
) -> CaseRow:
    """Read every file of a case to its end and hold them against each other; never raises for what is in them.

    Args:
        case: As found.
        convention: What the mask's labels mean; None leaves them unjudged.
        modalities: Those that a complete case has; files of others are read too.
        missing: What becomes of a case that lacks one, as in `cohort.find_cohort`.
    """
    findings = _Findings(case, convention)
    lacking = missing_parts(case, modalities)
    left_out = findings.judge_completeness(lacking, modalities, missing)
    try:
        for part, volume in findings.volumes():
            findings.add(part, volume)
            del volume  # memory for one volume is enough
    except MemoryError:
        findings.faults.append("not enough memory to read its files; use fewer --workers")
    findings.faults += grid_faults(findings.grids, case.origin_tolerance_mm)
    return findings.row(lacking, left_out)


@dataclass(frozen=True)
class _Grid:
    """Shape and place of one volume, without its voxels."""

    shape: Shape
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    orientation: str

    def fits(self, other: _Grid, origin_mm: float) -> bool:
        return self.shape == other.shape and same_affine(self.affine, other.affine, origin_mm=origin_mm)


@dataclass
class _Findings:
    """What has been seen of a case so far."""

    case: Case
    convention: Convention | None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    grids: dict[str, _Grid] = field(default_factory=dict)
    data_types: dict[str, str] = field(default_factory=dict)
    intensities: dict[str, Intensities] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)
    slice: int | None = None
    inside: dict[Shape, NDArray[np.bool_]] = field(default_factory=dict)  # where any image of that shape is not 0

    def files(self) -> dict[str, Path]:
        """Part to its file."""
        return {**self.case.images, **({MASK: self.case.mask} if self.case.mask else {})}

    def judge_completeness(self, lacking: Sequence[str], modalities: Sequence[str], missing: Missing) -> bool:
        """Refuse, note or leave out a case that lacks a modality; whether it is left out."""
        what = f"(no {', '.join(lacking)})"
        if not self.case.images:
            self.faults.append("no image found, expected at least one modality; complete the case or remove it")
        elif lacking and missing == "refuse":
            self.faults.append(
                f"incomplete {what}, expected {', '.join(modalities)}; complete the case, choose --data.modalities "
                f"or set --data.missing=drop or zero"
            )
        elif lacking and (missing == "drop" or len(lacking) == len(modalities)):
            self.notes.append(f"incomplete {what}: left out, as --data.missing={missing} says")
            return True
        elif lacking:
            self.notes.append(f"incomplete {what}: zeros in their place, as --data.missing=zero says")
        return False

    def volumes(self) -> Iterator[tuple[str, Volume]]:
        """(part, volume) of each file that can be read; a file is read once, however many parts it holds."""
        parts_of: dict[Path, list[str]] = {}
        for part, path in self.files().items():
            parts_of.setdefault(path, []).append(part)
        for path, parts in parts_of.items():
            try:
                found = self._read(path, parts)
            except CaseError as error:
                self.faults.append(str(error))
                continue
            while parts:
                yield parts.pop(0), found.pop(0)

    def _read(self, path: Path, parts: Sequence[str]) -> list[Volume]:
        """One volume a part, out of a 3-D or a 4-D file."""
        channels = [self.case.channels.get(part) for part in parts]
        if all(channel is None for channel in channels):
            return [read_volume(path)] * len(parts)
        volumes = read_channels(path)
        if strange := [c for c in channels if c is not None and c >= len(volumes)]:
            raise CaseError(f"{path}: {len(volumes)} volumes, expected number {strange[0]} too; fix the data set")
        return [volumes[channel or 0] for channel in channels]

    def add(self, part: str, volume: Volume) -> None:
        """Look at one volume."""
        self.grids[part] = _Grid(volume.shape, volume.affine, volume.spacing_mm, volume.orientation)
        self.data_types[part] = volume.dtype_on_disk
        self.notes += [f"{part}: {note}" for note in volume.notes]
        if part == MASK:
            self._add_mask(volume)
        else:
            array = volume.array
            low, high = float(array.min()), float(array.max())
            filled = array != 0
            self.intensities[part] = Intensities(low, high, 1 - np.count_nonzero(filled) / array.size)
            self.inside[array.shape] = filled | self.inside[array.shape] if array.shape in self.inside else filled
            if low == high == 0:
                path = self.case.images[part]
                self.faults.append(f"{path}: all voxels are 0, expected an image; export it again or drop the case")
            elif low == high:
                self.notes.append(f"{part}: constant, every voxel is {low:g}; normalised it is 0 everywhere")
            else:
                self.notes += [f"{part}: {note}" for note in brain_notes(volume)]
                if found := two_values(array):
                    self.notes.append(f"{part}: only two values, {found[0]:g} and {found[1]:g}; is it a mask?")
                digest = voxel_digest(array)
                if twin := next((other for other, content in self.contents.items() if content == digest), None):
                    self.notes.append(f"{twin} and {part} are the same file, or two with the same voxels")
                self.contents[part] = digest

    def _add_mask(self, volume: Volume) -> None:
        try:
            array = labels_of(volume, self.case.name)
            self.labels = {label: count for label, count in label_counts(array).items() if count}
            if self.convention:
                self.convention.require_known(self.labels, self.case.name)
        except CaseError as error:
            self.faults.append(str(error).removeprefix(f"{self.case.name}: "))
            return
        if len(self.labels) > 1 or 0 not in self.labels:
            self.slice = int(np.argmax([np.count_nonzero(section) for section in array]))
            self.contents[MASK] = voxel_digest(array)
            notes = mask_notes(array, self.inside.get(array.shape), self.convention)
            self.notes += [f"{MASK}: {note}" for note in notes]
        else:
            self.notes.append(f"{MASK}: all background, no voxel is labelled")

    def row(self, lacking: tuple[str, ...], left_out: bool) -> CaseRow:
        """The finished row."""
        common = common_part(self.grids, self.case.origin_tolerance_mm)
        grid = self.grids[common] if common else None
        tumour_ml = None
        if self.labels and self.convention is not None and self.convention.tumour:
            voxels = sum(self.labels.get(label, 0) for label in self.convention.tumour)
            tumour_ml = voxels * abs(float(np.linalg.det(self.grids[MASK].affine[:3, :3]))) / MM3_PER_ML
        files = self.files()
        return CaseRow(
            name=self.case.name,
            patient=self.case.patient,
            grade=self.case.grade,
            institution=self.case.institution,
            extra=dict(self.case.extra),
            files={part: str(path) for part, path in files.items()},
            channels=dict(self.case.channels),
            missing=lacking,
            left_out=left_out,
            size_bytes=sum(
                half.stat().st_size for path in set(files.values()) if path.is_file() for half in halves(path)
            ),
            shape=(grid.shape[2], grid.shape[1], grid.shape[0]) if grid else None,
            spacing_mm=grid.spacing_mm if grid else None,
            orientation=grid.orientation if grid else None,
            data_types=self.data_types,
            intensities=self.intensities,
            labels=self.labels,
            tumour_ml=tumour_ml,
            slice=self.slice,
            contents=self.contents,
            notes=tuple(self.notes),
            faults=tuple(self.faults),
        )


def voxel_digest(array: NDArray) -> str:
    """Of type, shape and voxels: equal for one image in differently compressed files."""
    digest = hashlib.blake2b(f"{array.dtype.str} {array.shape} ".encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def common_part(grids: Mapping[str, _Grid], origin_mm: float) -> str | None:
    """The first part whose grid most parts share."""
    sharing = {part: sum(grid.fits(other, origin_mm) for other in grids.values()) for part, grid in grids.items()}
    return max(grids, key=lambda part: sharing[part], default=None)


def grid_faults(grids: Mapping[str, _Grid], origin_mm: float) -> list[str]:
    """A line for each part on another grid than most."""
    common = common_part(grids, origin_mm)
    if common is None:
        return []
    usual = (grids[common].shape, grids[common].affine)
    said = [
        difference(part, (grid.shape, grid.affine), common, usual, origin_mm=origin_mm) for part, grid in grids.items()
    ]
    return [f"{fault}; {remedy(fault)}" for fault in said if fault]
