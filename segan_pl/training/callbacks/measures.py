"""What an epoch logs besides losses and scores: learning rates, and by what a game that has collapsed is known."""

from __future__ import annotations

from collections import Counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from segan_pl.objectives.base import Objective
from segan_pl.training.callbacks.readings import (
    AT_BOUND,
    GAP_SPREAD,
    GRADIENT_NORM,
    OUTPUT_RANGE,
    learning_rates,
    optimizers_of,
)

FEWEST = 4
"""Batches of an epoch below which a gap says nothing of how it differs between batches."""


class Measures(Callback):
    """Logs at each epoch's end what these names hold; before `RunRecord`, which writes what is logged.

    lr/NETWORK is the epoch's learning rate. gradient_norm/NETWORK is the mean norm of all gradients before they are
    clipped; steps with an infinite one, as a scaler of 16-bit gradients skips, do not count.
    output_range/segmentor is the largest distance between two probabilities of a batch. gap_spread/TERM is how far a
    critic's gap lies apart over the epoch's batches, as a share of its size. at_bound/NETWORK is the share of clamped
    parameters at their bound.

    All sums stay on the device, which nothing waits for within an epoch.

    Args:
        every: Steps of a network from one norm to the next; an epoch's first step has one. At every step they took
            1.3 % of a small network's time.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._begin()

    def _begin(self) -> None:
        # network to the sum of its norms and their number
        self._norms: dict[str, tuple[Tensor, Tensor]] = {}
        self._steps = Counter[str]()
        self._range: Tensor | None = None
        # lowest and highest so far
        self._gap: tuple[Tensor, Tensor] | None = None
        self._gaps, self._term = 0, ""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with nothing."""
        self._begin()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Gradients are complete, averaged over ranks, no longer scaled and not clipped yet."""
        name = next((name for name, one in optimizers_of(trainer, pl_module).items() if one is optimizer), None)
        if name is None:
            return
        self._steps[name] += 1
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients or (self._steps[name] - 1) % self.every:
            return
        norm = torch.nn.utils.get_total_norm(gradients).float()
        finite = torch.isfinite(norm)
        total, count = self._norms.get(name, (norm.new_zeros(()), norm.new_zeros(())))
        self._norms[name] = total + torch.where(finite, norm, 0), count + finite

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in what the module says of the batch."""
        if not isinstance(outputs, dict) or "terms" not in outputs:
            return
        if (found := outputs["output_range"]) is not None:
            self._range = found if self._range is None else torch.maximum(self._range, found)
        term = pl_module.objective.gap_term() if isinstance(pl_module.objective, Objective) else None
        if term is not None and (gap := outputs["terms"].get(term)) is not None:
            self._term = term
            low, high = self._gap or (gap, gap)
            self._gap = torch.minimum(low, gap), torch.maximum(high, gap)
            self._gaps += 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log; the losses too, of an epoch that --trainer.max_time has cut short."""
        if (log_means := getattr(pl_module, "log_means", None)) is not None:
            log_means()
        means = {GRADIENT_NORM + name: total / count for name, (total, count) in self._norms.items() if count}
        largest = {} if self._range is None else {f"{OUTPUT_RANGE}segmentor": self._range}
        if self._gap is not None and self._gaps >= FEWEST:
            low, high = self._gap
            # of a gap that is 0 in every batch 0, too
            largest[GAP_SPREAD + self._term] = (high - low) / high.abs().clamp(min=1e-30)
        objective, networks = getattr(pl_module, "objective", None), getattr(pl_module, "networks", None)
        if isinstance(objective, Objective) and isinstance(networks, nn.ModuleDict):
            shares = objective.at_bound(dict(networks.items()))
            means |= {AT_BOUND + name: share for name, share in shares.items()}
        pl_module.log_dict({**learning_rates(trainer, pl_module), **means}, sync_dist=True)
        pl_module.log_dict(largest, sync_dist=True, reduce_fx="max")
