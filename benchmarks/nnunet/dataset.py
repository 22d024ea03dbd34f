"""What nnU-Net needs on disk: a data set in its raw form, and a small configuration in its plans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.nnunet.study import binary_mask
from segan_pl.data.case import Case

LEAST_EDGE = 4
"""Of the deepest feature map, nnU-Net's UNet_featuremap_min_edge_length."""
WIDEST = 16
"""Times the first width: nnU-Net's 2-D networks are 32 wide at the top and 512 at most."""


def write_raw(folder: Path, train: Sequence[Case], test: Sequence[Case], modalities: Sequence[str]) -> None:
    """A data set in nnU-Net's raw form: imagesTr, labelsTr, imagesTs and dataset.json.

    Voxels and affines are those of the files. Masks become binary: 1 where the native label is not 0.

    Args:
        folder: Its name must be nnU-Net's, e.g. "Dataset001_fold0"; it is made.
        train: Cases with a mask and all modalities.
        test: Cases with all modalities; their masks are not written.
        modalities: The channels, in this order.

    Raises:
        ValueError: A training case has no mask, or a case lacks a modality.
    """
    for case in (*train, *test):
        if lacking := [one for one in modalities if one not in case.images]:
            raise ValueError(f"{case.name} has no {', '.join(lacking)}; leave the case out of the split")
    for cases, name in ((train, "imagesTr"), (test, "imagesTs")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for case in cases:
            for channel, modality in enumerate(modalities):
                image = nib.load(case.images[modality])
                if modality in case.channels:  # a volume of a 4-D file
                    image = image.slicer[..., case.channels[modality]]
                nib.save(image, folder / name / f"{case.name}_{channel:04d}.nii.gz")
    (folder / "labelsTr").mkdir(exist_ok=True)
    for case in train:
        nib.save(binary_mask(case), folder / "labelsTr" / f"{case.name}.nii.gz")
    description = {
        "channel_names": {str(channel): modality for channel, modality in enumerate(modalities)},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": len(train),
        "file_ending": ".nii.gz",
    }
    # Last, so that a folder with it is whole.
    (folder / "dataset.json").write_text(json.dumps(description, indent=1))


def small_configuration(planned: Mapping[str, Any], width: int, patch: Sequence[int], batch: int) -> dict[str, Any]:
    """A configuration that inherits nnU-Net's planned "2d" one, with a smaller network, patch and batch.

    As nnU-Net's planner does it, the network halves the patch while an edge of at least 4 is left, and its width
    doubles up to 16 times the first; blocks, kernels, normalisation and losses stay as planned.

    Args:
        planned: plans["configurations"]["2d"].
        width: Feature maps of the first stage; 32 is nnU-Net's.
        patch: Of training, voxels in the plane.
        batch: Slices of a training batch.

    Raises:
        ValueError: The patch is not a multiple of the network's stride.
    """
    architecture = json.loads(json.dumps(planned["architecture"]))
    settings = architecture["arch_kwargs"]
    stride, stages = np.ones(len(patch), int), 0
    for step in np.array(settings["strides"]):
        if (np.array(patch) // (stride * step) < LEAST_EDGE).any():
            break
        stride, stages = stride * step, stages + 1
    if (np.array(patch) % stride).any():
        raise ValueError(f"patch {list(patch)}: expected multiples of {stride.tolist()}, the network's stride")
    settings["n_stages"] = stages
    settings["features_per_stage"] = [width * min(2**stage, WIDEST) for stage in range(stages)]
    for key in ("strides", "kernel_sizes", "n_conv_per_stage"):
        settings[key] = settings[key][:stages]
    settings["n_conv_per_stage_decoder"] = settings["n_conv_per_stage_decoder"][: stages - 1]
    return {"inherits_from": "2d", "patch_size": list(patch), "batch_size": batch, "architecture": architecture}
