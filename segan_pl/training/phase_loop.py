"""The half of the LightningModule that trains: in every batch, the phases of an objective."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from functools import partial
from math import ceil, isfinite
from typing import Any, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from segan_pl.batch import Batch
from segan_pl.errors import UsageError
from segan_pl.objectives.base import Phase, StepContext
from segan_pl.training.epoch_means import EpochMeans
from segan_pl.training.networks import negate_gradients, one_scale
from segan_pl.training.schedules import follow_run, other_length
from segan_pl.training.whole_volumes import WholeVolumes

DEFAULT = "default"
"""The name of the optimiser of networks without one of their own."""


def rmsprop(params: Iterable[nn.Parameter]) -> Optimizer:
    """RMSprop as SegAN-CAT ran it: lr 2e-5 (paper, section V), alpha 0.9 and eps 1e-7 (the authors' code)."""
    return torch.optim.RMSprop(params, lr=2e-5, alpha=0.9, eps=1e-7)


class PhaseLoop(WholeVolumes):
    """Training; `AdversarialSegmentation` sets the attributes.

    Attributes:
        optimizer_of: By a network's name, or `DEFAULT`; each takes its network's parameters.
        schedule: Learning-rate scheduler of every network.
        accumulate: Batches of a step.
        clip_gradient: Largest gradient norm of a network.
        pictures: What the objective showed of the last epoch, name to images (N, M, *spatial).
        epoch_means: The losses of the epoch's batches so far.
    """

    optimizer_of: dict[str, OptimizerCallable]
    schedule: LRSchedulerCallable | None
    accumulate: int
    clip_gradient: float | None
    pictures: dict[str, Tensor]
    epoch_means: EpochMeans

    @property
    def trained(self) -> list[str]:
        """The names of the networks that have an optimiser: all but the teachers."""
        return [name for name in self.networks if name not in self.objective.teachers]

    @property
    def steps(self) -> int | None:
        """How many steps the run takes until `max_epochs`; None where nothing but time or patience ends it."""
        epochs, batches = self.trainer.max_epochs, self.trainer.num_training_batches
        if epochs is None or epochs < 1 or not isfinite(batches):
            return None
        return epochs * ceil(batches / self.accumulate)

    def configure_optimizers(self) -> Any:
        """One optimiser for each trained network, in the objective's order; a scheduler each where one is asked for."""
        default = self.optimizer_of.get(DEFAULT, rmsprop)
        optimizers = [self.optimizer_of.get(name, default)(self.networks[name].parameters()) for name in self.trained]
        if self.schedule is None:
            return optimizers
        schedulers = [self.schedule(optimizer) for optimizer in optimizers]
        if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
            raise UsageError("--model.schedule ReduceLROnPlateau follows a score; choose a schedule over epochs")
        follow_run(schedulers, self.trainer.max_epochs)
        return optimizers, schedulers

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The phases of one batch, in the objective's order.

        Returns:
            What callbacks may read: "terms", the parts of the losses as "NETWORK_PART", and "output_range".
        """
        batch = batch._replace(image=self._format(batch.image), target=self._format(batch.target, torch.float32))
        context = self._context(batch, self.steps)
        # The first of the group of batches that share a step.
        first = batch_idx - batch_idx % self.accumulate
        group = int(min(self.accumulate, self.trainer.num_training_batches - first))
        step = batch_idx == first + group - 1
        terms: dict[str, Tensor] = {}
        with one_scale(getattr(self.trainer.precision_plugin, "scaler", None)):
            for phase in self.objective.phases():
                if self.groups_seen % phase.every == 0:
                    terms |= self._move(context, phase, group=group, step=step)
        # An objective that makes images may show some; those of an epoch's last batch are drawn.
        shows = getattr(self.objective, "pictures", None)
        if shows is not None and batch_idx == self.trainer.num_training_batches - 1:
            self.pictures = {name: one.detach().float().cpu() for name, one in shows(context).items()}
        self.batches_seen += 1
        self.groups_seen += step
        return {"terms": terms, "output_range": context.output_range()}

    def _move(self, context: StepContext, phase: Phase, *, group: int, step: bool) -> dict[str, Tensor]:
        """One phase: the network's loss, backward, and on a group's last batch the step; ascending networks negate.

        A network without any gradient, because it is frozen, takes no step and is not clipped.

        Returns:
            The parts of its loss, by "NETWORK_PART".
        """
        movers = (phase.network, *phase.ascending)
        with context.only(movers):
            terms = phase.loss(context)
            if not torch.isfinite(terms.total):
                parts = ", ".join(f"{name} {float(value):g}" for name, value in terms.parts.items())
                what = f"batch {self.batches_seen}: the {phase.network}'s loss"
                self._refuse_non_finite(what, f"({parts})", context.batch)
            self._require_label_on_every_rank(context)
            # It does not when every network that moves is frozen.
            if terms.total.requires_grad:
                self.manual_backward(terms.total / group)
        logged = {f"{phase.network}_{name}": value for name, value in terms.parts.items()}
        losses = {f"{phase.network}_loss": terms.total, **logged}
        image = context.batch.image
        self.epoch_means.add({f"train/{name}": value for name, value in losses.items()}, len(image), image.device)
        if not step:
            return logged
        average = getattr(self.trainer.strategy, "average_gradients", None)
        if average is not None and self.trainer.world_size > 1:
            average([context.networks[name] for name in movers])
        found = self.optimizers()
        # Lightning gives a single optimiser without a list.
        optimizers = found if isinstance(found, list) else [found]
        moving = [name for name in movers if any(p.grad is not None for p in context.networks[name].parameters())]
        for name in moving:
            if name in phase.ascending:
                negate_gradients(context.networks[name])
            optimizer = optimizers[self.trained.index(name)]
            optimizer.step()
            optimizer.zero_grad()
            if name in self.averaged:
                cast(AveragedModel, self.averaged[name]).update_parameters(self.networks[name])
        if moving and phase.after is not None:
            phase.after(context)
        return logged

    def log_means(self) -> None:
        """Log the epoch's mean losses, as soon as it has no further batch."""
        ranks = self.trainer.world_size
        total = partial(self.trainer.strategy.reduce, reduce_op="sum") if ranks > 1 else None
        means = self.epoch_means.take(total, ranks)
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=1)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log them before callbacks' `on_train_epoch_end`, where they are read."""
        if self.trainer.is_last_batch:
            self.log_means()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here: gradients are complete and no longer scaled."""
        if self.clip_gradient is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_gradient)

    def _require_label_on_every_rank(self, context: StepContext) -> None:
        """Refuse what would hang: the other ranks wait for the gradients of one that has no loss."""
        if self.trainer.world_size > 1 and context.asked_in_vain:
            raise UsageError(
                f"epoch {self.current_epoch}, batch {self.batches_seen}: rank {self.global_rank} of "
                f"{self.trainer.world_size} has no labelled sample, but {type(self.objective).__name__} needs one on "
                f"every rank in every batch; draw labelled samples for all of them, or train on one device"
            )

    def on_train_start(self) -> None:
        """Let the teachers of a new run begin with the weights, random or loaded, of those that they follow."""
        if not self.batches_seen:
            for name in self.objective.teachers:
                self.networks[name].load_state_dict(self.networks[self.objective.built_like[name]].state_dict())

    def on_train_epoch_start(self) -> None:
        """Say when nothing can be learnt any more."""
        self.epoch_means = EpochMeans()
        if all(group["lr"] == 0 for optimizer in self.trainer.optimizers for group in optimizer.param_groups):
            rank_zero_warn(
                f"epoch {self.current_epoch}: every learning rate is 0, the schedule has ended; null instead of its "
                f"number of epochs follows --trainer.max_epochs"
            )

    def on_train_epoch_end(self) -> None:
        """Step the schedulers by hand."""
        self.log_means()  # of an epoch that --trainer.max_time has cut short
        self.log("step", float(self.batches_seen))  # the loggers' axis
        schedulers = self.lr_schedulers()
        # PyTorch warns of a network that has not moved yet, but a schedule goes by epochs.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of .lr_scheduler.step")
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers] if schedulers else []:
                scheduler.step()  # type: ignore[call-arg]

    def on_fit_start(self) -> None:
        """Refuse phases that cannot be taken, and say where the schedule does not end with the run.

        Raises:
            UsageError: There is no phase, or one of an unknown network, or a network moves in more than one phase while
                batches are accumulated.
        """
        self.epoch_means = EpochMeans()  # a run that goes on within an epoch does not begin one
        moves = Counter(name for phase in self.objective.phases() for name in (phase.network, *phase.ascending))
        if not moves.keys() or moves.keys() - set(self.trained):
            raise UsageError(
                f"the phases of {type(self.objective).__name__} move {', '.join(moves) or 'nothing'}; expected some of "
                f"its networks: {', '.join(self.trained)}"
            )
        if self.accumulate > 1 and (twice := [name for name, phases in moves.items() if phases > 1]):
            raise UsageError(
                f"--model.accumulate {self.accumulate}: {', '.join(twice)} moves in more than one phase of "
                f"{type(self.objective).__name__}, whose gradients would mix over a group of batches; leave it at 1"
            )
        # Ranks score different numbers of cases, and a broadcast before every forward pass would make them wait for
        # each other; `on_validation_start` broadcasts the buffers once.
        if isinstance(self.trainer.model, nn.parallel.DistributedDataParallel):
            self.trainer.model.broadcast_buffers = False
        schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        notes = [other_length(one, self.trainer.max_epochs) for one in schedulers]
        for note in dict.fromkeys(filter(None, notes)):
            rank_zero_info(note)
