from __future__ import annotations

import errno
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.case import Case, CaseError
from segan_pl.data.io import nifti
from segan_pl.data.prepare import cache_entry
from segan_pl.data.prepare.cache import Cache, default_directory
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.cases import HEADERS_BYTES, entry_bytes
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError

WHOLE = Preparation(crop=None)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WHOLE)


def leftovers(cache: Cache) -> list[Path]:
    building = cache.folder / ".building"
    return list(building.iterdir()) if building.exists() else []


def test_an_entry_holds_what_preparation_gives_as_memory_maps(make_case, cache):
    case = make_case()
    opened, prepared = cache.open(case, ("t1", "flair")), prepare(case, WHOLE)
    assert isinstance(opened.image, np.memmap)
    assert isinstance(opened.label, np.memmap)
    np.testing.assert_array_equal(opened.image, prepared.image)
    np.testing.assert_array_equal(opened.label, prepared.label)
    assert (opened.geometry, opened.outside) == (prepared.geometry, prepared.outside)
    assert opened.labels == tuple(prepared.labels)
    assert leftovers(cache) == []


def test_any_subset_and_order_of_modalities_is_a_choice_of_rows(make_case, cache):
    case = make_case(modalities=("t1", "t1ce", "t2", "flair"))
    full = cache.open(case, ("t1", "t1ce", "t2", "flair")).pixels()
    some = cache.open(case, ("flair", "t1"))
    assert (some.modalities, some.channels) == (("flair", "t1"), (3, 0))
    assert isinstance(some.image, np.memmap)
    np.testing.assert_array_equal(some.pixels(), full[[3, 0]])


def test_a_modality_that_the_case_lacks_is_refused(make_case, cache):
    with pytest.raises(CaseError, match=r"case: no \['t2'\], found \['t1', 'flair'\]"):
        cache.open(make_case(), ("t1", "t2"))


def test_the_sidecar_can_be_read_by_people(make_case, cache):
    record = json.loads((cache.build(make_case()) / "entry.json").read_text())
    assert record["case"] == "case"
    assert record["geometry"]["native"] == record["geometry"]["shape"] == [6, 8, 10]
    assert record["preparation"] == WHOLE.as_dict()
    assert set(record["digests"]) == {"t1", "flair", "mask"}
    assert set(record["labels"]) == {"0", "1", "2", "4"}
    assert set(record["bounds"]) == {"t1", "flair"}
    assert [part for part, _, _ in record["sources"]] == ["t1", "flair", "mask"]


def test_a_second_build_writes_nothing(make_case, cache):
    case = make_case()
    before = (cache.build(case) / "image.npy").stat().st_mtime_ns
    assert (cache.build(case) / "image.npy").stat().st_mtime_ns == before


def test_a_changed_source_and_another_preparation_get_their_own_entries(make_case, cache, tmp_path):
    case = make_case()
    first = cache.build(case)
    os.utime(case.images["t1"], ns=(1, 1))
    assert cache.path(case) != first
    assert Cache(tmp_path / "cache", Preparation(crop=(2, 2, 2))).path(case).parent != cache.path(case).parent


def test_the_default_folder_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGAN_PL_CACHE", str(tmp_path))
    assert Cache(None, WHOLE).directory == default_directory() == tmp_path
    monkeypatch.delenv("SEGAN_PL_CACHE")
    assert default_directory() == Path.home() / ".cache/segan_pl/prepared"


def test_a_home_that_cannot_be_written_is_not_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SEGAN_PL_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # missing, and may be made
    assert default_directory() == tmp_path / "home/.cache/segan_pl/prepared"
    elsewhere = tmp_path / "t" / f"segan_pl-{os.getuid()}" / "prepared"
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
        assert default_directory() == elsewhere
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, and a user whom the system does not know
    assert default_directory() == elsewhere


def test_a_home_that_may_not_be_entered_is_not_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SEGAN_PL_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    real = os.stat

    def closed(path, *rest, **more):
        if not isinstance(path, int) and Path(path).is_relative_to(tmp_path / "home" / "me"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(os, "stat", closed)
    assert default_directory() == tmp_path / f"segan_pl-{os.getuid()}" / "prepared"


@pytest.mark.parametrize("planted", ["a link", "another user's", "a file"])
def test_a_folder_in_tmpdir_that_somebody_else_made_is_no_cache(monkeypatch, tmp_path, planted):
    monkeypatch.delenv("SEGAN_PL_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    user = os.getuid()
    folder = tmp_path / f"segan_pl-{user}"
    if planted == "a link":
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / "theirs")
    elif planted == "a file":
        folder.touch()
    else:
        (tmp_path / f"segan_pl-{user + 1}").mkdir()
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
    why = {
        "a link": f"is a link, expected a folder of user {user}",
        "another user's": f"belongs to user {user}, expected a folder of user {user + 1}",
        "a file": r"cannot be made \(File exists\)",
    }
    with pytest.raises(
        UsageError, match=rf"the cache .*: {why[planted]}; name a folder by --data.cache_dir or SEGAN_PL_"
    ):
        default_directory()


def test_the_folder_in_tmpdir_is_for_its_user_alone(monkeypatch, tmp_path):
    monkeypatch.delenv("SEGAN_PL_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert default_directory().parent.stat().st_mode & 0o777 == 0o700


def test_another_tolerance_of_origins_makes_another_entry(make_case, cache):
    case = make_case()
    wide = replace(case, origin_tolerance_mm=0.5)
    assert cache.build(wide) != cache.path(case)
    assert not cache.holds(case)
    assert cache.holds(wide)
    assert cache.path(replace(case, origin_tolerance_mm=0.01)) == cache.path(case)


@pytest.mark.parametrize("unit", [None, 1])
def test_an_earlier_entry_is_prepared_again_only_where_its_lengths_were_not_in_mm(make_case, cache, monkeypatch, unit):
    case = make_case(spacing=1.0 if unit is None else 0.001)
    for path in [*case.images.values(), case.mask]:
        if unit is not None:
            image = nib.load(path)
            image.header["xyzt_units"] = unit
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    with monkeypatch.context() as earlier:
        earlier.setattr(nifti, "in_mm", lambda affine, unit: (affine, ()))
        earlier.setattr(cache_entry, "READER", None)
        before = cache.entry(case)
        assert before.record["geometry"]["affine"][0][0] == pytest.approx(1.0 if unit is None else 0.001)
    cache_entry._affine_now.cache_clear()
    entry = cache.entry(case)
    assert entry.built == (unit is not None)
    assert entry.repaired == (
        "" if unit is None else "an earlier version took its lengths, which are not in mm, for mm"
    )
    assert entry.record["geometry"]["affine"][0][0] == pytest.approx(1.0)
    assert not cache.entry(case).built


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("name", "other"),
    [("a.hdr", "a.img"), ("a.img", "a.hdr"), ("a.img.gz", "a.hdr"), ("a.HDR", "a.IMG"), ("a.hdr", "a.IMG")],
)
def test_a_change_of_either_half_of_a_pair_makes_another_entry(cache, tmp_path, name, other):
    for file in (name, other):
        (tmp_path / file).touch()
    case = Case("a", "a", {"t1": tmp_path / name})
    before = cache.path(case)
    touch(tmp_path / other)
    assert cache.path(case) != before


@pytest.mark.parametrize("header", ["a.mhd", "a.MHD", "a.mha"])
def test_a_change_of_the_voxels_that_a_metaimage_names_makes_another_entry(cache, tmp_path, header):
    (tmp_path / header).write_text("NDims = 3\nElementDataFile = voxels of a.raw\n")
    (tmp_path / "voxels of a.raw").write_bytes(b"1234")
    case = Case("a", "a", {"t1": tmp_path / header})
    before = cache.path(case)
    touch(tmp_path / "voxels of a.raw")
    assert cache.path(case) != before
    (tmp_path / "voxels of a.raw").unlink()
    assert cache.path(case) != before  # the reader says what is missing


def test_a_four_dimensional_file_is_prepared_channel_by_channel(cache, tmp_path):
    voxels = np.random.default_rng(0).integers(1, 900, (5, 6, 7, 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "a.nii.gz")
    both = {"flair": tmp_path / "a.nii.gz", "t1": tmp_path / "a.nii.gz"}
    case = Case("a", "a", both, channels={"flair": 0, "t1": 1})
    raw = Cache(tmp_path / "raw", Preparation(crop=None, scaling="none", orientation=None))
    assert entry_bytes(case, raw.preparation) == HEADERS_BYTES + 2 * 2 * 5 * 6 * 7
    opened = raw.open(case, ("t1", "flair"))
    np.testing.assert_array_equal(opened.pixels(), np.moveaxis(voxels, -1, 0)[::-1].transpose(0, 3, 2, 1))
    swapped = Case("a", "a", both, channels={"flair": 1, "t1": 0})
    np.testing.assert_array_equal(raw.open(swapped, ("flair", "t1")).pixels(), opened.pixels())


def test_names_that_are_no_file_names_stay_inside_the_cache(make_case, cache, tmp_path):
    case = make_case()
    strange = Case("../../etc/passwd", "p", case.images, case.mask)
    assert cache.path(strange).parent == cache.folder
    cache.build(strange)
    assert cache.holds(strange)
