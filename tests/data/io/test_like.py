"""A segmentation on the grid of an image: header and affine to the byte."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from segan_pl.data.case import CaseError
from segan_pl.data.io import read_volume, write_like, write_volume

ARRAY = np.random.default_rng(3).integers(0, 900, (4, 5, 6)).astype(np.int16)
LABEL = (ARRAY % 5).astype(np.uint8)
CHANGED = {"dim", "datatype", "bitpix", "scl_slope", "scl_inter", "cal_max", "cal_min", "vox_offset", "magic"}


def oddly_placed(kind: type, order: str = "<"):
    """An image whose qform and sform differ, with codes, units and words of their own."""
    header = kind.header_class(endianness=order)
    image = kind(ARRAY.T.astype(ARRAY.dtype.newbyteorder(order)), None, header)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.linalg.det(rotation) @ np.diag([0.7, 1.3, 4.4])
    affine[:3, 3] = 3.1, -77.7, 19.9
    image.set_qform(affine, code=2)
    image.set_sform(affine @ np.diag([1, 1, 1.25, 1]), code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"scanner 7"
    image.header["aux_file"] = b"aux"
    image.header["cal_max"] = 900
    return image


def header_of(path: Path, size: int) -> bytes:
    content = path.read_bytes()
    return (gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content)[:size]


def fields(path: Path, kind: type) -> dict[str, bytes]:
    size = 348 if kind is nib.Nifti1Image else 540
    header = kind.header_class(header_of(path, size), check=False)
    return {name: np.asarray(header[name]).tobytes() for name in header if name not in CHANGED}


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("source", "target"), [("a.nii", "b.nii.gz"), ("a.nii.gz", "b.nii"), ("a.nii.gz", "b.nii.gz")])
def test_every_field_but_those_of_the_voxels_is_kept_to_the_byte(tmp_path, kind, source, target):
    nib.save(oddly_placed(kind), tmp_path / source)
    write_like(tmp_path / source, LABEL, tmp_path / target)
    assert fields(tmp_path / target, kind) == fields(tmp_path / source, kind)
    before, after = nib.load(tmp_path / source), nib.load(tmp_path / target)
    np.testing.assert_array_equal(np.asarray(after.dataobj), LABEL.T)
    for name in ("get_qform", "get_sform"):
        np.testing.assert_array_equal(*(getattr(image, name)() for image in (before, after)))
    assert after.get_data_dtype() == np.uint8
    assert np.isnan(after.dataobj.slope) or after.dataobj.slope == 1


def test_big_endian_headers_stay_so_and_floats_are_written_right(tmp_path):
    nib.save(oddly_placed(nib.Nifti1Image, ">"), tmp_path / "a.nii")
    write_like(tmp_path / "a.nii", ARRAY.astype(np.float32) / 7, tmp_path / "b.nii.gz")
    assert struct.unpack(">i", header_of(tmp_path / "b.nii.gz", 4)) == (348,)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj).T, ARRAY.astype(np.float32) / 7)


def test_extensions_are_kept(tmp_path):
    image = oddly_placed(nib.Nifti1Image)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept " * 400))
    nib.save(image, tmp_path / "a.nii.gz")
    write_like(tmp_path / "a.nii.gz", LABEL, tmp_path / "b.nii.gz")
    (extension,) = nib.load(tmp_path / "b.nii.gz").header.extensions
    assert extension.get_content().rstrip(b"\0") == b"kept " * 400
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").array, LABEL)


def test_of_a_pair_a_single_file_is_made_on_the_same_grid(tmp_path, affine):
    nib.save(nib.Nifti1Pair(ARRAY.T, affine), tmp_path / "a.img")
    for half in ("a.hdr", "a.img"):
        write_like(tmp_path / half, LABEL, tmp_path / "b.nii.gz")
        after = nib.load(tmp_path / "b.nii.gz")
        np.testing.assert_array_equal(after.affine, nib.load(tmp_path / "a.img").affine)
        np.testing.assert_array_equal(np.asarray(after.dataobj).T, LABEL)


def test_of_an_analyze_pair_no_orientation_is_invented(tmp_path):
    image = nib.AnalyzeImage(ARRAY.T, None)
    image.header.set_zooms((1, 1, 2))
    nib.save(image, tmp_path / "a.img")
    write_like(tmp_path / "a.hdr", LABEL, tmp_path / "b.nii.gz")
    header = nib.load(tmp_path / "b.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert header.get_zooms() == (1, 1, 2)
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").affine, read_volume(tmp_path / "a.hdr").affine)


def test_of_a_4d_image_a_3d_segmentation_is_made(tmp_path, affine):
    nib.save(nib.Nifti1Image(np.stack([ARRAY.T] * 4, -1), affine), tmp_path / "a.nii.gz")
    write_like(tmp_path / "a.nii.gz", LABEL, tmp_path / "b.nii.gz")
    assert nib.load(tmp_path / "b.nii.gz").shape == (6, 5, 4)
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").affine, read_volume_affine(tmp_path / "a.nii.gz"))


def read_volume_affine(path: Path) -> np.ndarray:
    return nib.load(path).affine


def test_of_a_file_with_a_trailing_axis_a_segmentation_without_it_is_made_on_the_same_grid(tmp_path, affine):
    nib.save(nib.Nifti1Image(ARRAY.T[..., None], affine), tmp_path / "a.nii.gz")
    write_like(tmp_path / "a.nii.gz", LABEL, tmp_path / "b.nii.gz")
    after = nib.load(tmp_path / "b.nii.gz")
    assert after.shape == (6, 5, 4)
    np.testing.assert_array_equal(after.affine, nib.load(tmp_path / "a.nii.gz").affine)
    np.testing.assert_array_equal(np.asarray(after.dataobj).T, LABEL)


def test_between_formats_shape_and_place_are_kept(tmp_path, affine):
    write_volume(tmp_path / "a.nii.gz", ARRAY, affine)
    write_like(tmp_path / "a.nii.gz", LABEL, tmp_path / "b.mha")
    write_like(tmp_path / "b.mha", LABEL, tmp_path / "c.nii.gz")
    for name in ("b.mha", "c.nii.gz"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.array, LABEL)
        np.testing.assert_allclose(volume.affine, read_volume(tmp_path / "a.nii.gz").affine, atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.mha"))), LABEL)


def test_a_segmentation_of_another_shape_is_refused_and_nothing_is_written(tmp_path, affine):
    write_volume(tmp_path / "a.nii.gz", ARRAY, affine)
    with pytest.raises(CaseError, match=r"has shape \(6, 5, 4\), the segmentation \(6, 5, 3\); not written"):
        write_like(tmp_path / "a.nii.gz", LABEL[:-1], tmp_path / "b.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz"]


def test_a_reference_whose_voxels_begin_beyond_its_end_is_refused(tmp_path, affine):
    write_volume(tmp_path / "a.nii", ARRAY, affine)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[108:112] = struct.pack("<f", 1e12)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(CaseError, match=r"a\.nii: the voxels should begin at byte .*, the file ends before"):
        write_like(tmp_path / "a.nii", LABEL, tmp_path / "b.nii")


def test_no_nifti_file_is_written_under_the_name_of_another_format(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(tmp_path / "a.mhd"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CaseError, match=r"b\.mhd: cannot be written so"):
        write_like(tmp_path / "a.mhd", LABEL, tmp_path / "b.mhd")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.real_data
def test_real_grids_come_back_bit_for_bit(real_data_root, tmp_path):
    sources = [*real_data_root.glob("brats2021/*/*_t1.nii.gz"), *real_data_root.glob("tcga_fg_6692/*/*t1*.nii.gz")]
    assert len(sources) > 5
    for source in sources:
        shape = read_volume(source).shape
        write_like(source, np.zeros(shape, np.uint8), tmp_path / "b.nii.gz", compresslevel=1)
        assert fields(tmp_path / "b.nii.gz", nib.Nifti1Image) == fields(source, nib.Nifti1Image)
