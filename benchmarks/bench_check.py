"""The check's time over the time that Python's zlib takes to decompress the same files; one process each, alternating.

python benchmarks/bench_check.py [--root FOLDER] [--rounds 5]

Without --root: a generated cohort and, where SEGAN_PL_TEST_DATA names a folder, its brats2021 as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from segan_pl.data.case import Case
from segan_pl.data.check.cases import check_all
from segan_pl.data.conventions import label_convention
from segan_pl.data.layouts import find_data_set
from segan_pl.data.synthetic.cohort import make_cohort

CASES, SHAPE = 3, (155, 240, 240)  # BraTS's shape
LIMIT = 2.5


def decompress_all(cases: Sequence[Case]) -> float:
    files = [path for case in cases for path in (*case.images.values(), *([case.mask] if case.mask else []))]
    contents = [path.read_bytes() for path in files]
    start = time.perf_counter()
    for content in contents:
        zlib.decompress(content, wbits=31)
    return time.perf_counter() - start


def check(cases: Sequence[Case], native_labels: str) -> float:
    start = time.perf_counter()
    modalities = list(cases[0].images)
    check_all(cases, label_convention(native_labels), modalities=modalities, workers=1, progress=False)
    return time.perf_counter() - start


def measure(root: Path, rounds: int) -> None:
    source = find_data_set(root)
    check(source.cases, source.native_labels or "binary")  # a round to warm up
    times = [
        (decompress_all(source.cases), check(source.cases, source.native_labels or "binary")) for _ in range(rounds)
    ]
    plain, checked = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(checking / inflating for inflating, checking in times)
    print(f"{root.name}: {len(source.cases)} cases, median of {rounds} rounds")
    print(f"  zlib   {plain:.3f} s ({plain / len(source.cases):.3f} s a case; the reading of the files not counted)")
    print(f"  check  {checked:.3f} s ({checked / len(source.cases):.3f} s a case)")
    print(f"  ratio  {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); at most {LIMIT} is wanted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.root:
        measure(options.root, options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        generated = Path(folder) / "generated"
        make_cohort(generated, cases=CASES, shape=SHAPE)
        measure(generated, options.rounds)
    if real := os.environ.get("SEGAN_PL_TEST_DATA"):
        measure(Path(real) / "brats2021", options.rounds)


if __name__ == "__main__":
    main()
