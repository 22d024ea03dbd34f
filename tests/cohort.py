"""The data module, system and trainer that the tests put on the tiny cohort of `cohort_fixtures`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.nets import few_shot, gt_gan
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.base import Objective
from segan_pl.objectives.gt_gan import GTGAN
from segan_pl.objectives.segan import SegAN
from segan_pl.training.callbacks.checkpoint import AtomicCheckpointIO
from segan_pl.training.system import AdversarialSegmentation

CASES = 8
SHAPE = (8, 48, 48)
CROP = Preparation(crop=(6, 40, 64))  # cuts z and y, pads x

QUIET = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),  # Lightning's use of a deprecated name in torch
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),  # a resumed run's
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path"),
    pytest.mark.filterwarnings("ignore:.*barrier.. using the device under current context.*"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),  # Lightning's calls
]

# What `segan_pl fit --config` is given: data.root, data.cache_dir and run.root are filled in.
SYSTEM = """
model:
  networks:
    segmentor: {class_path: segan_pl.nets.segan.Segmentor, init_args: {width: 2}}
    critic: {class_path: segan_pl.nets.segan.Critic, init_args: {width: 2}}
  objective: {class_path: segan_pl.objectives.segan.SegAN}
  optimizers: {default: {class_path: torch.optim.Adam, init_args: {lr: 0.001}}}
data:
  root: %s
  cache_dir: %s
  preparation: {crop: null}
  patch: [32, 32]
  batch_size: 12
  val_fraction: 0.25
  stratify_by: []
  prepare_workers: 1
trainer: {max_epochs: 2, accelerator: cpu, devices: 1}
run: {experiment: tiny, root: %s}
"""


def build_data(root: Path, cache: Path, **settings: Any) -> MRIDataModule:
    """Four batches of 12 slices an epoch with the default split: 6 cases to train, 2 to validate."""
    defaults: dict[str, Any] = {
        "preparation": Preparation(crop=None),
        "cache_dir": str(cache),
        "patch": (32, 32),
        "batch_size": 12,
        "val_fraction": 0.25,
        "stratify_by": (),
        "prepare_workers": 1,
    }
    return MRIDataModule(str(root), **{**defaults, **settings})


class PlainSegmentor(nn.Module):
    """Two convolutions without normalisation, so that a sum over slices is a sum over batches."""

    divisor = 1

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, out_channels, 3, padding=1)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, M, H, W) to logits (B, C, H, W)."""
        return self.layers(image)


def build_system(
    objective: Objective | None = None,
    *,
    seed: int = 0,
    modalities: tuple[str, ...] = ("t1", "t1ce", "t2", "flair"),
    labels: str = "whole_tumour",
    plain: bool = False,
    **settings: Any,
) -> AdversarialSegmentation:
    """The system with the smallest networks: SegAN's of width 2 unless `plain`, or those of a GAN, whose labels exclude
    each other."""
    objective = objective or SegAN()
    torch.manual_seed(seed)
    networks: dict[str, Any] = {"segmentor": PlainSegmentor if plain else partial(Segmentor, width=2)}
    if "critic" in objective.networks:
        networks["critic"] = partial(Critic, width=2)
    if "generator" in objective.networks:
        made: dict[str, Any] = {"patch": (32, 32), "width": 2, "noise": 4}
        labels, networks["segmentor"] = "labels", partial(few_shot.Segmentor, width=2, spatial_dims=2)
        networks["generator"] = partial((gt_gan if isinstance(objective, GTGAN) else few_shot).Generator, **made)
        if "encoder" in objective.networks:
            networks["encoder"] = partial(few_shot.Encoder, **made)
    return AdversarialSegmentation(networks, objective, modalities=list(modalities), labels=labels, **settings)


def build_trainer(folder: Path, *callbacks: L.Callback, epochs: int = 1, **settings: Any) -> L.Trainer:
    """A quiet trainer on the CPU."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "plugins": [AtomicCheckpointIO()],
        "default_root_dir": folder,
    }
    return L.Trainer(max_epochs=epochs, callbacks=list(callbacks), **{**defaults, **settings})
