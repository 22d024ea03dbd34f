from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from segan_pl.data.case import Case
from segan_pl.data.check import case as checking_case
from segan_pl.data.check.case import check_case, label_counts, voxel_digest
from segan_pl.data.check.case_table import CaseRow
from segan_pl.data.conventions import CONVENTIONS
from segan_pl.data.io import read_volume, write_volume
from tests.data.conftest import OBLIQUE

BRATS = CONVENTIONS["brats2017"]
SHAPE = (6, 8, 10)
MakeCase = Callable[..., Case]


def checked(case: Case, **settings: object) -> CaseRow:
    return check_case(case, BRATS, **{"modalities": tuple(case.images), **settings})  # type: ignore[arg-type]


def mask_of(label: int, *, count: int = 1) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2].flat[:count] = label
    return mask


def test_a_sound_case_has_the_facts_that_nibabel_and_numpy_find(make_case: MakeCase) -> None:
    case = make_case()
    row = checked(case)
    assert (row.status, row.faults) == ("used", ())
    image = nib.load(case.images["t1"])
    voxels = np.asarray(image.dataobj)
    assert row.shape == image.shape
    assert row.spacing_mm == pytest.approx(np.sqrt((image.affine[:3, :3] ** 2).sum(0)), abs=1e-5)
    assert row.orientation == "".join(nib.aff2axcodes(image.affine))
    assert row.data_types == {"t1": "int16", "flair": "int16", "mask": "uint8"}
    found = row.intensities["t1"]
    assert (found.minimum, found.maximum) == (voxels.min(), voxels.max())
    assert found.zeros == pytest.approx((voxels == 0).mean())
    mask = np.asarray(nib.load(case.mask).dataobj)
    assert row.labels == dict(zip(*(part.tolist() for part in np.unique(mask, return_counts=True)), strict=True))
    assert row.tumour_ml == pytest.approx((mask > 0).sum() * abs(np.linalg.det(OBLIQUE[:3, :3])) / 1000, rel=1e-5)
    assert row.slice == np.argmax((mask > 0).sum((0, 1)))
    assert row.size_bytes == sum(path.stat().st_size for path in (*case.images.values(), case.mask) if path)


def test_a_case_with_several_faults_lists_all_of_them(make_case: MakeCase) -> None:
    case = make_case(modalities=("t1", "t1ce", "t2", "flair"), arrays={"seg": mask_of(3)[:-1]})
    damaged = bytearray(case.images["t1"].read_bytes())
    damaged[-8] ^= 1
    case.images["t1"].write_bytes(damaged)
    case.images["t2"].write_bytes(b"")
    row = check_case(case, BRATS, modalities=(*case.images, "pd"))
    assert row.status == "refused"
    incomplete, crc, empty, label, shape = row.faults
    assert incomplete.startswith("incomplete (no pd), expected t1, t1ce, t2, flair, pd; complete the case")
    assert crc.startswith(f"{case.images['t1']}: the gzip stream is damaged")
    assert empty.startswith(f"{case.images['t2']}: empty file")
    assert label.startswith("the mask holds label [3], 'brats2017' knows [0, 1, 2, 4]; choose")
    assert "brats2015" in label
    assert shape == "mask has shape (10, 8, 5), t1ce has shape (10, 8, 6); resample one of them or drop the case"
    assert set(row.intensities) == {"t1ce", "flair"}


@pytest.mark.parametrize("odd", ["t1", "t2", "seg"])
def test_the_part_on_another_grid_than_most_is_named_wherever_it_stands(make_case: MakeCase, odd: str) -> None:
    case = make_case(modalities=("t1", "t2", "flair"))
    path = next(path for path in case.images["t1"].parent.iterdir() if path.name.endswith(f"_{odd}.nii.gz"))
    write_volume(path, read_volume(path).array, OBLIQUE @ np.diag([-1.0, 1, 1, 1]))
    (fault,) = checked(case).faults
    assert fault.startswith(f"{odd.replace('seg', 'mask')} is flipped along x against t")


def test_origins_within_a_hundredth_of_a_millimetre_are_one_grid(make_case: MakeCase) -> None:
    case = make_case()
    write_volume(case.images["flair"], read_volume(case.images["flair"]).array, OBLIQUE + 9e-3 * np.eye(4, 4, 3))
    assert checked(case).status == "used"
    write_volume(case.images["flair"], read_volume(case.images["flair"]).array, OBLIQUE + 2e-2 * np.eye(4, 4, 3))
    assert checked(case).status == "refused"


def test_an_image_of_zeros_is_refused_and_a_constant_one_reported(make_case: MakeCase) -> None:
    zeros, sevens = np.zeros(SHAPE, np.int16), np.full(SHAPE, 7, np.int16)
    row = checked(make_case(arrays={"t1": zeros, "flair": sevens}))
    (fault,) = row.faults
    assert "_t1.nii.gz: all voxels are 0, expected an image" in fault
    assert "flair: constant, every voxel is 7; normalised it is 0 everywhere" in row.notes
    assert set(row.contents) == {"mask"}, "they tell no two cases apart"


def test_a_mask_of_background_only_is_reported(make_case: MakeCase) -> None:
    row = checked(make_case(arrays={"seg": np.zeros(SHAPE, np.uint8)}))
    assert row.status == "used"
    assert "mask: all background, no voxel is labelled" in row.notes
    assert (row.tumour_ml, row.slice) == (0.0, None)


def test_a_mask_of_tumour_only_has_no_background(make_case: MakeCase) -> None:
    row = checked(make_case(arrays={"seg": np.full(SHAPE, 2, np.uint8)}))
    assert row.labels == {2: 480}
    assert row.slice == 0


def test_the_cavity_is_no_tumour(make_case: MakeCase) -> None:
    mask = mask_of(4, count=10) + mask_of(0)
    mask[4].flat[:3] = 1
    row = check_case(make_case(arrays={"seg": mask}), CONVENTIONS["brats2024"], modalities=())
    assert row.labels == {0: 467, 1: 3, 4: 10}
    assert row.tumour_ml == pytest.approx(3 * abs(np.linalg.det(OBLIQUE[:3, :3])) / 1000, rel=1e-5)


def test_without_a_convention_labels_are_counted_and_not_judged(make_case: MakeCase) -> None:
    row = check_case(make_case(arrays={"seg": mask_of(77)}), None, modalities=())
    assert (row.faults, row.labels, row.tumour_ml) == ((), {0: 479, 77: 1}, None)


def test_one_image_under_two_modalities_is_noticed_whatever_its_compression(make_case: MakeCase) -> None:
    case = make_case(modalities=("t1", "t2", "flair"))
    write_volume(case.images["t2"], read_volume(case.images["t1"]).array, OBLIQUE, compresslevel=9)
    assert case.images["t1"].read_bytes() != case.images["t2"].read_bytes()
    notes = checked(case).notes
    assert "t1 and t2 are the same file, or two with the same voxels" in notes
    assert not any("flair and" in note or "and flair" in note for note in notes)


def test_a_4d_file_is_read_once_and_its_volumes_told_apart(
    make_case: MakeCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "four.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 900, (2, *SHAPE)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels.T, OBLIQUE), path)
    plain = make_case()
    case = replace(plain, images={"flair": path, "t1": path}, channels={"flair": 0, "t1": 1})
    reads: list[Path] = []
    original = checking_case.read_channels
    monkeypatch.setattr(checking_case, "read_channels", lambda path: reads.append(path) or original(path))
    row = checked(case)
    assert row.faults == ()
    assert reads == [path]
    assert row.intensities["flair"].maximum == voxels[0].max()
    assert row.intensities["t1"].maximum == voxels[1].max()
    assert row.contents["t1"] != row.contents["flair"]
    assert row.size_bytes == path.stat().st_size + plain.mask.stat().st_size  # type: ignore[union-attr]
    (fault,) = checked(replace(case, channels={"flair": 0, "t1": 2})).faults
    assert fault.startswith(f"{path}: 2 volumes, expected number 2 too")


@pytest.mark.parametrize(
    ("missing", "modalities", "status", "said"),
    [
        ("refuse", ("t1", "t2", "flair"), "refused", "incomplete (no t2), expected t1, t2, flair"),
        ("drop", ("t1", "t2", "flair"), "left out", "incomplete (no t2): left out"),
        ("zero", ("t1", "t2", "flair"), "used", "incomplete (no t2): zeros in their place"),
        ("zero", ("t2",), "left out", "incomplete (no t2): left out"),
        ("drop", ("t1",), "used", ""),
    ],
)
def test_a_missing_modality_ends_as_asked(
    make_case: MakeCase, missing: str, modalities: tuple[str, ...], status: str, said: str
) -> None:
    row = checked(make_case(), modalities=modalities, missing=missing)
    assert row.status == status
    assert row.missing == tuple(m for m in modalities if m == "t2")
    assert any(line.startswith(said) for line in (*row.faults, *row.notes, ""))


def test_a_case_left_out_is_still_refused_when_a_file_of_it_is_damaged(make_case: MakeCase) -> None:
    case = make_case()
    case.images["t1"].write_bytes(b"")
    assert checked(case, modalities=("t1", "t2"), missing="drop").status == "refused"


def test_a_case_without_any_image_is_refused(make_case: MakeCase) -> None:
    (fault,) = check_case(replace(make_case(), images={}), BRATS, modalities=(), missing="zero").faults
    assert fault.startswith("no image found, expected at least one modality")


def test_too_little_memory_is_a_refusal(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(checking_case, "read_volume", exhausted)
    assert checked(make_case()).faults == ("not enough memory to read its files; use fewer --workers",)


@given(arrays_of.arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 4, 255])))
def test_labels_are_counted_as_numpy_counts_them_and_background_always(mask: NDArray[np.uint8]) -> None:
    labels, counts = np.unique(mask, return_counts=True)
    assert label_counts(mask) == {0: 0, **dict(zip(labels.tolist(), counts.tolist(), strict=True))}


def test_a_digest_tells_values_types_and_shapes_apart() -> None:
    base = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    others = [base.astype(np.int32), base.reshape(2, 4, 3), base[::-1], base.view(np.uint16), base + 1]
    digests = {voxel_digest(array) for array in (base, *others)}
    assert len(digests) == 6
    assert voxel_digest(base.copy()) == voxel_digest(base)


def test_the_size_of_a_pair_is_that_of_both_its_halves(make_case, tmp_path):
    plain = make_case()
    image = nib.load(plain.images["t1"])
    nib.save(nib.Nifti1Pair(np.asanyarray(image.dataobj), image.affine), tmp_path / "pair.img")
    case = replace(plain, images={"t1": tmp_path / "pair.hdr"}, mask=None)
    assert checked(case).size_bytes == sum((tmp_path / f"pair.{end}").stat().st_size for end in ("hdr", "img"))
