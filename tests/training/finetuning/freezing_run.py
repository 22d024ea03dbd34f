"""One rank of a run with parts are frozen (gloo, CPU), for test_freezing_ddp: as `tests.training.ddp_run`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from segan_pl.objectives.segan import SegAN
from segan_pl.training.callbacks.freezing import Freezing
from tests.cohort import build_data, build_system, build_trainer
from tests.training.ddp_run import strategy

ADAMW = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.5)
GAMES: dict[str, dict[str, Any]] = {
    "alternating": {"update": "alternating", "frozen": ["critic.enc*", "segmentor.enc*"]},
    "simultaneous": {"update": "simultaneous", "frozen": ["critic.enc*", "segmentor.enc*"]},
    "whole critic": {"update": "alternating", "frozen": ["critic"]},
}
UNFREEZE = 1


class Pages(L.Callback):
    """The networks' state at the start and after each epoch."""

    def __init__(self) -> None:
        self.pages: list[dict[str, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.pages.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_train_start(trainer, pl_module)


def train(root: Path, cache: Path, world: int, part: Path, *, update: Any, frozen: list[str]) -> list[dict[str, Any]]:
    """What each rank holds before, after the frozen epoch, and after unfreezing."""
    pages = Pages()
    system = build_system(SegAN(update=update), optimizers={"default": ADAMW})
    trainer = build_trainer(part, Freezing(frozen, UNFREEZE), pages, epochs=2, **strategy(world))
    trainer.fit(system, build_data(root, cache, batch_size=6, val_fraction=0.5))
    return pages.pages


if __name__ == "__main__":
    root, cache, folder = (Path(argument) for argument in sys.argv[1:4])
    number, own = int(sys.argv[4]), int(sys.argv[5])
    found = {game: train(root, cache, number, folder, **settings) for game, settings in GAMES.items()}
    torch.save(found, folder / f"{number}_{own}.pt")
