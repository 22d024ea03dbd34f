"""Training patches for each CPU second through the DataLoader, and their ratio to another checkout's in the same run.

Besides, slices against a plain gather: as many voxels of the same files, copied out of memory maps into new arrays, and
no more. The two checkouts take turns, each in processes of its own; the loader works in the process itself
(--data.workers 0), so CPU seconds count all that it does. With `--augment_on device` what follows reading is done by
the data module's hook.

git worktree add /tmp/before 30146b3
OMP_NUM_THREADS=1 python benchmarks/bench_loader.py --against /tmp/before
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
ALBUNET = {
    **{"elastic": 0.1, "rotation": 0.1, "scaling": 0.1, "mirror": (0.5, 0.5, 0.5), "brightness": 0.15, "gamma": 0.15},
    **{"inverted_gamma": 0.15, "keep_background": False, "noise": 0.15, "blur": 0.15},
}
MILD = {"rotation": 1.0, "rotation_deg": 15.0, "scaling": 1.0, "scale_range": (0.8, 1.25)}
MILD |= {"gamma": 1.0, "gamma_range": (0.75, 1.35)}
CASES: dict[str, dict[str, Any]] = {
    "slices": {"patch": (160, 160), "batch_size": 16},
    "slices, rotation + scale + gamma": {"patch": (160, 160), "batch_size": 16, "augmentation": MILD},
    "volumes": {"patch": (64, 64, 64), "batch_size": 2},
    "AlbuNet2D": {"patch": (1, 128, 128), "batch_size": 64, "augmentation": ALBUNET},
    "AlbuNet3D": {"patch": (24, 128, 128), "batch_size": 4, "augmentation": ALBUNET},
}
FORMER = {"slices, rotation + scale + gamma": {"rotation_deg": 15.0, "scale": 0.2, "gamma": 0.3}}  # of 30146b3


def module(root: Path, cache: Path, name: str, augment_on: str) -> Any:
    """The data module of the checkout that is imported, with one of the cases above."""
    from segan_pl.data.module import MRIDataModule
    from segan_pl.data.prepare.preparation import Preparation
    from segan_pl.data.sample.options import Augmentation

    settings = dict(CASES[name])
    options = settings.pop("augmentation", None)
    zscores = Preparation(crop="nonzero", scaling="zscore") if options is ALBUNET else Preparation(crop=None)
    common = {"preparation": zscores, "cache_dir": str(cache), "stratify_by": (), "workers": 0}
    batches = 200 // settings["batch_size"] if len(settings["patch"]) == 3 else None
    if "elastic" in {field.name for field in dataclasses.fields(Augmentation)}:
        from segan_pl.data.sample.options import Sampling

        more = {"augmentation": Augmentation(**options)} if options else {}
        if augment_on == "device" and options:
            more["augment_on"] = "device"
        return MRIDataModule(str(root), **common, **settings, **more, sampling=Sampling(batches=batches))
    from segan_pl.data.transforms import PatchAugmentation

    from segan_pl.data.sample.patches import PatchSampling

    more = {"sampling": PatchSampling(batches=batches)} if batches else {}
    if batches and options:
        more["patch_augmentation"] = PatchAugmentation(**options)
    elif options:
        more["augmentation"] = Augmentation(**FORMER[name])
    return MRIDataModule(str(root), **common, **settings, **more)


def measured(root: Path, cache: Path, augment_on: str, names: list[str]) -> dict[str, float]:
    """Patches for each CPU second."""
    import torch

    torch.set_num_threads(1)
    found = {}
    for name in names:
        data = module(root, cache, name, augment_on)
        data.prepare_data()
        data.setup("fit")
        loader = data.train_dataloader()
        after = getattr(data, "on_after_batch_transfer", lambda batch, _: batch)
        count, started = 0, 0.0
        for number, batch in enumerate(loader):
            if number == 1:
                count, started = 0, time.process_time()
            count += len(after(batch, 0).image)
            if count >= 400:
                break
        found[name] = count / (time.process_time() - started)
    return found


def plain_gather(root: Path, cache: Path, times: int = 20) -> dict[str, float]:
    """(loader, gather) of "slices": both in turns, patches for each CPU second; the best of `times` each."""
    import numpy as np
    import torch

    from segan_pl.data.sample.case_index import prepared

    torch.set_num_threads(1)
    data = module(root, cache, "slices", "loader")
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    cases = [(prepared(case.image), prepared(case.label)) for case in loader.dataset.cases]
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"loader": [], "gather": []}
    for _ in range(times):
        batches, count = iter(loader), 0
        next(batches)  # an epoch of this cohort is too short for its start to count
        start = time.process_time()
        for batch in batches:
            count += len(batch.image)
        rates["loader"].append(count / (time.process_time() - start))
        size, start = len(batch.image), time.process_time()
        for _ in range(len(loader)):
            image = np.empty((size, len(cases[0][0]), 160, 160), np.float16)
            label = np.empty((size, 160, 160), np.uint8)
            for sample in range(size):
                volume, mask = cases[rng.integers(len(cases))]
                z, y, x = (int(rng.integers(n)) for n in (mask.shape[0], mask.shape[1] - 159, mask.shape[2] - 159))
                image[sample] = volume[:, z, y : y + 160, x : x + 160]
                label[sample] = mask[z, y : y + 160, x : x + 160]
        rates["gather"].append(len(loader) * size / (time.process_time() - start))
    return {name: max(found) for name, found in rates.items()}


def child(checkout: Path, work: Path, augment_on: str, names: list[str]) -> dict[str, float]:
    """`measured` with another checkout's package."""
    argv = [sys.executable, __file__, "--child", str(work), "--augment_on", augment_on, "--only", *names]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "SEGAN_PL_BENCH": str(checkout)}
    done = subprocess.run(argv, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, e.g. a worktree of 30146b3")
    parser.add_argument("--augment_on", choices=["loader", "device"], default="loader")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        where = Path(os.environ["SEGAN_PL_BENCH"])
        sys.path[:] = [str(where), *(path for path in sys.path if path != str(HERE))]
        found = measured(args.child / "data", args.child / f"cache_{where.name}", args.augment_on, args.only)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        from segan_pl.data.synthetic.cohort import make_cohort

        work = Path(folder)
        make_cohort(work / "data", cases=6, shape=(96, 200, 180))
        sides = {"here": HERE, **({"against": args.against.resolve()} if args.against else {})}
        rounds = [
            {side: child(where, work, args.augment_on, args.only) for side, where in sides.items()}
            for _ in range(args.rounds)
        ]
        rates = plain_gather(work / "data", work / f"cache_{HERE.name}") if "slices" in args.only else {}
    if rates:
        each = f"loader {rates['loader']:.0f}, plain gather {rates['gather']:.0f} for each CPU second"
        print(f"slices, not augmented: {each}: {rates['loader'] / rates['gather']:.2f}")
    for name in args.only:
        line = f"{name:34} {statistics.median(one['here'][name] for one in rounds):8.1f} patches for each CPU second"
        if args.against:
            ratios = sorted(one["here"][name] / one["against"][name] for one in rounds)
            line += f", {statistics.median(ratios):.2f} times the other ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
