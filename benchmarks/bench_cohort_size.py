"""What grows with the number of cases: CPU seconds to find, prepare and open a cohort, to begin an epoch, to validate.

Small cases are generated, as many as each of `--sizes`; the slope over the sizes is what one more case costs, whatever
is in it. `--root` adds what grows with a case's voxels, measured on whole cases: preparing one and comparing its
checksums. `--cases` then extrapolates all of it, linearly. Everything is CPU seconds of one process: reading from a
disk that is slower than a core comes on top. Of validation it is what the loader does; the network comes on top.

OMP_NUM_THREADS=1 python benchmarks/bench_cohort_size.py --sizes 10 100 300 --cases 10000 [--root BRATS2021]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from segan_pl.data.layouts import find_cases
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare import cache_entry
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.synthetic.cohort import make_cohort

SHAPE = (8, 32, 32)
STEPS = ("find and split", "prepare", "find again, open, compare", "begin an epoch", "hand over a validation case")


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, those of processes that it starts and ends included."""
    begin = os.times()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work()
    return sum(os.times()[:4]) - sum(begin[:4])


def small(cases: int, folder: Path) -> list[float]:
    """The seconds of each of `STEPS`."""
    make_cohort(folder / "data", cases=cases, shape=SHAPE)
    options = {"cache_dir": str(folder / "cache"), "preparation": Preparation(crop=None), "patch": (32, 32)}

    def module() -> MRIDataModule:
        return MRIDataModule(
            str(folder / "data"), **options, batch_size=8, stratify_by=(), prepare_workers=1, workers=0
        )

    data = module()
    finding = seconds(data.find)
    preparing = seconds(data.prepare_data)
    again = module()
    cache_entry._verified.clear()  # as a new process begins
    opening = seconds(lambda: (again.prepare_data(), again.setup("fit")))
    beginning = seconds(lambda: next(iter(again.train_dataloader())))
    validation = again.val_dataloader()
    handing = seconds(lambda: [None for _ in validation]) * cases / len(validation)
    return [finding, preparing, opening, beginning, handing]


def whole(root: str) -> dict[str, tuple[float, str]]:
    """What a case of full size costs, and what it takes in the cache."""
    cases = find_cases(root)
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder), Preparation())
        preparing = seconds(lambda: [cache.build(case) for case in cases])
        size = sum(path.stat().st_size for path in cache.folder.rglob("*.npy"))
        cache_entry._verified.clear()
        comparing = seconds(lambda: cache.verify(cases, 1))
    count = len(cases)
    return {
        "prepare a whole case": (preparing / count, "CPU s"),
        "compare a whole case's checksums": (comparing / count, "CPU s"),
        "a whole case in the cache": (size / count / 1e9, "GB"),
    }


def fit(sizes: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept."""
    slope, intercept = np.polyfit(sizes, values, 1)
    return float(slope), float(intercept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--cases", type=int, default=10_000, help="to extrapolate to")
    parser.add_argument("--root", help="a data set of whole cases")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(small(size, Path(folder)))
    print(f"| CPU seconds | {' | '.join(f'{size} cases' for size in options.sizes)} | a case | {options.cases} cases |")
    print("|---|" + "---|" * (len(options.sizes) + 2))
    for name, values in zip(STEPS, zip(*rows, strict=True), strict=True):
        slope, intercept = fit(options.sizes, values)
        cells = " | ".join(f"{value:.2f}" for value in values)
        print(f"| {name} | {cells} | {slope:.5f} | {intercept + slope * options.cases:.0f} |", flush=True)
    for name, (value, unit) in (whole(options.root) if options.root else {}).items():
        print(f"| {name}, {unit} | {'| ' * len(options.sizes)}{value:.3f} | {value * options.cases:.0f} |")


if __name__ == "__main__":
    main()
