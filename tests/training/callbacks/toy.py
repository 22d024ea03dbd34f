"""A module that plays with manual optimisation, logs given scores, and trains on the CPU in a blink."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from segan_pl.training.callbacks.checkpoint import AtomicCheckpointIO

QUIET = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),  # Lightning's use of a deprecated name in torch
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),  # a resumed run's
]


class Toy(L.LightningModule):
    """Two weights and an optimiser for each; validation in epoch e logs scores[e] as val/dice_wt."""

    def __init__(self, scores: Sequence[float] = (0.1, 0.2, 0.3, 0.4), size: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.scores = list(scores)
        self.weight = torch.nn.Parameter(torch.zeros(size))
        self.other = torch.nn.Parameter(torch.ones(1))
        self.said: list[str] = []
        self.previews: list[Any] = []

    def metric_names(self) -> list[str]:
        return ["val/dice_wt", "val/dice_mean"]

    def print(self, *args: Any, **kwargs: Any) -> None:
        self.said.append(" ".join(map(str, args)))
        super().print(*args, **kwargs)

    def training_step(self, batch: list[Tensor], index: int) -> None:
        for optimizer, weight in zip(self.optimizers(), (self.weight, self.other), strict=True):
            optimizer.zero_grad()
            loss = (weight.mean() * batch[0].mean() - 1) ** 2
            self.manual_backward(loss)
            optimizer.step()
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val/dice_wt", self.scores[self.current_epoch], batch_size=1)

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self.log("test/dice_wt", 0.5, batch_size=1)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD([self.weight], lr=0.01), torch.optim.SGD([self.other], lr=0.01)]


def loader(items: int = 4) -> DataLoader[tuple[Tensor, ...]]:
    """Batches of one."""
    return DataLoader(TensorDataset(torch.ones(items, 1)))


def trainer(folder: Path, *callbacks: Callback, epochs: int = 3, **settings: Any) -> L.Trainer:
    """A quiet trainer on the CPU that writes checkpoints as a run does."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 1,
        "plugins": [AtomicCheckpointIO()],
        "default_root_dir": folder,
        "log_every_n_steps": 1,
    }
    if not any(isinstance(callback, L.pytorch.callbacks.ProgressBar) for callback in callbacks):
        defaults["enable_progress_bar"] = False
    return L.Trainer(max_epochs=epochs, callbacks=list(callbacks), **{**defaults, **settings})
