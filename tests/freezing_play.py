"""One rank of a run with parts at rest (gloo, CPU), for test_freezing_ddp: as `tests.ddp_play`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from segan_pl.callbacks.freezing import Freezing
from segan_pl.objectives.segan import SegAN
from tests.cohort import build_data, build_system, build_trainer
from tests.ddp_play import strategy

ADAMW = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.5)
GAMES: dict[str, dict[str, Any]] = {
    "alternating": {"update": "alternating", "frozen": ["critic.enc*", "segmentor.enc*"]},
    "simultaneous": {"update": "simultaneous", "frozen": ["critic.enc*", "segmentor.enc*"]},
    "whole critic": {"update": "alternating", "frozen": ["critic"]},
}
THAW = 1


class Pages(L.Callback):
    """The players' state at the start and after each epoch."""

    def __init__(self) -> None:
        self.pages: list[dict[str, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.pages.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_train_start(trainer, pl_module)


def train(root: Path, cache: Path, world: int, part: Path, *, update: Any, frozen: list[str]) -> list[dict[str, Any]]:
    """What each rank holds before, after the epoch of rest, and after the thaw."""
    pages = Pages()
    system = build_system(SegAN(update=update), segmentor_optimizer=ADAMW, critic_optimizer=ADAMW)
    trainer = build_trainer(part, Freezing(frozen, THAW), pages, epochs=2, **strategy(world))
    trainer.fit(system, build_data(root, cache, batch_size=6, val_fraction=0.5))
    return pages.pages


if __name__ == "__main__":
    root, cache, folder = (Path(argument) for argument in sys.argv[1:4])
    number, own = int(sys.argv[4]), int(sys.argv[5])
    found = {game: train(root, cache, number, folder, **settings) for game, settings in GAMES.items()}
    torch.save(found, folder / f"{number}_{own}.pt")
