"""Anonymous memory (RssAnon) of `fit` and its loader workers, summed, with few and with many cases.

File-backed pages of the cache do not count: the kernel takes them back when it needs them.

Both cohorts validate 2 cases.

python benchmarks/bench_memory.py [--few 10] [--many 300] [--shape 16 48 48]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segan_pl.data.split.record import Split
from segan_pl.data.synthetic.cohort import make_cohort

POLL_SECONDS = 0.05


def anonymous_kb(process: int) -> int:
    """RssAnon of a process and all its descendants, kB."""
    total = 0
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon"):
            total += int(line.split()[1])
    return total + sum(anonymous_kb(child) for child in children)


def peak_mb(cohort: Path, cache: Path, split: Path, run: Path, batches: int, workers: int) -> float:
    """Largest sum seen while `fit` makes at most `batches` batches and validates the split's cases once."""
    command = [
        sys.executable,
        "-m",
        "segan_pl",
        "fit",
        "--config",
        "demo",
        f"--root={cohort}",
        f"--data.cache_dir={cache}",
        f"--data.split_file={split}",
        f"--data.workers={workers}",
        "--data.patch=[48,48]",
        "--data.batch_size=16",
        "--trainer.max_epochs=1",
        f"--trainer.limit_train_batches={batches}",
        "--trainer.num_sanity_val_steps=0",
        "--run.preview_every=0",
        f"--run.directory={run}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_kb(process.pid))
        time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(process.stderr.read() if process.stderr else "fit failed")
    return peak / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=300)
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 48, 48))
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for cases in (options.few, options.many):
            cohort, cache, split = (folder / f"{kind}{cases}" for kind in ("cohort", "cache", "split"))
            names = make_cohort(cohort, cases=cases, shape=tuple(options.shape))
            Split(train=tuple(names[2:]), val=tuple(names[:2])).save(split)  # as many to validate in either cohort
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "segan_pl",
                    "prepare",
                    "--config",
                    "demo",
                    f"--root={cohort}",
                    f"--data.cache_dir={cache}",
                ],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            peaks[cases] = peak_mb(cohort, cache, split, folder / f"run{cases}", options.batches, options.workers)
            print(
                f"{cases} cases of {tuple(options.shape)}: {peaks[cases]:.1f} MB in fit and {options.workers} workers"
            )
    print(f"difference: {peaks[options.many] - peaks[options.few]:.1f} MB ({os.cpu_count()} CPUs)")


if __name__ == "__main__":
    main()
