from __future__ import annotations

import gzip
import itertools
import os
import struct
import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segan_pl.data.case import CaseError
from segan_pl.data.io import read_grid, read_volume, same_grid, write_volume
from segan_pl.data.io.streams import SLICE

ARRAY = np.random.default_rng(0).integers(-40, 900, (4, 5, 6)).astype(np.int16)
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, QFORM, SFORM, SROW = 40, 70, 76, 108, 112, 252, 254, 280  # bytes, NIfTI-1


@pytest.fixture
def plain(tmp_path: Path, affine) -> bytes:
    """A sound uncompressed NIfTI-1 file."""
    write_volume(tmp_path / "sound.nii", ARRAY, affine)
    return (tmp_path / "sound.nii").read_bytes()


def patched(content: bytes, offset: int, pattern: str, *values: float) -> bytes:
    packed = struct.pack(pattern, *values)
    return content[:offset] + packed + content[offset + len(packed) :]


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_volume(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def reference(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asanyarray(image.dataobj).T, image.affine


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_what_is_written_is_what_is_read_and_what_nibabel_reads(tmp_path, affine, name, dtype):
    array = np.abs(ARRAY).clip(0, 200).astype(dtype)
    write_volume(tmp_path / name, array, affine)
    volume = read_volume(tmp_path / name)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    voxels, nibabels_affine = reference(tmp_path / name)
    np.testing.assert_array_equal(volume.array, voxels)
    np.testing.assert_array_equal(volume.affine, nibabels_affine)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.notes == ()


def test_writing_sets_both_forms_leaves_no_temporary_file_and_gives_equal_bytes(tmp_path, affine):
    write_volume(tmp_path / "a.nii.gz", ARRAY, affine, compresslevel=1)
    write_volume(tmp_path / "b.nii.gz", ARRAY, affine, compresslevel=1)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_voxels_are_a_read_only_view_with_contiguous_axial_slices(tmp_path, plain):
    (tmp_path / "a.nii").write_bytes(plain)
    array = read_volume(tmp_path / "a.nii").array
    assert array[0].flags.c_contiguous
    assert not array.flags.writeable


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders_are_read(tmp_path, affine, kind, order):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(order))
    nib.save(kind(ARRAY.T, affine, header), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, ARRAY)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.array.dtype.isnative


def test_slope_and_intercept_are_applied_as_nibabel_applies_them(tmp_path, plain):
    (tmp_path / "a.nii").write_bytes(patched(plain, SLOPE, "<2f", 0.5, -3.0))
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, reference(tmp_path / "a.nii")[0])


def test_a_slope_of_zero_means_none(tmp_path, plain):
    (tmp_path / "a.nii").write_bytes(patched(plain, SLOPE, "<2f", 0.0, 7.0))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, ARRAY)


def test_compression_is_told_by_the_bytes_not_by_the_name(tmp_path, plain):
    (tmp_path / "a.nii.gz").write_bytes(plain)
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain))
    for name in ("a.nii.gz", "b.nii"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, ARRAY)


def test_gzip_of_many_members_is_read_to_its_end(tmp_path, plain):
    cuts = [0, 100, 353, 400, len(plain)]
    members = [gzip.compress(plain[a:b]) for a, b in itertools.pairwise(cuts)]
    (tmp_path / "a.nii.gz").write_bytes(b"".join(members) + b"\0" * 7)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, ARRAY)


def test_equal_files_have_equal_digests(tmp_path, plain):
    (tmp_path / "a.nii").write_bytes(plain)
    (tmp_path / "b.nii").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(plain[:-1] + bytes([plain[-1] ^ 1]))
    digests = [read_volume(tmp_path / name).digest for name in ("a.nii", "b.nii", "c.nii")]
    assert digests[0] == digests[1] != digests[2]


def test_qform_is_used_without_sform_and_spacing_alone_is_noted(tmp_path, plain, affine):
    rigid = np.diag([2.0, 2.0, 3.0, 1.0])
    rigid[:3, 3] = (5, 6, 7)
    write_volume(tmp_path / "q.nii", ARRAY, rigid)
    content = patched((tmp_path / "q.nii").read_bytes(), SFORM, "<h", 0)
    (tmp_path / "q.nii").write_bytes(content)
    np.testing.assert_allclose(read_volume(tmp_path / "q.nii").affine, rigid)
    (tmp_path / "n.nii").write_bytes(patched(content, QFORM, "<h", 0))
    volume = read_volume(tmp_path / "n.nii")
    np.testing.assert_allclose(volume.affine, np.diag([2.0, 2.0, 3.0, 1.0]))
    assert volume.notes == ("geometry assumed: neither sform nor qform is set",)


def test_a_trailing_axis_of_one_is_dropped_and_noted(tmp_path, plain):
    (tmp_path / "a.nii").write_bytes(patched(plain, DIM, "<5h", 4, 6, 5, 4, 1))
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert "trailing axes of 1 dropped" in volume.notes[0]


@pytest.mark.parametrize(
    ("offset", "pattern", "values", "message"),
    [
        (DIM, "<4h", (3, 6, 5, 3), "the header announces 532 bytes, found"),
        (DIM, "<4h", (3, 6, 5, 9), "the header announces 892 bytes,"),
        (DIM, "<4h", (3, 6, 0, 4), "dimensions are [6, 0, 4], expected at least 1"),
        (DIM, "<4h", (3, 6, -5, 4), "dimensions are [6, -5, 4]"),
        (DIM, "<4h", (3, 32767, 32767, 32767), "bytes, the file holds at most"),
        (DIM, "<5h", (4, 6, 5, 2, 2), "4 axes [6, 5, 2, 2], expected one 3-D volume"),
        (DIM, "<4h", (2, 30, 4, 1), "2 axes [30, 4], expected one 3-D volume"),
        (DIM, "<h", (9,), "9 axes, expected 3"),
        (PIXDIM + 4, "<f", (0.0,), "spacing (0.0,"),
        (PIXDIM + 4, "<f", (-1.0,), "spacing (-1.0,"),
        (PIXDIM + 8, "<f", (float("nan"),), "expected positive numbers"),
        (SROW, "<f", (float("nan"),), "affine holds NaN or Inf"),
        (SROW, "<12f", (0.0,) * 12, "affine is singular"),
        (SLOPE, "<f", (float("nan"),), "scl_slope nan"),
        (SLOPE, "<2f", (2.0, float("inf")), "scl_inter inf"),
        (DATATYPE, "<h", (32,), "data type complex64, expected integers or floats"),
        (DATATYPE, "<h", (128,), "expected integers or floats"),
        (DATATYPE, "<h", (31,), "unknown data type 31"),
        (VOX_OFFSET, "<f", (100.0,), "places the voxels at byte 100"),
        (VOX_OFFSET, "<f", (float("nan"),), "places the voxels at byte nan"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_wrong_header_is_refused_and_named(tmp_path, plain, offset, pattern, values, message, packed):
    content = patched(plain, offset, pattern, *values)
    text = refusal(tmp_path / "a.nii", gzip.compress(content) if packed else content)
    assert message in text


def test_absurd_dimensions_are_refused_before_they_are_allocated(tmp_path, plain):
    content = gzip.compress(patched(plain, DIM, "<4h", 3, 32767, 32767, 32767))
    tracemalloc.start()
    refusal(tmp_path / "a.nii.gz", content)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_gzip_bomb_behind_a_small_header_is_not_inflated(tmp_path, plain):
    content = gzip.compress(plain + bytes(200_000_000), compresslevel=1)
    tracemalloc.start()
    assert "found more than 592" in refusal(tmp_path / "a.nii.gz", content)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>sign in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3\n", "git-lfs pointer"),
        (b"\x00" * 5000, "unknown format"),
        (b"short", "only 5 bytes"),
        (gzip.compress(b"<html>", mtime=0), "a web page"),
        (gzip.compress(b"x" * 100, mtime=0), "only 100 bytes"),
    ],
)
def test_what_is_no_image_is_refused_and_named(tmp_path, content, message):
    assert message in refusal(tmp_path / "a.nii.gz", content)


def test_a_missing_file_a_broken_link_and_a_folder_are_refused(tmp_path):
    (tmp_path / "link.nii").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.nii").mkdir()
    for name, reason in [("no.nii", "No such file"), ("link.nii", "No such file"), ("folder.nii", "Is a directory")]:
        with pytest.raises(CaseError, match=reason):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused_with_their_number(tmp_path, affine, value):
    array = ARRAY.astype(np.float32)
    array[0, :2, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_volume(tmp_path / "sound.nii", array, affine)
    assert "2 voxels are NaN or Inf" in refusal(tmp_path / "a.nii", (tmp_path / "sound.nii").read_bytes())


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, plain, keep, packed):
    content = gzip.compress(plain) if packed else plain
    assert "a.nii.gz" in refusal(tmp_path / "a.nii.gz", content[: int(len(content) * keep)])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_flipped_bit_in_a_gzip_file_never_changes_voxels_in_silence(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flip") / "a.nii.gz"
    write_volume(path, ARRAY, np.eye(4))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        volume = read_volume(path)
    except CaseError:
        return
    # Bits of the gzip header that say nothing of the content (time, system) may flip.
    np.testing.assert_array_equal(volume.array, ARRAY)
    np.testing.assert_array_equal(volume.affine, np.eye(4))


@settings(max_examples=150, deadline=None)
@given(offset=st.integers(0, 351), value=st.binary(min_size=1, max_size=8))
def test_a_header_of_any_bytes_is_read_or_refused_but_never_crashes(tmp_path_factory, offset, value):
    path = tmp_path_factory.mktemp("header") / "a.nii"
    write_volume(path, ARRAY, np.eye(4))
    content = path.read_bytes()
    path.write_bytes(content[:offset] + value + content[offset + len(value) :])
    try:
        volume = read_volume(path)
    except CaseError:
        return
    assert volume.array.ndim == 3
    assert np.isfinite(volume.affine).all()


def test_grids_are_equal_within_a_thousandth(tmp_path, affine):
    shifted, turned = affine.copy(), affine.copy()
    shifted[0, 3] += 5e-4
    turned[0] *= -1
    grids = {}
    for name, array, place in [
        ("first", ARRAY, affine),
        ("near", ARRAY, shifted),
        ("turned", ARRAY, turned),
        ("short", ARRAY[1:], affine),
    ]:
        write_volume(tmp_path / f"{name}.nii", array, place)
        grids[name] = read_volume(tmp_path / f"{name}.nii")
    assert [same_grid(grids["first"], grids[name]) for name in grids] == [True, True, False, False]


@pytest.mark.real_data
def test_every_real_file_reads_as_nibabel_reads_it(real_data_root):
    for path in sorted(real_data_root.glob("brats2021/*_00008/*.nii.gz")) + sorted(
        real_data_root.glob("tcga_fg_6692/*/*.nii.gz")
    ):
        volume = read_volume(path)
        voxels, affine = reference(path)
        np.testing.assert_array_equal(volume.array, voxels)
        np.testing.assert_allclose(volume.affine, affine)


def test_a_second_member_or_what_follows_the_first_is_refused_whatever_it_ends_with(tmp_path, plain):
    packed = gzip.compress(plain, mtime=0)
    for number, content in enumerate(
        (packed + packed, packed + packed[:-20] + b"x" * 12 + packed[-8:], packed + b"strange" + packed[-4:])
    ):
        assert "a.nii.gz: " in refusal(tmp_path / "a.nii.gz", content), number


@pytest.fixture
def long(tmp_path: Path, affine) -> tuple[np.ndarray, bytes]:
    """Noise, which takes more than one slice of the stream, and its file."""
    array = np.random.default_rng(7).integers(0, 256, (3, SLICE // 256, 256)).astype(np.uint8)
    write_volume(tmp_path / "long.nii.gz", array, affine)
    content = (tmp_path / "long.nii.gz").read_bytes()
    assert len(content) > 2 * SLICE
    return array, content


def test_a_stream_of_many_slices_is_read_and_a_flipped_bit_in_any_slice_refused(tmp_path, long):
    array, content = long
    np.testing.assert_array_equal(read_volume(tmp_path / "long.nii.gz").array, array)
    for place in (SLICE // 2, SLICE - 1, SLICE, 2 * SLICE + 5, len(content) - 6):
        changed = bytearray(content)
        changed[place] ^= 4
        assert "gzip stream is damaged" in refusal(tmp_path / "a.nii.gz", bytes(changed)), place


@pytest.mark.parametrize("keep", [SLICE, 2 * SLICE, 2 * SLICE + 9])
def test_a_stream_cut_off_where_a_slice_ends_is_refused(tmp_path, long, keep):
    assert "gzip stream breaks off" in refusal(tmp_path / "a.nii.gz", long[1][:keep])


def test_a_stream_that_lies_about_its_size_is_not_inflated_beyond_it(tmp_path, plain):
    content = gzip.compress(plain + bytes(200_000_000), compresslevel=1)
    content = content[:-4] + struct.pack("<I", len(plain))
    tracemalloc.start()
    refusal(tmp_path / "a.nii.gz", content)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_gzip_header_with_the_longest_field_it_may_bear_is_read(tmp_path, plain):
    packed = gzip.compress(plain, mtime=0)
    extra = struct.pack("<H", 65535) + bytes(65535)
    (tmp_path / "a.nii.gz").write_bytes(packed[:3] + b"\x04" + packed[4:10] + extra + packed[10:])
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, ARRAY)
    assert read_grid(tmp_path / "a.nii.gz").shape == ARRAY.shape


@pytest.mark.parametrize("reader", [read_volume, read_grid])
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "device.nii").symlink_to("/dev/zero")
    for name in ("pipe.nii", "device.nii"):
        with pytest.raises(CaseError, match="is a pipe or a device, expected a file"):
            reader(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mhd", "a.img", "a.hdr", "a.gz", "a"])
def test_an_ending_that_is_not_written_is_refused(tmp_path, affine, name):
    with pytest.raises(CaseError, match=r"expected a name that ends with \.nii, \.nii\.gz, \.mha"):
        write_volume(tmp_path / name, ARRAY, affine)
    assert not list(tmp_path.iterdir())
