"""A disk without room and a folder without rights: told in one line, with finished entries kept."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.data.case import Case, CaseError
from segan_pl.data.prepare import cache_building, cache_entry
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.cases import prepare_all
from segan_pl.data.prepare.preparation import Preparation

WHOLE = Preparation(crop=None)
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WHOLE)


def leftovers(cache: Cache) -> list[Path]:
    return list(cache.building.iterdir()) if cache.building.exists() else []


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.folder.glob("*") if path.name != ".building"]


def test_a_full_disk_is_told_with_needed_and_free_bytes_before_anything_is_written(make_case, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache_building.shutil, "disk_usage", lambda path: usage(10, 10, 500_000))
    with pytest.raises(CaseError, match=r"case: the disk .* is full: 0\.3 MB needed, 0\.5 MB free; make room"):
        cache.build(make_case(shape=(16, 60, 60)))
    assert (leftovers(cache), entries(cache)) == ([], [])


def test_a_disk_that_fills_up_while_an_entry_is_written_keeps_the_finished_ones(make_case, cache, monkeypatch):
    cases = [make_case(name) for name in ("a", "b", "c")]
    really = cache_entry._write_array

    def fill(path: Path, array: np.ndarray) -> Any:
        if path.name == "label.npy" and len(entries(cache)) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(path, array)

    monkeypatch.setattr(cache_entry, "_write_array", fill)
    report = prepare_all(cases, cache, progress=False)
    assert report.summary() == "3 given, 1 used, 2 refused"
    assert "is full: 0.0 MB needed, " in report.refused[0][1]
    monkeypatch.setattr(cache_entry, "_write_array", really)
    assert leftovers(cache) == []
    assert prepare_all(cases, cache, progress=False).built == 2


def prepare_with_small_files(cases: list[Case], cache: Cache, results: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    report = prepare_all(cases, cache, progress=False)
    results.put((report.summary(), report.refused[0][1]))


def test_a_file_that_the_system_cuts_off_is_a_refusal_and_finished_entries_stay(make_case, cache):
    cases, results = [make_case("small"), make_case("wide", (20, 60, 60))], SPAWN.Queue()
    process = SPAWN.Process(target=prepare_with_small_files, args=(cases, cache, results))
    process.start()
    summary, why = results.get(timeout=60)
    process.join()
    assert summary == "2 given, 1 used, 1 refused"
    assert "wide: the cache " in why
    assert "cannot be written (File too large)" in why
    assert (cache.holds(cases[0]), cache.holds(cases[1]), leftovers(cache)) == (True, False, [])


def test_a_cache_that_cannot_be_written_is_told(make_case, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaseError, match=r"case: the cache .* cannot be written \(Not a directory\); set SEGAN"):
        Cache(tmp_path / "file", WHOLE).build(make_case())
