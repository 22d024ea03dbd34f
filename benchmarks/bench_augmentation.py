"""Each operation of our augmentation against MONAI's, TorchIO's and batchgeneratorsv2's: CPU time of one thread.

Ours changes a batch where it lies; the others change it sample by sample, MONAI's intensities modality by modality,
so that each modality has numbers of its own, as ours. Everything is float32, labels go along where voxels move, and
every side is given the same patches and the same ranges. Ours draws for all operations at once, a line of its own;
the others draw within each. The sides take turns; a ratio is the median of the rounds, below 1 where ours is faster.
MONAI alone is there without more; `augmentation_peers.py` says how to install the others.

OMP_NUM_THREADS=1 python -m benchmarks.bench_augmentation [--only contrast blur] [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # `make bench` runs the file

from benchmarks.augmentation_peers import COARSE, DEGREES, DEVIATION, FACTORS, GAMMA, SCALES, SIGMA, Change, peers
from segan_pl.data.sample.augment import mirrored
from segan_pl.data.sample.changes import Changes, draw_changes
from segan_pl.data.sample.intensities import with_intensities
from segan_pl.data.sample.options import Augmentation
from segan_pl.data.sample.spatial import grid_in, resample, source_coordinates

SHAPES = {"slices": (16, 4, 1, 160, 160), "volumes": (2, 4, 64, 96, 96)}
OPERATIONS: Mapping[str, Augmentation] = {
    "mirror": Augmentation(mirror=(1, 1, 1)),
    "rotation and scaling": Augmentation(rotation=1, rotation_deg=DEGREES, scaling=1, scale_range=SCALES),
    "gamma": Augmentation(gamma=1, gamma_range=GAMMA),
    "gamma, moments kept": Augmentation(gamma=1, gamma_range=GAMMA, gamma_keeps_moments=True),
    "contrast": Augmentation(contrast=1, contrast_range=FACTORS),
    "brightness": Augmentation(brightness=1, brightness_range=FACTORS),
    "noise": Augmentation(noise=1, noise_range=(0, DEVIATION)),
    "blur": Augmentation(blur=1, blur_range=SIGMA, blur_modality=1),
    "low resolution": Augmentation(low_resolution=1, low_resolution_range=COARSE, low_resolution_modality=1),
}


def ours(image: Tensor, label: Tensor, changes: Changes, seed: Tensor, *, keep_moments: bool) -> tuple[Tensor, Tensor]:
    """The batch after one operation, as `data.sample.augment` does it, but from patches of the size wanted.

    Args:
        image: (B, M, D, H, W) float32.
        label: (B, D, H, W) uint8.
        changes: What was drawn.
        seed: (B,) of which.
        keep_moments: Of gamma.
    """
    mirrored(image, label, changes.mirror)
    if bool(changes.moved.any()):
        patch = (image.shape[2], image.shape[3], image.shape[4])
        flat = torch.full((len(image),), patch[0] == 1)
        grid = grid_in(patch, source_coordinates(changes, seed, patch, flat))
        image = resample(image, grid, "bilinear")
        label = resample(label.float()[:, None], grid, "nearest")[:, 0].to(torch.uint8)
    shown = torch.ones(image.shape[:2], dtype=torch.bool)
    return with_intensities(image, changes, seed, shown, keep_moments=keep_moments), label


def one_by_one(image: Tensor, label: Tensor, change: Change) -> None:
    """The batch as another library changes it; what it returns is left where it is."""
    if image.shape[2] == 1:
        image, label = image[:, :, 0], label[:, 0]
    for one, its in zip(image, label, strict=True):
        change(one, its[None])


def seconds(work: Callable[[], object]) -> float:
    """Of the processor."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=list(OPERATIONS), default=list(OPERATIONS), metavar="OPERATION")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, shape in SHAPES.items():
        others = peers(shape[2:])
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        label = (image[:, 0] > 1).to(torch.uint8)
        print(f"\n| {name}, ms a sample of {' x '.join(map(str, shape[1:]))} | ours | {' | '.join(others)} |")
        print("|---|" + "---|" * (len(others) + 1))
        seed = torch.arange(len(image))
        drawing = [seconds(partial(draw_changes, seed, OPERATIONS["gamma"], shape[1])) for _ in range(options.rounds)]
        print(f"| draws | {1000 * statistics.median(drawing) / len(image):.2f} |{' |' * len(others)}")
        for operation in options.only:
            taken: dict[str, list[float]] = {}
            for number in range(-1, options.rounds):  # the first warms up
                given = image.clone(), label.clone()
                seed = torch.arange(len(image)) + len(image) * (number + 1)
                wanted = OPERATIONS[operation]
                changes_drawn = draw_changes(seed, wanted, shape[1])
                work: dict[str, Callable[[], object]] = {
                    "ours": partial(ours, *given, changes_drawn, seed, keep_moments=wanted.gamma_keeps_moments)
                }
                for peer, changes in others.items():
                    if operation in changes:
                        work[peer] = partial(one_by_one, image.clone(), label.clone(), changes[operation])
                for side, done in work.items():
                    spent = seconds(done)
                    if number >= 0:
                        taken.setdefault(side, []).append(1000 * spent / len(image))
            print(f"| {operation} | {' | '.join(cells(taken, list(others)))} |", flush=True)


def cells(taken: Mapping[str, list[float]], others: list[str]) -> list[str]:
    """Our median, then each other's with ours as a share of it; empty where it lacks the operation."""
    own = taken["ours"]
    ratios = {side: statistics.median(a / b for a, b in zip(own, spent, strict=True)) for side, spent in taken.items()}
    return [
        f"{statistics.median(own):.2f}",
        *(f"{statistics.median(taken[side]):.2f} ({ratios[side]:.2f})" if side in taken else "" for side in others),
    ]


if __name__ == "__main__":
    main()
