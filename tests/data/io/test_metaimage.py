"""MetaImage against SimpleITK, which wrote the format's usual files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from segan_pl.data.case import CaseError
from segan_pl.data.io import read_channels, read_grid, read_volume, write_like, write_volume
from segan_pl.data.io.streams import SLICE
from segan_pl.data.io.writing import VOXEL_KEYS

ARRAY = np.random.default_rng(1).integers(-40, 900, (4, 5, 6)).astype(np.int16)


def oblique(seed: int = 0) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Direction, spacing and origin of a random rotation, as SimpleITK wants them."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return tuple(rotation.ravel()), tuple(rng.uniform(0.4, 6, 3)), tuple(rng.uniform(-200, 200, 3))


def placed(array: np.ndarray, seed: int = 0) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    direction, spacing, origin = oblique(seed)
    image.SetDirection(direction)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def save(image: sitk.Image, path: Path, *, packed: bool = False) -> Path:
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def edited(path: Path, *changes: tuple[str, str]) -> Path:
    """Replace text in the header of a .mha with uncompressed voxels."""
    head, mark, voxels = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    for old, new in changes:
        assert old.encode() in head, head
        head = head.replace(old.encode(), new.encode())
    path.write_bytes(head + mark + voxels)
    return path


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_what_simpleitk_writes_is_read_with_its_voxels_and_its_place(tmp_path, suffix, packed, dtype):
    array = np.abs(ARRAY).clip(0, 120).astype(dtype)
    image = placed(array)
    volume = read_volume(save(image, tmp_path / f"a{suffix}", packed=packed))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.dtype_on_disk == np.dtype(dtype).name
    reference = nib.load(save(image, tmp_path / "a.nii"))  # SimpleITK's own way from LPS to NIfTI's RAS
    np.testing.assert_allclose(volume.affine, reference.affine, atol=1e-4)
    np.testing.assert_allclose(volume.spacing_mm, image.GetSpacing(), rtol=1e-6)
    assert volume.notes == ()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_any_place_in_space_is_the_one_that_simpleitk_means(tmp_path_factory, seed):
    image = placed(ARRAY, seed)
    volume = read_volume(save(image, tmp_path_factory.mktemp("mha") / "a.mha"))
    corner = np.array([5, 4, 3])
    lps = np.array(image.TransformIndexToPhysicalPoint(corner.tolist()))
    np.testing.assert_allclose(volume.affine @ [*corner, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-3)


@pytest.mark.parametrize("compresslevel", [0, 6])
def test_what_is_written_is_what_simpleitk_reads(tmp_path, affine, compresslevel):
    write_volume(tmp_path / "a.mha", ARRAY, affine, compresslevel=compresslevel)
    image = sitk.ReadImage(str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), ARRAY)
    lps = np.array(image.TransformIndexToPhysicalPoint((3, 2, 1)))
    np.testing.assert_allclose(affine @ [3, 2, 1, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-6)
    again = read_volume(tmp_path / "a.mha")
    np.testing.assert_array_equal(again.array, ARRAY)
    np.testing.assert_allclose(again.affine, affine, atol=1e-12)


def test_a_flipped_byte_that_simpleitk_reads_as_other_voxels_is_refused(tmp_path, affine):
    write_volume(tmp_path / "a.mha", ARRAY, affine)
    head, mark, packed = (tmp_path / "a.mha").read_bytes().partition(b"ElementDataFile = LOCAL\n")
    unnoticed = 0
    for place in range(4, 104, 20):
        damaged = bytearray(packed)
        damaged[place] ^= 0xFF
        (tmp_path / "b.mha").write_bytes(head + mark + damaged)
        with pytest.raises(CaseError, match="the zlib stream"):
            read_volume(tmp_path / "b.mha")
        try:
            read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.mha")))
        except RuntimeError:
            continue
        unnoticed += not np.array_equal(read, ARRAY)
    assert unnoticed  # else SimpleITK could read the voxels for us


def test_a_header_alone_says_shape_channels_and_type(tmp_path):
    grid = read_grid(save(placed(ARRAY), tmp_path / "a.mha", packed=True))
    assert (grid.shape, grid.channels, grid.dtype) == ((4, 5, 6), 1, "int16")
    stack = sitk.JoinSeries([sitk.GetImageFromArray(ARRAY), sitk.GetImageFromArray(ARRAY + 1)])
    assert read_grid(save(stack, tmp_path / "b.mha")).channels == 2


def test_channels_lie_volume_after_volume_or_together(tmp_path):
    parts = [sitk.GetImageFromArray(ARRAY), sitk.GetImageFromArray(ARRAY + 1)]
    for name, image in (("series", sitk.JoinSeries(parts)), ("vector", sitk.Compose(parts))):
        path = save(image, tmp_path / f"{name}.mha", packed=True)
        first, second = read_channels(path)
        np.testing.assert_array_equal(first.array, ARRAY)
        np.testing.assert_array_equal(second.array, ARRAY + 1)
        assert second.array[0].flags.c_contiguous
        assert first.digest != second.digest
        with pytest.raises(CaseError, match=r"4 axes \[6, 5, 4, 2\], expected one 3-D volume"):
            read_volume(path)


def test_big_endian_voxels_are_read(tmp_path):
    path = save(sitk.GetImageFromArray(ARRAY), tmp_path / "a.mha")
    head, mark, voxels = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    head = head.replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True")
    path.write_bytes(head + mark + np.frombuffer(voxels, "<i2").astype(">i2").tobytes())
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)


def test_without_place_the_geometry_is_assumed_and_noted(tmp_path):
    text = "NDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(text.encode() + ARRAY.tobytes())
    volume = read_volume(tmp_path / "a.mha")
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.notes == ("geometry assumed: the header has no TransformMatrix, Offset, ElementSpacing",)


def test_the_lines_that_simpleitk_adds_of_a_dicom_header_are_read_over_and_kept(tmp_path):
    image = placed(ARRAY)
    for key, value in (("0010|0010", "a b"), ("a key", "c = d")):
        image.SetMetaData(key, value)
    path = save(image, tmp_path / "a.mha")
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    write_like(path, ARRAY, tmp_path / "b.mha")
    assert sitk.ReadImage(str(tmp_path / "b.mha")).GetMetaData("0010|0010") == "a b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("DimSize = 6 5 4", "DimSize = 6 5 5"), "the header announces"),
        (("DimSize = 6 5 4", "DimSize = 6 5 3"), "the header announces"),
        (("DimSize = 6 5 4", "DimSize = 6 0 4"), "expected at least 1 each"),
        (("DimSize = 6 5 4", "DimSize = 6 -5 4"), "expected at least 1 each"),
        (("DimSize = 6 5 4", "DimSize = 32767 32767 32767"), "the file holds at most"),
        (("DimSize = 6 5 4", "DimSize = 6 5"), "NDims is 3"),
        (("DimSize = 6 5 4", "DimSize = six"), "expected whole numbers"),
        (("DimSize = 6 5 4", "DimSize = 0_6 5 4"), "expected whole numbers"),
        (("ElementSpacing = ", "ElementSpacing = 1_"), "expected numbers"),
        (("ElementType = MET_SHORT", "ElementType = MET_STRING"), "unknown data type MET_STRING"),
        (("ElementSpacing = ", "ElementSpacing = 0 "), "expected 3"),
        (("TransformMatrix = ", "TransformMatrix = nan "), "expected 9"),
        (("CompressedData = False", "CompressedData = Maybe"), "expected True or False"),
        (("CompressedData = False", "CompressedData = True"), "zlib stream is damaged"),
        (("NDims = 3", "NDims = 3\nNDims = 3"), "is there twice"),
        (("BinaryData = True", "BinaryData = False"), "written as text"),
    ],
)
def test_a_wrong_header_is_refused_and_named(tmp_path, change, message):
    path = edited(save(placed(ARRAY), tmp_path / "a.mha"), change)
    with pytest.raises(CaseError, match=message) as error:
        read_volume(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ElementSpacing", "1 0 1", "expected positive numbers"),
        ("ElementSpacing", "1 nan 1", "expected positive numbers"),
        ("TransformMatrix", "1 0 0 1 0 0 0 0 1", "singular"),
        ("Offset", "nan 0 0", "affine holds NaN"),
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path, key, value, message):
    path = save(placed(ARRAY), tmp_path / "a.mha")
    lines = path.read_bytes().split(b"\n")
    lines = [f"{key} = {value}".encode() if line.startswith(f"{key} ".encode()) else line for line in lines]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(CaseError, match=message):
        read_volume(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, packed, keep):
    path = save(placed(ARRAY), tmp_path / "a.mha", packed=packed)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CaseError):
        read_volume(path)


def test_a_missing_half_is_named(tmp_path):
    path = save(placed(ARRAY), tmp_path / "a.mhd")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(CaseError, match=r"a\.mhd: its other half with the voxels is missing, expected a\.raw"):
        read_volume(path)


@pytest.mark.parametrize("before", [0, 7])
def test_voxels_at_the_end_of_their_file_are_found_and_too_few_refused(tmp_path, before):
    path = save(sitk.GetImageFromArray(ARRAY), tmp_path / "a.mhd")
    path.write_text(path.read_text().replace("NDims", "HeaderSize = -1\nNDims"))
    (tmp_path / "a.raw").write_bytes(bytes(before) + ARRAY.tobytes())
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    (tmp_path / "a.raw").write_bytes(ARRAY.tobytes()[:100])
    with pytest.raises(CaseError, match=r"the header announces 240 bytes of voxels, a\.raw holds 100"):
        read_volume(path)


def test_a_compressed_stream_of_many_slices_is_read_and_a_flipped_bit_refused(tmp_path):
    array = np.random.default_rng(7).integers(0, 256, (3, SLICE // 256, 256)).astype(np.uint8)
    path = save(placed(array), tmp_path / "a.mha", packed=True)
    content = path.read_bytes()
    assert len(content) > 2 * SLICE
    np.testing.assert_array_equal(read_volume(path).array, array)
    for place in (SLICE, 2 * SLICE + 5, len(content) - 2):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(CaseError, match="zlib stream is damaged"):
            read_volume(path)
    for wrong, message in ((content[: 2 * SLICE], "breaks off"), (content + b"x", "strange bytes follow")):
        path.write_bytes(wrong)
        with pytest.raises(CaseError, match=message):
            read_volume(path)


WORDS = st.sampled_from(["0", "1", "-1", "3", "4", "5", "6", "1e400", "nan", "inf", "99999999999", "True", "LOCAL", ""])
VALUES = st.lists(WORDS, max_size=9).map(" ".join) | st.text(st.characters(codec="latin-1"), max_size=12)


@settings(deadline=None, max_examples=150)
@given(
    key=st.sampled_from(("NDims", "ElementSpacing", "Offset", "TransformMatrix", *VOXEL_KEYS)),
    value=VALUES,
    cut=st.integers(0, 60),
)
def test_a_header_with_any_value_and_any_end_is_read_or_refused_but_never_crashes(tmp_path_factory, key, value, cut):
    fields = {"NDims": "3", "DimSize": "6 5 4", "ElementType": "MET_SHORT"} | {"ElementDataFile": "LOCAL", key: value}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # it ends the header
    head = "".join(f"{key} = {value}\n" for key, value in fields.items()).encode("latin-1")
    path = tmp_path_factory.mktemp("header") / "a.mha"
    path.write_bytes((head + ARRAY.tobytes())[: -cut or None])
    try:
        volume = read_volume(path)
    except CaseError:
        return
    assert cut == 0
    assert volume.array.size * volume.array.itemsize == ARRAY.nbytes
    assert np.isfinite(volume.affine).all()


def test_voxels_in_many_files_are_refused_in_words(tmp_path):
    path = edited(save(placed(ARRAY), tmp_path / "a.mha"))
    path.write_bytes(path.read_bytes().replace(b"= LOCAL", b"= slice%03d.raw 1 4 1"))
    with pytest.raises(CaseError, match="voxels in many files"):
        read_volume(path)


def test_another_volume_takes_over_every_line_of_the_header_that_does_not_speak_of_voxels(tmp_path):
    reference = edited(save(placed(ARRAY), tmp_path / "a.mha"), ("CenterOf", "Comment = from a hospital\nCenterOf"))
    label = (ARRAY > 300).astype(np.uint8)
    write_like(reference, label, tmp_path / "b.mha")

    def kept(path: Path) -> list[bytes]:
        head = path.read_bytes().partition(b"ElementDataFile")[0]
        voxels = (b"DimSize", b"Binary", b"Compressed", b"ElementType")
        return [line for line in head.split(b"\n") if line and not line.startswith(voxels)]

    assert kept(tmp_path / "b.mha") == kept(reference)
    assert b"Comment = from a hospital" in kept(reference)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.mha"))), label)
    np.testing.assert_array_equal(read_volume(tmp_path / "b.mha").affine, read_volume(reference).affine)


def test_of_a_4d_metaimage_a_segmentation_keeps_the_place_of_its_voxels(tmp_path):
    stack = sitk.JoinSeries([placed(ARRAY), placed(ARRAY)])
    path = save(stack, tmp_path / "a.mha")
    edited(path, ("ElementSpacing", "ElementSize"))
    write_like(path, (ARRAY > 0).astype(np.uint8), tmp_path / "b.mha")
    np.testing.assert_allclose(read_volume(tmp_path / "b.mha").affine, read_grid(path).affine, atol=1e-9)
