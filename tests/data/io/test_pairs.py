"""NIfTI and Analyze pairs, 4-D files, replaced voxels, headers alone."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.io import read_channels, read_grid, read_volume, write_analyze, write_volume

ARRAY = np.random.default_rng(2).integers(0, 900, (4, 5, 6)).astype(np.int16)


@pytest.fixture
def pair(tmp_path: Path, affine) -> Path:
    """A NIfTI-1 pair as nibabel writes it."""
    nib.save(nib.Nifti1Pair(ARRAY.T, affine), tmp_path / "a.img")
    return tmp_path / "a.hdr"


@pytest.fixture
def analyze(tmp_path: Path) -> Path:
    """An Analyze pair as the infant challenge's: 4-D with a trailing 1."""
    image = nib.AnalyzeImage(ARRAY.T[..., None], None)
    image.header.set_zooms((1, 1, 2, 1))
    nib.save(image, tmp_path / "b.img")
    return tmp_path / "b.hdr"


@pytest.mark.parametrize("half", [".hdr", ".img"])
def test_either_half_of_a_nifti_pair_reads_as_nibabel_reads_it(pair, affine, half):
    volume = read_volume(pair.with_suffix(half))
    np.testing.assert_array_equal(volume.array, ARRAY)
    np.testing.assert_allclose(volume.affine, nib.load(pair.with_suffix(".img")).affine)


def test_zipped_voxels_beside_a_header_are_read_to_their_end(pair):
    packed = pair.with_suffix(".img.gz")
    content = bytearray(gzip.compress(pair.with_suffix(".img").read_bytes(), mtime=0))
    packed.write_bytes(content)
    pair.with_suffix(".img").unlink()
    np.testing.assert_array_equal(read_volume(pair).array, ARRAY)
    content[-8] ^= 1
    packed.write_bytes(content)
    with pytest.raises(CaseError, match="gzip stream is damaged"):
        read_volume(pair)


@pytest.mark.parametrize("half", [".hdr", ".img"])
def test_an_analyze_pair_is_read_without_its_last_axis_and_its_geometry_is_assumed(analyze, half):
    volume = read_volume(analyze.with_suffix(half))
    np.testing.assert_array_equal(volume.array, np.asarray(nib.load(analyze.with_suffix(".img")).dataobj)[..., 0].T)
    np.testing.assert_array_equal(volume.affine, np.diag([1, 1, 2, 1]))
    assert volume.notes == (
        "trailing axes of 1 dropped from [6, 5, 4, 1]",
        "geometry assumed: Analyze has no reliable orientation; axes taken as RAS, left may be right",
    )


@pytest.mark.parametrize(("there", "gone"), [(".hdr", ".img"), (".img", ".hdr")])
@pytest.mark.parametrize("kind", ["pair", "analyze"])
def test_the_missing_half_is_named(request, kind, there, gone):
    path = request.getfixturevalue(kind)
    path.with_suffix(gone).unlink()
    with pytest.raises(CaseError, match=rf"{path.stem}\{there}: .*is missing, expected {path.stem}\{gone}; restore"):
        read_volume(path.with_suffix(there))


def test_a_pair_with_too_few_or_too_many_voxels_is_refused(pair):
    voxels = pair.with_suffix(".img")
    content = voxels.read_bytes()
    for wrong in (content[:-1], content + b"\0"):
        voxels.write_bytes(wrong)
        with pytest.raises(CaseError, match="the header announces"):
            read_volume(pair)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_volumes_of_a_4d_file_come_one_by_one_and_together_are_refused(tmp_path, affine, name):
    stack = np.stack([ARRAY.T, ARRAY.T + 1, ARRAY.T + 2], -1)
    nib.save(nib.Nifti1Image(stack, affine), tmp_path / name)
    volumes = read_channels(tmp_path / name)
    assert [int(v.array[0, 0, 0]) - int(ARRAY[0, 0, 0]) for v in volumes] == [0, 1, 2]
    for number, volume in enumerate(volumes):
        np.testing.assert_array_equal(volume.array, ARRAY + number)
    assert len({volume.digest for volume in volumes}) == 3
    assert read_grid(tmp_path / name).channels == 3
    with pytest.raises(CaseError, match=r"4 axes \[6, 5, 4, 3\].*--data.layout msd"):
        read_volume(tmp_path / name)


def test_a_3d_file_has_one_channel(tmp_path, affine):
    write_volume(tmp_path / "a.nii.gz", ARRAY, affine)
    (only,) = read_channels(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(only.array, ARRAY)
    assert only.digest == read_volume(tmp_path / "a.nii.gz").digest


def test_voxels_that_are_not_finite_become_zeros_on_request_and_are_counted(tmp_path, affine):
    array = ARRAY.astype(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    write_volume(tmp_path / "a.nii.gz", array, affine)
    volume = read_volume(tmp_path / "a.nii.gz", nonfinite="zero")
    assert volume.notes == ("3 voxels were NaN or Inf and are 0 now",)
    expected = ARRAY.astype(np.float32)
    expected[0, 0, :3] = 0
    np.testing.assert_array_equal(volume.array, expected)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_header_alone_says_what_the_whole_file_says(tmp_path, affine, name):
    write_volume(tmp_path / name, ARRAY, affine)
    grid, volume = read_grid(tmp_path / name), read_volume(tmp_path / name)
    assert (grid.shape, grid.dtype, grid.channels) == (volume.shape, "int16", 1)
    np.testing.assert_array_equal(grid.affine, volume.affine)


def test_the_header_is_read_though_the_voxels_are_cut_off_or_never_come(tmp_path, affine):
    write_volume(tmp_path / "a.nii.gz", np.zeros((200, 200, 200), np.uint8), affine)
    content = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(content[: len(content) // 2])
    assert read_grid(tmp_path / "a.nii.gz").shape == (200, 200, 200)


def test_orientation_and_spacing_are_those_of_the_affine(tmp_path):
    write_volume(tmp_path / "a.nii", ARRAY, np.diag([-2.0, -3.0, 4.0, 1.0]))
    volume = read_volume(tmp_path / "a.nii")
    assert volume.orientation == "LPS"
    assert volume.spacing_mm == (2.0, 3.0, 4.0)


def test_plain_voxels_that_happen_to_begin_as_gzip_does_are_read_as_they_are(pair):
    voxels = pair.with_suffix(".img")
    content = b"\x1f\x8b\x08" + voxels.read_bytes()[3:]
    voxels.write_bytes(content)
    assert read_volume(pair).array.tobytes() == content


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_an_analyze_pair_that_is_written_is_what_nibabel_reads_with_a_trailing_axis(tmp_path, dtype):
    array = ARRAY.astype(dtype)
    write_analyze(tmp_path / "a.hdr", array, (0.5, 1.0, 2.0))
    image = nib.load(tmp_path / "a.img")
    assert type(image).__name__ in ("AnalyzeImage", "Spm2AnalyzeImage", "Spm99AnalyzeImage")
    assert (image.shape, image.header.get_zooms()[:3]) == ((6, 5, 4, 1), (0.5, 1.0, 2.0))
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 0].T, array)
    volume = read_volume(tmp_path / "a.hdr")
    np.testing.assert_array_equal(volume.array, array)
    assert (volume.dtype_on_disk, volume.spacing_mm) == (dtype, (0.5, 1.0, 2.0))


def test_an_analyze_pair_of_a_wrong_size_or_with_more_axes_is_refused(tmp_path):
    write_analyze(tmp_path / "a.hdr", ARRAY, (1, 1, 1))
    voxels, header = tmp_path / "a.img", bytearray((tmp_path / "a.hdr").read_bytes())
    for wrong in (voxels.read_bytes()[:-2], voxels.read_bytes() + b"\0\0"):
        voxels.write_bytes(wrong)
        with pytest.raises(CaseError, match=r"a.hdr: the header announces 240 bytes"):
            read_volume(tmp_path / "a.hdr")
    write_analyze(tmp_path / "a.hdr", ARRAY, (1, 1, 1))
    header[40:52] = np.array([5, 6, 5, 4, 1, 2], "<i2").tobytes()  # dim: five axes, the last of 2
    (tmp_path / "a.hdr").write_bytes(header)
    with pytest.raises(CaseError, match=r"the image has 5 axes \[6, 5, 4, 1, 2\], expected one 3-D volume"):
        read_volume(tmp_path / "a.hdr")
    header[40:52] = np.array([5, 6, 5, 4, 1, 1], "<i2").tobytes()
    (tmp_path / "a.hdr").write_bytes(header)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.hdr").array, ARRAY)
