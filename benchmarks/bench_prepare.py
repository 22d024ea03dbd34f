"""Preparing real cases (read, check, crop, percentiles, scale, write) against nibabel loading the same files.

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

from segan_pl.data.cache import Cache
from segan_pl.data.layouts import find_cases
from segan_pl.data.preparation import Preparation
from segan_pl.data.volume import Case


def load_all(cases: Sequence[Case]) -> float:
    start = time.perf_counter()
    for case in cases:
        for path in (*case.images.values(), *([case.mask] if case.mask else [])):
            np.asanyarray(nib.load(path).dataobj)
    return time.perf_counter() - start


def prepare_all(cases: Sequence[Case], preparation: Preparation) -> float:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder), preparation)
        start = time.perf_counter()
        for case in cases:
            cache.build(case)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", default=os.path.join(os.environ.get("SEGAN_PL_TEST_DATA", "../shared/data"), "brats2021")
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cases = find_cases(options.root)
    rounds = [(load_all(cases), prepare_all(cases, Preparation())) for _ in range(options.repeats)]
    loading, preparing = (min(column) for column in zip(*rounds, strict=True))
    print(f"{len(cases)} cases, {os.cpu_count()} CPUs, best of {options.repeats}, one process, alternating")
    print(f"nibabel  {loading:.3f} s  ({loading / len(cases):.3f} s a case)")
    print(f"prepare  {preparing:.3f} s  ({preparing / len(cases):.3f} s a case)")
    print(f"ratio    {preparing / loading:.2f}")


if __name__ == "__main__":
    main()
