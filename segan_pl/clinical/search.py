"""The series below a folder: DICOM sorted by UID, and NIfTI files; by their headers, no image is read as a whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segan_pl.clinical import dicom
from segan_pl.clinical.series import Header, Series, key_of, without_paths
from segan_pl.data.case import CaseError
from segan_pl.data.io import read_grid
from segan_pl.data.layouts.folders import modality_of, part_of, suffix_of

DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
# Where the voxels of a header's own file may lie.
VOXELS = (".img", ".img.gz", ".raw", ".zraw")
# So much of a file's start, middle and end tells it from others; starts alone may be nothing but air.
PART_BYTES = 2**18
STRIPPED = re.compile(r"(^|[\s_\-.+])(brain|bet)$", re.IGNORECASE)
BIDS = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?")
# Words before the modality that are kept of a file's name, since they may tell of a contrast agent; the rest of it is
# what the patient is called, and "KM" or "CE" there are initials.
TELLING = re.compile(r"(post|pre|op|contrast|unenhanced|without|ohne|non?$|nati|gad).*", re.IGNORECASE)


def find_series(root: Path) -> tuple[list[Series], list[str]]:
    """Every series below a folder, sorted by patient, visit and number, and notes on what is none.

    Raises:
        CaseError: The folder does not exist, or holds no image series.
    """
    if not root.is_dir():
        raise CaseError(f"{root}: is no folder; give the one that holds the patients' DICOM or NIfTI files as --root")
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    images = [path for path in files if suffix_of(path.name)]
    slices: dict[tuple[str, str], list[dicom.Slice]] = defaultdict(list)
    others, locked = 0, 0
    for path in files:
        if suffix_of(path.name):
            continue
        try:
            found = dicom.read_slice(path) if dicom.looks_like(path, DICOM_SUFFIXES) else None
        except OSError:  # whose text is the path
            locked += 1
            continue
        if found is None:
            others += path.suffix.lower() != ".json"
        else:
            # Two echoes of one series are two images; their lists of slices would otherwise lie over each other.
            slices[found.series, f"{found.echo_time_ms or 0:.1f}"].append(found)
    nifti, stripped = _nifti_series(root, images)
    series = [_dicom_series(group) for group in slices.values()] + nifti
    if not series:
        raise CaseError(f"{root}: holds no DICOM and no NIfTI image; give the folder above the patients' files")
    notes = [
        f"{count} files {text} and are left alone"
        for count, text in (
            (others, "are neither DICOM images nor NIfTI"),
            (locked, "cannot be read"),
            (stripped, "end with brain or bet, of images that are there whole or of no modality,"),
        )
        if count
    ]
    return sorted(series, key=lambda one: (one.patient, one.header.order, one.header.number or 0, one.key)), notes


def _dicom_series(slices: Sequence[dicom.Slice]) -> Series:
    """A series out of its slices' headers, in the order of their places."""
    unique = {one.instance: one for one in slices}
    copies = len(slices) - len(unique)
    held = sorted(unique.values(), key=lambda one: (one.depth, one.instance))
    first = held[0]
    header = Header(
        description=first.description,
        echo_time_ms=first.echo_time_ms,
        repetition_time_ms=first.repetition_time_ms,
        inversion_time_ms=first.inversion_time_ms,
        contrast=first.contrast,
        sequence=first.sequence,
        image_type=first.image_type,
        b_value=first.b_value,
        number=first.number,
        order=first.order,
    )
    step, fault = dicom.stacked(held)
    return Series(
        key=key_of(first.series, f"{first.echo_time_ms or 0:.1f}"),
        patient=first.patient,
        visit=first.study,
        files=tuple(one.path for one in held),
        header=header,
        slices=sum(len(one.places) for one in held),
        spacing_mm=(first.spacing_mm[1], first.spacing_mm[0], step),
        frame=first.frame,
        fault=fault,
        notes=(f"{copies} files are there twice",) if copies else (),
    )


def _nifti_series(root: Path, images: Iterable[Path]) -> tuple[list[Series], int]:
    """One series for each image file, and how many files were passed over as parts of an image that is there.

    The patient is the folder below the root, or what names begin with.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in images:
        if part_of(_stem(path)) != "mask":
            by_folder[path.parent].append(path)
    series, passed = [], 0
    for folder, every in sorted(by_folder.items()):
        whole = {_stem(path) for path in every}
        files = [path for path in every if _is_image(_stem(path), whole)]
        passed += len(every) - len(files)
        parts = [(part_of(_plain(path)), _owner(path)) for path in files]
        counts = Counter(part for part, _ in parts if part)
        owners = Counter(owner for part, owner in parts if part)
        # several files of one modality, or of several names in the root, are several patients', named before it
        several = any(count > 1 for count in counts.values()) or (folder == root and len(owners) > 1)
        usual = min(owners, key=lambda owner: (-owners[owner], len(owner)), default="")
        for path, (_, owner) in zip(files, parts, strict=True):
            below = folder.relative_to(root).parts
            name = owner if several else ""
            patient = below[0] if below else name or root.resolve().name
            # what only one file of a patient has before its modality is no name: gd_t1 next to t1
            series.append(_nifti(path, patient, f"{folder}/{name}", named=several or owner == usual))
    counts = Counter()
    for place, one in enumerate(series):  # copies of one file are told apart by their order
        counts[one.key] += 1
        if counts[one.key] > 1:
            series[place] = replace(one, key=key_of(one.key, str(counts[one.key])))
    return series, passed


def _is_image(stem: str, whole: set[str]) -> bool:
    """Whether a file is an image of its own: x_brain may be a mask, or the stripped copy of x."""
    plain = STRIPPED.sub("", stem)
    return plain == stem or (part_of(plain) not in (None, "mask") and plain not in whole)


def _nifti(path: Path, patient: str, visit: str, *, named: bool) -> Series:
    """The series of one file, whose name begins with the patient's where it is `named`."""
    said, notes = _told(path)
    times = {
        name: float(said[name]) * 1000  # dcm2niix has them in seconds
        for name in ("EchoTime", "RepetitionTime", "InversionTime")
        if isinstance(said.get(name), (int, float)) and said[name]
    }
    words = (
        _description(path) if named else _stem(path),
        *(said.get(name) for name in ("SeriesDescription", "ProtocolName", "SequenceName")),
    )
    agent = said.get("ContrastBolusIngredient") or said.get("ContrastBolusAgent")
    number = said.get("SeriesNumber")
    header = Header(
        description=" ".join(one for one in words if isinstance(one, str) and one),
        echo_time_ms=times.get("EchoTime"),
        repetition_time_ms=times.get("RepetitionTime"),
        inversion_time_ms=times.get("InversionTime"),
        contrast=dicom.states_agent(agent) if isinstance(agent, str) else None,
        sequence=tuple(
            word for name in ("ScanningSequence", "SequenceVariant", "ScanOptions") for word in _values(said.get(name))
        ),
        image_type=tuple(_values(said.get("ImageType"))),
        number=number if isinstance(number, int) else None,
    )
    try:
        grid, key = read_grid(path), _key(path)
    except (CaseError, OSError) as error:
        fault = without_paths(error, [path])
        return Series(key_of(fault), patient, visit, (path,), header, fault=fault, dicom=False, notes=notes)
    x, y, z = (float((grid.affine[:3, axis] ** 2).sum() ** 0.5) for axis in range(3))
    fault = "" if grid.channels == 1 else f"holds {grid.channels} volumes, expected one; split it"
    notes += tuple(grid.notes)
    return Series(
        key, patient, visit, (path,), header, max(grid.shape[:1]), (x, y, z), fault=fault, dicom=False, notes=notes
    )


def _told(path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """What dcm2niix's .json next to a file says, and a note where it cannot be read."""
    side = path.with_name(f"{_stem(path)}.json")
    try:
        said = json.loads(side.read_text(encoding="utf-8")) if side.is_file() else {}
        if isinstance(said, dict):
            return said, ()
    except (OSError, ValueError):
        pass
    return {}, ("the .json next to it cannot be read and is left alone",)


def _values(said: Any) -> list[str]:
    """Values of a DICOM field in a .json: a list, or a text with backslashes or underscores between them."""
    if isinstance(said, list):
        return [str(one).upper() for one in said]
    return [one for one in re.split(r"[\\_/ ]+", said.upper()) if one] if isinstance(said, str) else []


def _key(path: Path) -> str:
    """A digest of what a file holds, in which its name and folders have no part."""
    found = hashlib.blake2b(digest_size=16)
    others = [path.with_name(_stem(path) + end) for end in VOXELS] if path.suffix.lower() in (".hdr", ".mhd") else []
    for one in (path, *(other for other in others if other.is_file())):
        size = one.stat().st_size
        with one.open("rb") as file:
            for start in sorted({0, max(0, (size - PART_BYTES) // 2), max(0, size - PART_BYTES)}):
                file.seek(start)
                found.update(file.read(PART_BYTES))
        found.update(str(size).encode())
    return key_of(found.hexdigest())


def _stem(path: Path) -> str:
    return path.name[: -len(suffix_of(path.name) or "")]


def _plain(path: Path) -> str:
    return STRIPPED.sub("", _stem(path))


def _owner(path: Path) -> str:
    """A file's name without the modality at its end; of BIDS the subject and session."""
    if found := BIDS.match(_stem(path)):
        return found.group()
    plain = _plain(path)
    return plain[: _modality_at(plain)].rstrip(" _-.+")


def _description(path: Path) -> str:
    """What a file's name says of the sequence: its end, and words before it that may tell of a contrast agent."""
    plain = _plain(path)
    at = _modality_at(plain)
    if at == len(plain):
        return plain
    return " ".join([word for word in re.split(r"[\s_\-.+]+", plain[:at]) if TELLING.fullmatch(word)] + [plain[at:]])


def _modality_at(stem: str) -> int:
    """Where the modality at the end of a name begins; its length where it names none."""
    words = list(re.finditer(r"[^\s_\-.+]+", stem))
    at = len(stem)
    while words:
        if len(words) > 1 and modality_of(words[-2].group() + words[-1].group()):
            taken = 2
        elif modality_of(words[-1].group()):
            taken = 1
        else:
            break
        at = words[-taken].start()
        words = words[:-taken]
    return at
