"""CPU seconds from the command to the end of a run of one tiny batch, against importing torch and lightning alone.

In turns, each in a process of its own with one thread. The run is SegAN-CAT of width 4 on a prepared cache, without
validation; its one step and its checkpoints count. `fit --help` is compared with `python -c pass`.

OMP_NUM_THREADS=1 python benchmarks/bench_start.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def cpu_seconds(argv: list[str]) -> float:
    """User and system time of a command that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    from segan_pl.data.synthetic.cohort import make_cohort

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_cohort(work / "data", cases=4, shape=(16, 48, 48))
        segan_pl = [sys.executable, "-m", "segan_pl"]
        widths = [f"--model.networks.{network}.init_args.width=4" for network in ("segmentor", "critic")]
        fit = [
            *(*segan_pl, "fit", "--config=segan_cat_small", f"--data.root={work / 'data'}", *widths),
            *(f"--data.cache_dir={work / 'cache'}", "--data.stratify_by=[]", "--data.val_fraction=0.25"),
            *("--data.patch=[32,32]", "--data.batch_size=1", "--data.workers=0", "--data.preparation.crop=null"),
            *("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0"),
            *("--trainer.accelerator=cpu", f"--run.directory={work / 'run'}", "--run.preview_every=0"),
        ]
        commands = {
            "import torch, lightning": [sys.executable, "-c", "import torch, lightning.pytorch"],
            "fit, one batch": fit,
            "python -c pass": [sys.executable, "-c", "pass"],
            "fit --help": [*segan_pl, "fit", "--help"],
        }
        best = dict.fromkeys(commands, float("inf"))
        for number in range(rounds + 1):
            for name, argv in commands.items():
                shutil.rmtree(work / "run", ignore_errors=True)
                seconds = cpu_seconds(argv)
                if number:  # the first prepares the cases
                    best[name] = min(best[name], seconds)
    for name, seconds in best.items():
        print(f"{name:24} {seconds:.2f} CPU s")
    print(f"fit above its imports    {best['fit, one batch'] - best['import torch, lightning']:.2f} CPU s")


if __name__ == "__main__":
    main()
