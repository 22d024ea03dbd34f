"""The operations of our augmentation as MONAI, TorchIO and batchgeneratorsv2 have them, one sample in a call.

TorchIO and batchgeneratorsv2 are for `bench_augmentation.py` alone, in a folder of their own:

    pip install --no-deps --target /tmp/peers torchio==1.2.1 batchgeneratorsv2==0.3.6 batchgenerators jaxtyping
    pip install --no-deps --target /tmp/peers wadler-lindig einops deprecated wrapt humanize
    pip install --no-deps --target /tmp/peers simpleitk scikit-image lazy_loader imageio tifffile
    OMP_NUM_THREADS=1 PYTHONPATH=/tmp/peers python -m benchmarks.bench_augmentation
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from monai import transforms as monai
from torch import Tensor

Sample = tuple[Tensor, Tensor]
"""Image (M, *spatial) float32 and label (1, *spatial) uint8."""
Change = Callable[[Tensor, Tensor], Sample]

DEGREES, SCALES = 15.0, (0.85, 1.25)
GAMMA, FACTORS, DEVIATION, SIGMA, COARSE = (0.7, 1.5), (0.75, 1.25), 0.1, (0.5, 1.0), (0.5, 1.0)


def peers(shape: tuple[int, ...]) -> Mapping[str, Mapping[str, Change]]:
    """By library and operation, those that are installed; an operation that a library lacks has no entry.

    Args:
        shape: (D, H, W) of the samples; a depth of 1 is of slices, (H, W).
    """
    made = {"MONAI": of_monai(shape)}
    if find_spec("torchio"):
        made["TorchIO"] = of_torchio(shape)
    if find_spec("batchgeneratorsv2"):
        made["batchgeneratorsv2"] = of_batchgenerators(shape)
    return made


def of_monai(shape: tuple[int, ...]) -> dict[str, Change]:
    """Intensities change each modality by itself, as ours do."""
    axes = 2 if shape[0] == 1 else 3
    turn = math.radians(DEGREES)
    # MONAI zooms by the inverse, each axis by itself; the cost is the same
    both = {"keys": ["image", "label"], "prob": 1}
    flip = monai.RandFlipd(spatial_axis=list(range(axes)), **both)
    affine = monai.RandAffined(
        rotate_range=turn if axes == 2 else (turn,) * 3,
        scale_range=(SCALES[0] - 1, SCALES[1] - 1),
        mode=("bilinear", "nearest"),
        padding_mode="zeros",
        **both,
    )

    def spatial(transform: Any) -> Change:
        def change(image: Tensor, label: Tensor) -> Sample:
            changed = transform({"image": image, "label": label})
            return changed["image"], changed["label"]

        return change

    def each(transform: Any) -> Change:
        return lambda image, label: (torch.cat([transform(one[None]) for one in image]), label)

    up = "bilinear" if axes == 2 else "trilinear"
    sigmas = {f"sigma_{axis}": SIGMA for axis in "xyz"}
    within = (FACTORS[0] - 1, FACTORS[1] - 1)
    return {
        "mirror": spatial(flip),
        "rotation and scaling": spatial(affine),
        "gamma": each(monai.RandAdjustContrast(prob=1, gamma=GAMMA)),
        "gamma, moments kept": each(monai.RandAdjustContrast(prob=1, gamma=GAMMA, retain_stats=True)),
        "contrast": each(monai.RandScaleIntensityFixedMean(prob=1, factors=within, preserve_range=True)),
        "brightness": each(monai.RandScaleIntensity(prob=1, factors=within)),
        "noise": each(monai.RandGaussianNoise(prob=1, std=DEVIATION)),
        "blur": each(monai.RandGaussianSmooth(prob=1, **sigmas)),
        "low resolution": each(
            monai.RandSimulateLowResolution(
                prob=1, zoom_range=COARSE, downsample_mode="nearest-exact", upsample_mode=up
            )
        ),
    }


def of_torchio(shape: tuple[int, ...]) -> dict[str, Change]:
    """No contrast, no brightness; its low resolution is of one axis only; its gamma keeps no moments."""
    import torchio

    flat = shape[0] == 1
    # (z, y, x) of ours are its (i, j, k); a slice turns about its first axis
    about = (-DEGREES, DEGREES)
    degrees = (*about, 0, 0, 0, 0) if flat else about * 3
    scales = (1, 1, *SCALES, *SCALES) if flat else SCALES * 3

    def over(transform: Any) -> Change:
        def change(image: Tensor, label: Tensor) -> Sample:
            if flat:
                image, label = image[:, None], label[:, None]
            subject = torchio.Subject(image=torchio.ScalarImage(tensor=image), label=torchio.LabelMap(tensor=label))
            changed = transform(subject)
            image, label = changed.image.data, changed.label.data
            return (image[:, 0], label[:, 0]) if flat else (image, label)

        return change

    axes = (1, 2) if flat else (0, 1, 2)
    stds = (0, 0, *SIGMA, *SIGMA) if flat else SIGMA * 3
    return {
        "mirror": over(torchio.RandomFlip(axes=axes, flip_probability=1)),
        "rotation and scaling": over(torchio.RandomAffine(scales=scales, degrees=degrees, default_pad_value=0)),
        "gamma": over(torchio.RandomGamma(log_gamma=(math.log(GAMMA[0]), math.log(GAMMA[1])))),
        "noise": over(torchio.RandomNoise(std=(0, DEVIATION))),
        "blur": over(torchio.RandomBlur(std=stds)),
    }


def of_batchgenerators(shape: tuple[int, ...]) -> dict[str, Change]:
    """What nnU-Net augments with, in the form of its trainer but for labels, which are read at the nearest voxel."""
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    sides = shape[1:] if shape[0] == 1 else shape
    turn = math.radians(DEGREES)
    every = {"synchronize_channels": False, "p_per_channel": 1}
    mirror = MirrorTransform(allowed_axes=tuple(range(len(sides))))
    kept = {"gamma": BGContrast(GAMMA), "p_invert_image": 0, **every}
    spatial = SpatialTransform(
        sides,
        0,
        random_crop=False,
        p_rotation=1,
        rotation=(-turn, turn),
        p_scaling=1,
        scaling=SCALES,
        p_synchronize_scaling_across_axes=1,
        mode_seg="nearest",
    )

    def over(transform: Any) -> Change:
        def change(image: Tensor, label: Tensor) -> Sample:
            changed = transform(image=image, segmentation=label)
            return changed["image"], changed["segmentation"]

        return change

    def flip(image: Tensor, label: Tensor) -> Sample:
        # its draw leaves half of the axes as they are
        changed = mirror.apply({"image": image, "segmentation": label}, axes=list(range(len(sides))))
        return changed["image"], changed["segmentation"]

    low = {"scale": COARSE, "synchronize_channels": False, "synchronize_axes": True, "ignore_axes": ()}
    return {
        "mirror": flip,
        "rotation and scaling": over(spatial),
        "gamma": over(GammaTransform(p_retain_stats=0, **kept)),
        "gamma, moments kept": over(GammaTransform(p_retain_stats=1, **kept)),
        "contrast": over(ContrastTransform(BGContrast(FACTORS), preserve_range=True, **every)),
        "brightness": over(MultiplicativeBrightnessTransform(BGContrast(FACTORS), **every)),
        "noise": over(GaussianNoiseTransform((0, DEVIATION), **every)),
        "blur": over(GaussianBlurTransform(SIGMA, **every)),
        "low resolution": over(SimulateLowResolutionTransform(p_per_channel=1, **low)),
    }
