"""Twenty SIGKILLs at random moments of builders at work, beside a reader that looks at every entry all the time."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.data.case import Case
from segan_pl.data.prepare import cache_entry
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.cases import prepare_all
from segan_pl.data.prepare.preparation import Preparation

WHOLE = Preparation(crop=None)
SPAWN = multiprocessing.get_context("spawn")
KILLS, CASES, JOBS = 20, 60, 3


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.folder.glob("*") if path.name != ".building"]


def job(cache: Cache, cases: list[Case], seed: int) -> None:
    """One job over all cases, in its own order; it writes slowly and in parts, so that it can be hit meanwhile."""
    really = cache_entry._write_array

    def slowly(path: Path, array: np.ndarray) -> Any:
        written = really(path, array)
        os.truncate(path, written["bytes"] // 2)
        time.sleep(0.01)
        path.unlink()
        return really(path, array)

    cache_entry._write_array = slowly
    prepare_all(random.Random(seed).sample(cases, len(cases)), cache, progress=False)


def read_all_the_time(cache: Cache, cases: list[Case], stop: Any, result: Any) -> None:
    """Compare every entry that is in place, without asking the cache, with what it must hold."""
    known = {cache.path(case): prepare(case, WHOLE) for case in cases}
    reads, wrong = 0, []
    while not stop.is_set() or not reads:
        for place in entries(cache):
            image, label = np.load(place / "image.npy"), np.load(place / "label.npy")
            if not (np.array_equal(image, known[place].image) and np.array_equal(label, known[place].label)):
                wrong.append(place.name)
            reads += 1
    result.put((reads, wrong))


def started(target: Any, *arguments: Any) -> Any:
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    return process


def at_work(cache: Cache, jobs: dict[int, Any]) -> int:
    """The number of a job that has an entry under way, as soon as there is one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for path in cache.building.glob("*+*+*"):
            if (process := int(path.name.split("+")[1])) in jobs and jobs[process].is_alive():
                return process
    raise AssertionError("no job builds anything")


@pytest.mark.slow
def test_twenty_kills_at_random_moments_neither_tear_a_read_nor_lose_an_entry(make_case, tmp_path):
    cache = Cache(tmp_path / "cache", WHOLE)
    cases = [make_case(f"case{number:03}", (4, 16, 16)) for number in range(CASES)]
    rng, stop, result = random.Random(18), SPAWN.Event(), SPAWN.Queue()
    reader = started(read_all_the_time, cache, cases, stop, result)
    jobs = {process.pid: process for process in (started(job, cache, cases, seed) for seed in range(JOBS))}
    finished: dict[Path, int] = {}
    torn = 0
    for seed in range(KILLS):
        victim = jobs.pop(at_work(cache, jobs))
        time.sleep(rng.uniform(0.0, 0.03))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        torn += any(f"+{victim.pid}+" in path.name for path in cache.building.iterdir())
        now = {place: (place / "image.npy").stat().st_ino for place in entries(cache)}
        assert finished.items() <= now.items()  # the same files, not only the same names
        finished = now
        fresh = started(job, cache, cases, JOBS + seed)
        jobs[fresh.pid] = fresh
    for process in jobs.values():
        process.join()
    stop.set()
    reads, wrong = result.get(timeout=60)
    reader.join()
    assert wrong == []
    assert min(torn, reads) > KILLS // 4  # it did hit builders with half an entry written, and was watched
    check_the_end(cache, cases, finished, make_case("last"))


def check_the_end(cache: Cache, cases: list[Case], finished: dict[Path, int], further: Case) -> None:
    """What was finished is still the same file, the rest can be built, and nothing stays beside it."""
    report = prepare_all(cases, cache, progress=False)
    assert report.summary() == f"{CASES} given, {CASES} used, 0 refused"
    assert {place: (place / "image.npy").stat().st_ino for place in finished} == finished
    cache.build(further)
    assert list(cache.building.iterdir()) == []
