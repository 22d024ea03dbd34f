"""One rank of a distributed run (gloo, CPU), for test_ddp:
python -m tests.training.ddp_run COHORT CACHE OUT WORLD RANK."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from segan_pl.losses.overlap import SoftDice
from segan_pl.objectives.segan import SegAN
from tests.cohort import CROP, build_data, build_system, build_trainer

GAMES: dict[str, dict[str, Any]] = {
    "alternating": {"update": "alternating"},
    "simultaneous": {"update": "simultaneous"},
    "batch statistics": {"statistics": True},
    "unlabelled": {"n_labelled": 2},
    "dice per batch": {"dice": SoftDice(reduction="batch")},
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
    ddp = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
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
    **options: Any,
) -> Any:
    """The weights after an epoch of joined batches of 12, 12 and 8 slices."""
    data = build_data(root, cache, batch_size=12 // world, val_fraction=0.5, n_labelled=n_labelled)
    system = build_system(SegAN(**options), optimizers={"default": SGD})
    callbacks = [] if statistics else [FrozenStatistics()]
    trainer = build_trainer(part, *callbacks, **strategy(world, precision="64-true", limit_val_batches=0))
    trainer.fit(system, data)
    return {name: value.detach().clone() for name, value in system.named_parameters()}


def trained(root: Path, cache: Path, world: int, part: Path, games: list[str]) -> dict[str, Any]:
    """Everything that one rank finds."""
    found = {game: train(root, cache, world, part, **GAMES[game]) for game in games}
    return {"scores": score(root, cache, world, part), "weights": found}


if __name__ == "__main__":
    folder = Path(sys.argv[3])
    number, own = int(sys.argv[4]), int(sys.argv[5])
    names = list(GAMES) if number == 2 else []
    torch.save(trained(Path(sys.argv[1]), Path(sys.argv[2]), number, folder, names), folder / f"{number}_{own}.pt")
