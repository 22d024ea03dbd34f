"""Augmentation of a batch's intensities against MONAI's transforms, sample by sample and modality by modality.

CPU seconds of one thread in the same run, the two sides in turn; our side includes its draws, and keeps no background,
as MONAI's does not. Each operation is done to every modality, but for the last line: all intensities of `-c
nnunet_augmentation` with their chances, which MONAI draws for each modality.

OMP_NUM_THREADS=1 python benchmarks/bench_augmentation.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import yaml
from monai import transforms as monai
from torch import Tensor

from segan_pl.data.sample.changes import draw_changes
from segan_pl.data.sample.intensities import with_intensities
from segan_pl.data.sample.options import Augmentation
from segan_pl.experiments.shipped import find_config

SHAPES = {"slices": (16, 1, 1, 160, 160), "slices, 4 modalities": (16, 4, 1, 160, 160), "volumes": (2, 4, 64, 96, 96)}
SPATIAL = ("elastic", "rotation", "scaling", "mirror")


def theirs(depth: int) -> dict[str, tuple[dict[str, Any], list[Callable[[Tensor], Tensor]]]]:
    """Options of ours, and what does the like in MONAI: of (1, *spatial) tensors."""
    up = "bilinear" if depth == 1 else "trilinear"
    halves = {"zoom_range": (0.5, 1.0), "downsample_mode": "nearest-exact", "upsample_mode": up}
    stats = {"gamma": (0.7, 1.5), "retain_stats": True}
    smooth = {"sigma_x": (0.5, 1.0), "sigma_y": (0.5, 1.0), "sigma_z": (0.5, 1.0)}
    stretched = {"factors": (-0.25, 0.25), "preserve_range": True}
    shipped = yaml.safe_load(find_config("nnunet_augmentation").read_text())["data"]["augmentation"]
    return {
        "contrast": ({"contrast": 1}, [monai.RandScaleIntensityFixedMean(prob=1, **stretched)]),
        "gamma, moments kept": (
            {"gamma": 1, "gamma_range": (0.7, 1.5), "gamma_keeps_moments": True},
            [monai.RandAdjustContrast(prob=1, **stats)],
        ),
        "low resolution": (
            {"low_resolution": 1, "low_resolution_modality": 1.0},
            [monai.RandSimulateLowResolution(prob=1, **halves)],
        ),
        "nnU-Net's intensities": (
            {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in shipped.items()
                if name not in SPATIAL
            },
            [
                monai.RandScaleIntensity(factors=0.25, prob=0.15),
                monai.RandScaleIntensityFixedMean(prob=0.15, **stretched),
                monai.RandAdjustContrast(prob=0.3, **stats),
                monai.RandAdjustContrast(prob=0.1, invert_image=True, **stats),
                monai.RandGaussianNoise(prob=0.1, std=0.1),
                monai.RandGaussianSmooth(prob=0.1, **smooth),
                monai.RandSimulateLowResolution(prob=0.125, **halves),
            ],
        ),
    }


def ours(image: Tensor, options: Augmentation, first: int) -> Tensor:
    """The batch, changed where it lies."""
    seed = torch.arange(first, first + len(image))
    shown = torch.ones(image.shape[:2], dtype=torch.bool)
    changes = draw_changes(seed, options, image.shape[1])
    return with_intensities(image, changes, seed, shown, keep_moments=options.gamma_keeps_moments)


def one_by_one(image: Tensor, chain: list[Callable[[Tensor], Tensor]]) -> Tensor:
    """The batch as MONAI changes it."""
    volumes = image[:, :, 0] if image.shape[2] == 1 else image
    for one in volumes.flatten(0, 1):
        changed = one[None]
        for transform in chain:
            changed = transform(changed)
        one.copy_(changed[0])
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for shape_name, shape in SHAPES.items():
        batch = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for name, (given, chain) in theirs(shape[2]).items():
            options, ratios, seconds = Augmentation(**given), [], []
            for number in range(-1, rounds):  # the first warms up
                image, other = batch.clone(), batch.clone()
                started = time.process_time()
                ours(image, options, len(image) * (number + 1))
                between = time.process_time()
                one_by_one(other, chain)
                if number >= 0:
                    seconds.append(between - started)
                    ratios.append((between - started) / (time.process_time() - between))
            low, middle, high = (statistics.quantiles(ratios, n=10)[at] for at in (0, 4, 8))
            took = f"{1000 * statistics.median(seconds):7.1f} ms a batch"
            print(f"{shape_name:21} {name:22} {took}, {middle:.2f} of MONAI's ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    main()
