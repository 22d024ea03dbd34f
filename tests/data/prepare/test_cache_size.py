"""What preparing will take is known before, to the byte of the arrays."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.prepare import cases
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.cases import HEADERS_BYTES, entry_bytes, need, prepare_all
from segan_pl.data.prepare.preparation import Preparation

WHOLE = Preparation(crop=None)
BOX = Preparation(crop=(4, 12, 6))  # cuts z and x, pads y


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WHOLE)


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cases.shutil, "disk_usage", lambda path: usage(10**9, 0, free))


def arrays_bytes(cache: Cache, place: Path) -> int:
    return sum((place / name).stat().st_size - 128 for name in ("image.npy", "label.npy") if (place / name).exists())


@pytest.mark.parametrize("preparation", [WHOLE, BOX])
@pytest.mark.parametrize("masked", [True, False])
def test_the_estimate_is_the_arrays_size_to_the_byte(make_case, tmp_path, preparation, masked):
    case, cache = make_case(masked=masked), Cache(tmp_path, preparation)
    estimate = entry_bytes(case, preparation)
    place = cache.build(case)
    assert estimate - HEADERS_BYTES == arrays_bytes(cache, place)
    assert abs(estimate - sum(path.stat().st_size for path in place.iterdir())) < 4096


def test_the_estimate_of_segan_cats_brats_case_is_the_one_worked_by_hand(make_case):
    case = make_case(modalities=("t1", "t1ce", "t2", "flair"))
    assert entry_bytes(case, Preparation()) - HEADERS_BYTES == 128 * 180 * 180 * (4 * 2 + 1) == 37_324_800


def test_a_crop_that_depends_on_the_voxels_gives_an_upper_bound(make_case, tmp_path):
    case, preparation = make_case(), Preparation(crop="nonzero")
    cache = Cache(tmp_path, preparation)
    needed = need([case], cache)
    assert needed.bounded
    assert "at most" in needed.lines()[1]
    assert needed.total - HEADERS_BYTES >= arrays_bytes(cache, cache.build(case))


def test_what_is_there_is_not_needed_again_and_nothing_is_written(make_case, cache):
    cases = [make_case(name) for name in ("a", "b", "c")]
    cases[2].images["t1"].write_bytes(b"not a volume")
    assert need(cases, cache).held == ()
    assert not cache.directory.exists()
    cache.build(cases[0])
    needed = need(cases, cache)
    assert (needed.held, set(needed.missing)) == (("a",), {"b"})
    assert needed.refused[0][0] == "c"
    assert needed.lines()[-1] == "3 given, 2 used, 1 refused"
    assert [path for path in cache.folder.iterdir() if path.name != ".building"] == [cache.path(cases[0])]


def test_a_case_without_images_is_refused(make_case, cache):
    needed = need([replace(make_case(), images={})], cache)
    assert "no image found" in needed.refused[0][1]


def test_a_disk_too_small_for_all_cases_is_refused_before_the_first(make_case, cache, monkeypatch):
    cases = [make_case(name, (16, 100, 100)) for name in ("a", "b", "c")]
    disk(monkeypatch, 2_900_000)  # room for one, and for two
    with pytest.raises(CaseError, match=r"is too full: 2\.4 MB needed for 3 cases, 2\.9 MB free; make room"):
        prepare_all(cases, cache, progress=False)
    assert not cache.directory.exists()
    assert "it does not fit" in need(cases, cache).lines()[2]
    assert prepare_all(cases[:2], cache, progress=False).built == 2
    assert prepare_all(cases[:2], cache, progress=False).built == 0


def test_an_upper_bound_refuses_nothing(make_case, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cache", Preparation(crop="nonzero"))
    disk(monkeypatch, 2_000_000)
    cases = [make_case(name, (16, 100, 100)) for name in ("a", "b")]
    assert "it may not fit" in need(cases, cache).lines()[2]
    assert prepare_all(cases, cache, progress=False).built == 2
