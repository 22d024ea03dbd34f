"""Preparing real cases (read, check, crop, percentiles, scale, write) against nibabel loading the same files.

Then the entries' checksums, as a process compares them when it opens the entries for the first time.

python benchmarks/bench_prepare.py --root ../shared/data/brats2021
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from segan_pl.data.case import Case
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare import cache_entry
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.preparation import Preparation


def load_all(cases: Sequence[Case]) -> float:
    start = time.perf_counter()
    for case in cases:
        for path in (*case.images.values(), *([case.mask] if case.mask else [])):
            np.asanyarray(nib.load(path).dataobj)
    return time.perf_counter() - start


def prepare_all(cases: Sequence[Case], cache: Cache) -> float:
    start = time.perf_counter()
    for case in cases:
        cache.build(case)
    return time.perf_counter() - start


def verify_all(cases: Sequence[Case], cache: Cache, threads: int) -> float:
    cache_entry._verified.clear()  # as a new process begins
    start = time.perf_counter()
    assert all(cache.verify(cases, threads))
    return time.perf_counter() - start


def one_round(cases: Sequence[Case], threads: int) -> tuple[float, ...]:
    """Seconds of loading, preparing, verifying in one thread and in several; and bytes verified."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder), Preparation())
        times = (load_all(cases), prepare_all(cases, cache))
        size = sum(path.stat().st_size for path in cache.folder.rglob("*.npy"))
        return (*times, verify_all(cases, cache, 1), verify_all(cases, cache, threads), size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", default=os.path.join(os.environ.get("SEGAN_PL_TEST_DATA", "../shared/data"), "brats2021")
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cases = find_cases(options.root)
    threads = os.cpu_count() or 1
    rounds = [one_round(cases, threads) for _ in range(options.repeats)]
    loading, preparing, alone, together, size = (min(column) for column in zip(*rounds, strict=True))
    print(f"{len(cases)} cases, {os.cpu_count()} CPUs, best of {options.repeats}, one process, alternating")
    print(f"nibabel  {loading:.3f} s  ({loading / len(cases):.3f} s a case)")
    print(f"prepare  {preparing:.3f} s  ({preparing / len(cases):.3f} s a case)")
    print(f"ratio    {preparing / loading:.2f}")
    print(
        f"verify   {alone / size * 1e9:.2f} s/GB in 1 thread, {together / size * 1e9:.2f} in {threads}, files in memory"
    )


if __name__ == "__main__":
    main()
