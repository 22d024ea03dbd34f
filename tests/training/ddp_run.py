"""One rank of a distributed run (gloo, CPU), for test_ddp:
python -m tests.training.ddp_run COHORT CACHE OUT WORLD RANK."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from segan_pl.losses.overlap import SoftDice
from segan_pl.objectives.base import Objective
from segan_pl.objectives.gan import SemiSupervisedGAN
from segan_pl.objectives.gt_gan import GTGAN
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.semi_supervised.bcp import BidirectionalCopyPaste
from segan_pl.objectives.semi_supervised.cps import CrossPseudoSupervision
from segan_pl.objectives.semi_supervised.fixmatch import FixMatch
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.self_training import SelfTraining
from segan_pl.objectives.semi_supervised.ua_mt import UncertaintyAwareMeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from segan_pl.objectives.stabilisers import R1, DiffAugment, InstanceNoise, Stabilisers
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.ddp import PhaseDDP
from tests.cohort import CROP, build_data, build_system, build_trainer

# By slice, so that a sum over slices is a sum over ranks; short warm-ups, so that every part of a game is played.
BY_SLICE = partial(Supervised, dice=SoftDice(), cross_entropy_weight=1.0)
SEMI_SUPERVISED: dict[str, Callable[[], Objective]] = {
    "mean teacher": lambda: MeanTeacher(ramp_up=4, supervised=BY_SLICE()),
    "uncertainty-aware": lambda: UncertaintyAwareMeanTeacher(passes=2, ramp_up=4, supervised=BY_SLICE()),
    "cross pseudo supervision": lambda: CrossPseudoSupervision(ramp_up=4, supervised=BY_SLICE()),
    "FixMatch": lambda: FixMatch(threshold=0.5, supervised=BY_SLICE()),
    "copy-paste": lambda: BidirectionalCopyPaste(warm_up=1, supervised=BY_SLICE()),
    "self-training": lambda: SelfTraining(warm_up=1, refresh=2, threshold=0.5, supervised=BY_SLICE()),
    "virtual adversarial": lambda: VirtualAdversarial(supervised=BY_SLICE()),
}
GANS: dict[str, Callable[[], Objective]] = {
    "GAN": lambda: SemiSupervisedGAN(generator_loss="adversarial", encoder_weight=0.01),
    "GT-GAN": lambda: GTGAN(warm_up=1),
}
OVER_RANKS = partial(SoftDice, reduction="batch", over_ranks=True)
OTHERS: dict[str, Callable[[], Objective]] = {
    "supervised": BY_SLICE,
    "reciprocal": lambda: Reciprocal(dice=OVER_RANKS(epsilon=1.0)),
}
GAMES: dict[str, dict[str, Any]] = {
    "alternating": {"update": "alternating"},
    "simultaneous": {"update": "simultaneous"},
    "batch statistics": {"statistics": True},
    "unlabelled": {"n_labelled": 2},
    "stabilised": {
        "stabilisers": Stabilisers(r1=R1(every=2), diff_augment=DiffAugment(), instance_noise=InstanceNoise()),
        "clip": "none",
        "spectral_norm": ["critic"],
    },
    "dice per batch": {"dice": SoftDice(reduction="batch")},
    "dice over ranks": {"dice": OVER_RANKS()},
    "whole batches": {"update": "alternating", "batches": 2},
    "accumulated": {"update": "simultaneous", "accumulate": 2},
    **{name: {"game": name} for name in OTHERS},
    **{name: {"game": name, "n_labelled": 2} for name in (*SEMI_SUPERVISED, *GANS)},
}
SGD = partial(torch.optim.SGD, lr=0.1)


class FrozenStatistics(L.Callback):
    """Batch norm normalises with its running statistics."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for module in pl_module.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def strategy(world: int, **settings: Any) -> dict[str, Any]:
    """Trainer settings of one rank; the surroundings (LOCAL_RANK, MASTER_PORT) say which."""
    if world == 1:
        return settings
    ddp = PhaseDDP(process_group_backend="gloo")
    return {"strategy": ddp, "devices": world, **settings}


def score(root: Path, cache: Path, world: int, part: Path) -> dict[str, Any]:
    """Validate 4 cases."""
    data = build_data(root, cache, preparation=CROP, val_fraction=0.5, labels="regions")
    system = build_system(labels="regions")
    trainer = build_trainer(part, **strategy(world))
    trainer.validate(system, data, verbose=False)
    rows = [(row.case, row.region, list(row.counts)) for row in system.case_scores]
    dice = float(trainer.callback_metrics["val/dice_mean"])
    return {"rows": rows, "own": torch.cat(system.scoring.states.counts.keys).flatten().tolist(), "dice": dice}


def train(
    root: Path,
    cache: Path,
    world: int,
    part: Path,
    *,
    statistics: bool = False,
    n_labelled: int | None = None,
    game: str | None = None,
    spectral_norm: list[str] | None = None,
    accumulate: int = 1,
    batches: int | None = None,
    **options: Any,
) -> Any:
    """The weights after an epoch of joined batches of 12, 12 and 8 slices, and the epoch's mean losses."""
    objective = (SEMI_SUPERVISED | GANS | OTHERS)[game]() if game else SegAN(**options)
    labels = "labels" if objective.exclusive_labels else "whole_tumour"
    data = build_data(root, cache, batch_size=12 // world, val_fraction=0.5, n_labelled=n_labelled, labels=labels)
    settings = {"spectral_norm": spectral_norm, "accumulate": accumulate}
    system = build_system(objective, optimizers={"default": SGD}, **settings)
    callbacks = [] if statistics else [FrozenStatistics()]
    length = {"limit_train_batches": batches} if batches else {}
    trainer = build_trainer(part, *callbacks, **strategy(world, precision="64-true", limit_val_batches=0, **length))
    trainer.fit(system, data)
    weights = {name: value.detach().clone() for name, value in system.named_parameters()}
    losses = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    return weights, losses


def trained(root: Path, cache: Path, world: int, part: Path, games: list[str]) -> dict[str, Any]:
    """Everything that one rank finds."""
    found = {game: train(root, cache, world, part, **GAMES[game]) for game in games}
    weights, losses = ({game: pair[part] for game, pair in found.items()} for part in (0, 1))
    return {"scores": score(root, cache, world, part), "weights": weights, "losses": losses}


if __name__ == "__main__":
    folder = Path(sys.argv[3])
    number, own = int(sys.argv[4]), int(sys.argv[5])
    names = list(GAMES) if number == 2 else ["whole batches"]
    torch.save(trained(Path(sys.argv[1]), Path(sys.argv[2]), number, folder, names), folder / f"{number}_{own}.pt")
