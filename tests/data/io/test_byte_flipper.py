"""Every byte of small files flipped in turn: refused in words, or read as it was, or told apart by its digest.

What no reader can know: an uncompressed file has no checksum, so a changed voxel is another voxel, and a header field
that stays possible (another spacing, another place) is another header. There the promise is that the file's digest
changes, which the cache and `check --json` record.
"""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from segan_pl.data.case import CaseError
from segan_pl.data.io import Volume, read_volume, write_volume

ARRAY = np.random.default_rng(4).integers(0, 900, (2, 3, 4)).astype(np.int16)
MEMORY = 4 << 20  # bytes that reading a file of a few hundred may take at most
FLIPS = (0x01, 0x10, 0x80, 0xFF)


def nifti(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_volume(folder / name, ARRAY, np.diag([-1.0, -1.0, 2.0, 1.0]))
        return folder / name

    return write


def meta(name: str, packed: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        image = sitk.GetImageFromArray(ARRAY)
        image.SetSpacing((2, 3, 5))
        image.SetOrigin((7, 8, 9))
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
        return folder / name

    return write


def pair(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(ARRAY.T, np.eye(4)), folder / "a.img")
    return folder / "a.hdr"


CHECKED = {"nii.gz": nifti("a.nii.gz")}  # a checksum over everything
UNCHECKED = {
    "nii": nifti("a.nii"),
    "pair": pair,
    "mha": meta("a.mha", False),
    "mha.zlib": meta("a.mha", True),
    "mhd": meta("a.mhd", False),
}


def outcome(path: Path) -> Volume | str:
    """The volume, or the refusal's text; anything else fails the test."""
    try:
        return read_volume(path)
    except CaseError as error:
        return str(error)


def same(a: Volume, b: Volume) -> bool:
    return (
        a.array.shape == b.array.shape
        and a.array.dtype == b.array.dtype
        and np.array_equal(a.array, b.array)
        and np.array_equal(a.affine, b.affine)
    )


def flipped(path: Path, sound: bytes, place: int, bits: int) -> Volume | str:
    content = bytearray(sound)
    content[place] ^= bits
    path.write_bytes(content)
    return outcome(path)


@pytest.mark.parametrize("kind", CHECKED)
def test_where_there_is_a_checksum_no_flipped_byte_changes_anything_in_silence(tmp_path: Path, kind: str) -> None:
    path = CHECKED[kind](tmp_path)
    sound, bytes_of = read_volume(path), path.read_bytes()
    refused = 0
    for place in range(len(bytes_of)):
        for bits in FLIPS:
            found = flipped(path, bytes_of, place, bits)
            if isinstance(found, str):
                refused += 1
                assert found.startswith(f"{path}: ")
                assert "\n" not in found
            else:
                assert same(found, sound), (place, bits)
    assert refused > 0.8 * 4 * len(bytes_of)


UNKNOWABLE = {
    "nii": {
        "voxels": "of an uncompressed file, no checksum",
        "scl_slope": "another scale",
        "scl_inter": "another scale",
        "srow_x": "another place",
        "srow_y": "another place",
        "srow_z": "another place",
    },
    "mha": {
        "voxels": "of an uncompressed file, no checksum",
        "TransformMatrix": "another direction",
        "Offset": "another place",
        "ElementSpacing": "another spacing",
    },
}
"""Where a flipped byte changes voxels or place without a refusal or a note: nothing in the file contradicts it."""


def field_at(kind: str, content: bytes, place: int) -> str:
    """Which field of the header a byte belongs to."""
    if kind == "nii":
        starts = {
            name: nib.Nifti1Header.template_dtype.fields[name][1] for name in nib.Nifti1Header.template_dtype.names
        }
        return "voxels" if place >= 352 else max((s, n) for n, s in starts.items() if s <= place)[1]
    start = content.index(b"LOCAL\n") + len(b"LOCAL\n")
    line = content[content.rfind(b"\n", 0, place) + 1 :].split(b"\n")[0]
    return "voxels" if place >= start else line.split(b" =")[0].decode()


@pytest.mark.parametrize("kind", UNKNOWABLE)
def test_only_what_no_reader_can_know_changes_voxels_or_place_without_a_word(tmp_path: Path, kind: str) -> None:
    path = UNCHECKED[kind](tmp_path)
    sound, bytes_of = read_volume(path), path.read_bytes()
    changed = set()
    for place in range(len(bytes_of)):
        for bits in (0x02, 0x10):
            found = flipped(path, bytes_of, place, bits)
            if not isinstance(found, str) and found.notes == sound.notes and not same(found, sound):
                changed.add(field_at(kind, bytes_of, place))
    assert changed == set(UNKNOWABLE[kind])


@pytest.mark.parametrize("kind", UNCHECKED)
def test_without_one_a_flipped_byte_is_refused_or_changes_the_digest(tmp_path: Path, kind: str) -> None:
    path = UNCHECKED[kind](tmp_path)
    sound = read_volume(path)
    for file in sorted(tmp_path.iterdir()):
        bytes_of = file.read_bytes()
        for place in range(len(bytes_of)):
            content = bytearray(bytes_of)
            content[place] ^= FLIPS[place % len(FLIPS)]
            file.write_bytes(content)
            found = outcome(path)
            if isinstance(found, str):
                assert "\n" not in found
                assert str(tmp_path) in found
            else:
                assert found.digest != sound.digest, place
        file.write_bytes(bytes_of)


def test_the_voxels_of_a_compressed_metaimage_are_checked(tmp_path: Path) -> None:
    path = meta("a.mha", True)(tmp_path)
    sound, bytes_of = read_volume(path), path.read_bytes()
    start = bytes_of.index(b"LOCAL\n") + len(b"LOCAL\n")
    assert zlib.decompress(bytes_of[start:]) == ARRAY.tobytes()
    for place in range(start, len(bytes_of)):
        for bits in FLIPS:
            found = flipped(path, bytes_of, place, bits)
            assert isinstance(found, str) or same(found, sound), (place, bits)


@pytest.mark.parametrize("kind", ["nii", "mha", "pair"])
def test_memory_stays_bounded_whatever_the_header_says(tmp_path: Path, kind: str) -> None:
    path = UNCHECKED[kind](tmp_path)
    bytes_of = path.read_bytes()
    outcome(path)
    tracemalloc.start()
    try:
        for place in range(min(len(bytes_of), 400)):
            flipped(path, bytes_of, place, 0x7F)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_bytes_put_in_or_left_out_anywhere_never_pass_as_the_same_image_with_other_voxels(tmp_path: Path) -> None:
    path = nifti("a.nii.gz")(tmp_path)
    sound, bytes_of = read_volume(path), path.read_bytes()
    for place in range(0, len(bytes_of), 3):
        for content in (bytes_of[:place] + bytes_of[place + 1 :], bytes_of[:place] + b"\x5a" + bytes_of[place:]):
            path.write_bytes(content)
            found = outcome(path)
            assert isinstance(found, str) or same(found, sound)
