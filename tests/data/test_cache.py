from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.cache import Cache, default_directory
from segan_pl.data.cache_size import HEADERS_BYTES, entry_bytes
from segan_pl.data.preparation import Preparation, prepare
from segan_pl.data.volume import Case, CaseError

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
    raw = Cache(tmp_path / "raw", Preparation(crop=None, scaling="none"))
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
