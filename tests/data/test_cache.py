from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data import cache as cache_module
from segan_pl.data.cache import Cache, default_directory
from segan_pl.data.preparation import Preparation, prepare
from segan_pl.data.preparing import prepare_all
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
    assert record["native"] == record["shape"] == [6, 8, 10]
    assert record["preparation"] == WHOLE.as_dict()
    assert set(record["digests"]) == {"t1", "flair", "mask"}
    assert set(record["labels"]) == {"0", "1", "2", "4"}
    assert set(record["bounds"]) == {"t1", "flair"}


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


@pytest.mark.parametrize("damage", ["truncated", "missing", "json", "format", "no sidecar", "empty folder"])
def test_a_damaged_entry_is_rebuilt(make_case, cache, damage):
    case = make_case()
    place = cache.build(case)
    sidecar = place / "entry.json"
    if damage == "truncated":
        os.truncate(place / "image.npy", 200)
    elif damage == "missing":
        (place / "label.npy").unlink()
    elif damage == "json":
        sidecar.write_text('{"format": 1')
    elif damage == "format":
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "format": 0}))
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        shutil.rmtree(place)
        place.mkdir()
    assert not cache.holds(case)
    np.testing.assert_array_equal(cache.open(case, ("t1", "flair")).image, prepare(case, WHOLE).image)
    assert leftovers(cache) == []


def build_and_check(cache: Cache, case: Case, rounds: int, failures: multiprocessing.Queue) -> None:
    try:
        for _ in range(rounds):
            opened = cache.open(case, ("t1", "flair"))
            assert opened.image.shape == (2, 6, 8, 10)
            assert int(opened.pixels().astype(np.float64).sum()) > 0
        failures.put(None)
    except BaseException as error:
        failures.put(repr(error))


def test_four_processes_that_build_one_entry_all_get_it_whole(make_case, cache):
    case = make_case()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=build_and_check, args=(cache, case, 20, results)) for _ in range(4)]
    for process in processes:
        process.start()
    for _ in range(40):  # meanwhile the entry is damaged again and again
        (cache.path(case) / "entry.json").unlink(missing_ok=True)
        time.sleep(0.01)
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [None] * 4
    cache.build(case)
    assert cache.holds(case)
    assert leftovers(cache) == []


def build_slowly(cache: Cache, case: Case) -> None:
    cache_module._move_into_place = lambda place, final: time.sleep(60)
    cache.build(case)


def test_a_builder_killed_before_the_end_leaves_no_entry_and_its_rest_is_removed(make_case, cache):
    case = make_case()
    process = multiprocessing.get_context("spawn").Process(target=build_slowly, args=(cache, case))
    process.start()
    until = time.monotonic() + 60
    while not any((place / "entry.json").exists() for place in leftovers(cache)):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(leftovers(cache)) == 1
    assert not cache.holds(case)
    cache.build(case)
    assert leftovers(cache) == []


def test_what_a_running_builder_has_not_finished_is_left_alone(make_case, cache):
    other = cache.folder / ".building" / f"{os.uname().nodename}+{os.getppid()}+abcd"
    elsewhere = cache.folder / ".building" / "another-host+1+abcd"
    other.mkdir(parents=True)
    elsewhere.mkdir()
    cache.build(make_case())
    assert set(leftovers(cache)) == {other, elsewhere}


def test_a_full_disk_is_told_with_needed_and_free_bytes(make_case, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage(10, 10, 1_500))
    with pytest.raises(CaseError, match=r"is full: 0.0 MB needed, 0.0 MB free; make room, or set SEGAN_PL_CACHE"):
        cache.build(make_case())
    assert leftovers(cache) == []


def test_a_cache_that_cannot_be_written_is_told(make_case, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaseError, match=r"case: the cache .* cannot be written \(Not a directory\)"):
        Cache(tmp_path / "file", WHOLE).build(make_case())


def test_the_default_folder_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGAN_PL_CACHE", str(tmp_path))
    assert Cache(None, WHOLE).directory == default_directory() == tmp_path
    monkeypatch.delenv("SEGAN_PL_CACHE")
    assert default_directory() == Path.home() / ".cache/segan_pl/prepared"


def test_names_that_are_no_file_names_stay_inside_the_cache(make_case, cache, tmp_path):
    case = make_case()
    strange = Case("../../etc/passwd", "p", case.images, case.mask)
    assert cache.path(strange).parent == cache.folder
    cache.build(strange)
    assert cache.holds(strange)


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_case_is_reported_and_the_others_are_prepared(make_case, cache, workers, capsys):
    cases = [make_case(name) for name in ("a", "b", "c")]
    cases[1].images["t1"].write_bytes(b"")
    report = prepare_all(cases, cache, workers=workers)
    assert (report.used, report.built) == (("a", "c"), 2)
    assert report.summary() == "3 given, 2 used, 1 refused"
    assert report.refused[0][0] == "b"
    assert "b_t1.nii.gz: empty file" in report.refused[0][1]
    assert report.lines()[-1] == report.summary()
    assert "prepared 3 of 3" in capsys.readouterr().err
    assert prepare_all(cases[::2], cache, workers=workers).built == 0
    assert capsys.readouterr().err == ""


def test_a_source_that_vanished_is_a_refusal_too(make_case, cache):
    case = make_case()
    case.images["t1"].unlink()
    report = prepare_all([case], cache, progress=False)
    assert "cannot be read (No such file or directory); restore the file" in report.refused[0][1]


def die(cache: Cache, case: Case) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_refusal_not_a_hang(make_case, cache, monkeypatch):
    monkeypatch.setattr("segan_pl.data.preparing._build", die)
    report = prepare_all([make_case("a"), make_case("b")], cache, workers=2, progress=False)
    assert report.summary() == "2 given, 0 used, 2 refused"
    assert "a preparing process was killed" in report.refused[0][1]


@pytest.mark.real_data
def test_lgg_is_prepared_whole_and_in_parallel(real_data_root, cache):
    from segan_pl.data.layouts import find_cases

    cases = find_cases(real_data_root / "lgg")[:4]
    report = prepare_all(cases, cache, workers=2, progress=False)
    assert report.summary() == "4 given, 4 used, 0 refused"
    opened = cache.open(cases[0], ("flair",))
    assert opened.image.shape[1:] == opened.geometry.native == (23, 256, 256)
    assert set(opened.labels) == {0, 1}
