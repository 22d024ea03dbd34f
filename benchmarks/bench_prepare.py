"""Preparing real cases (read, check, crop, percentiles, scale, write) against nibabel loading the same files.

Then the entries' checksums, as a process compares them when it opens the entries for the first time.

python benchmarks/bench_prepare.py --root ../shared/data/brats2021
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import yaml

from segan_pl.data.case import Case
from segan_pl.data.io import streams
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare import cache_entry
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.experiments.shipped import shipped_folder


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


def one_round(cases: Sequence[Case], preparation: Preparation, threads: int) -> tuple[float, ...]:
    """Seconds of loading, preparing by isal and by zlib, verifying in one thread and in several; and bytes verified."""
    times = [load_all(cases)]
    for deflate in dict.fromkeys((streams.deflate, zlib)):
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            for module in (streams, cache_entry):
                stack.enter_context(mock.patch.object(module, "deflate", deflate))
            cache = Cache(Path(folder), preparation)
            times.append(prepare_all(cases, cache))
            if len(times) == 2:
                size = sum(path.stat().st_size for path in cache.folder.rglob("*.npy"))
                verified = verify_all(cases, cache, 1), verify_all(cases, cache, threads)
    return (*times, *verified, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", default=os.path.join(os.environ.get("SEGAN_PL_TEST_DATA", "../shared/data"), "brats2021")
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cases = find_cases(options.root)
    threads = os.cpu_count() or 1
    print(f"{len(cases)} cases, {threads} CPUs, best of {options.repeats}, one process, alternating; s a case")
    print("| preparation | nibabel loads | prepare | ratio | ratio with zlib |\n|---|---|---|---|---|")
    for name in ("segan_cat", "albunet", "reciprocal"):
        file = shipped_folder("configs") / "preparation" / f"{name}_preparation.yaml"
        given = yaml.safe_load(file.read_text())["data"]["preparation"]
        preparation = Preparation(**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
        rounds = [one_round(cases, preparation, threads) for _ in range(options.repeats)]
        loading, preparing, *zlibs, alone, together, size = (min(column) for column in zip(*rounds, strict=True))
        each = len(cases)
        print(
            f"| {name} ({preparation.scaling}) | {loading / each:.3f} | {preparing / each:.3f} "
            f"| {preparing / loading:.2f} | {(zlibs or [preparing])[0] / loading:.2f} |"
        )
    print(
        f"verify   {alone / size * 1e9:.2f} s/GB in 1 thread, {together / size * 1e9:.2f} in {threads}, files in memory"
    )


if __name__ == "__main__":
    main()
