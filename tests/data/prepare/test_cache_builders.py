"""Many processes build and read one cache, are killed, and find no room: no read is torn, no entry is built twice."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.data.case import Case
from segan_pl.data.prepare import cache as cache_module
from segan_pl.data.prepare import cache_building
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.cache_building import alone
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation

WHOLE = Preparation(crop=None)
SPAWN = multiprocessing.get_context("spawn")
MODALITIES = ("t1", "flair")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WHOLE)


def leftovers(cache: Cache) -> list[Path]:
    return list(cache.building.iterdir()) if cache.building.exists() else []


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.folder.glob("*") if path.name != ".building"]


def wait_for(holds: Any, what: str) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.005)


# -- one builder an entry --------------------------------------------------------------------------------------------


def build_at_once(cache: Cache, case: Case, gate: Any, built: Any) -> None:
    gate.wait()
    built.put(cache.entry(case).built)


def test_of_four_processes_that_ask_for_an_entry_one_builds_it(make_case, cache):
    case = make_case(shape=(20, 60, 60))
    gate, built = SPAWN.Barrier(4), SPAWN.Queue()
    processes = [SPAWN.Process(target=build_at_once, args=(cache, case, gate, built)) for _ in range(4)]
    for process in processes:
        process.start()
    assert sorted(built.get(timeout=60) for _ in processes) == [False, False, False, True]
    for process in processes:
        process.join()
    assert leftovers(cache) == []


def test_threads_of_one_process_build_an_entry_once_too(make_case, cache):
    case, built = make_case(), []
    threads = [threading.Thread(target=lambda: built.append(cache.entry(case).built)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built) == [False, False, False, True]


def hold(cache: Cache, entry: str, held: Any) -> None:
    with alone(cache.building, entry) as busy:
        held.put(busy)
        time.sleep(60)


def test_the_lock_of_a_killed_builder_is_free(make_case, cache):
    case, held = make_case(), SPAWN.Queue()
    process = SPAWN.Process(target=hold, args=(cache, cache.path(case).name, held))
    process.start()
    assert held.get(timeout=60) is False
    with alone(cache.building, cache.path(case).name, patience=0) as busy:
        assert busy
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert cache.entry(case).built
    assert leftovers(cache) == []


def test_patience_with_a_builder_that_stands_still_ends(make_case, cache, monkeypatch):
    case, held = make_case(), SPAWN.Queue()
    process = SPAWN.Process(target=hold, args=(cache, cache.path(case).name, held))
    process.start()
    held.get(timeout=60)
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr(alone.__wrapped__, "__kwdefaults__", {"patience": 0.2})
    assert cache.entry(case).built
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES])
def test_where_the_file_system_knows_no_locks_entries_are_built_all_the_same(make_case, cache, monkeypatch, code):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache_building.fcntl, "flock", refuse)
    case, built = make_case(), []
    threads = [threading.Thread(target=lambda: built.append(cache.entry(case))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 4
    np.testing.assert_array_equal(cache.open(case, MODALITIES).image, prepare(case, WHOLE).image)


# -- readers beside builders -----------------------------------------------------------------------------------------


def build_and_check(cache: Cache, case: Case, rounds: int, failures: Any) -> None:
    try:
        for _ in range(rounds):
            opened = cache.open(case, MODALITIES)
            assert opened.image.shape == (2, 6, 8, 10)
            assert int(opened.pixels().astype(np.float64).sum()) > 0
        failures.put(None)
    except BaseException as error:
        failures.put(repr(error))


def test_processes_that_open_an_entry_while_it_is_damaged_again_and_again_all_get_it_whole(make_case, cache):
    case, results = make_case(), SPAWN.Queue()
    processes = [SPAWN.Process(target=build_and_check, args=(cache, case, 20, results)) for _ in range(4)]
    for process in processes:
        process.start()
    for _ in range(40):
        (cache.path(case) / "entry.json").unlink(missing_ok=True)
        time.sleep(0.01)
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [None] * 4
    cache.build(case)
    assert cache.holds(case)
    assert leftovers(cache) == []


# -- what builders leave -----------------------------------------------------------------------------------------------


def build_slowly(cache: Cache, case: Case) -> None:
    cache_module._move_into_place = lambda place, final: time.sleep(60)
    cache.build(case)


def test_a_builder_killed_before_the_end_leaves_no_entry_and_its_rest_is_removed(make_case, cache):
    case, other = make_case(), make_case("other")
    process = SPAWN.Process(target=build_slowly, args=(cache, case))
    process.start()
    wait_for(lambda: any((place / "entry.json").exists() for place in leftovers(cache)), "the builder")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(leftovers(cache)) == 2  # its folder and its lock
    assert not cache.holds(case)
    cache.build(other)
    assert leftovers(cache) == []
    assert cache.entry(case).built


def test_what_a_running_builder_has_not_finished_is_left_alone(make_case, cache):
    other = cache.building / f"{socket.gethostname()}+{os.getppid()}+abcd"
    elsewhere = cache.building / "another-host+1+abcd"
    other.mkdir(parents=True)
    elsewhere.mkdir()
    cache.build(make_case())
    assert set(leftovers(cache)) == {other, elsewhere}
    os.utime(elsewhere, (1, 1))  # years old
    cache.build(make_case("next"))
    assert leftovers(cache) == [other]
