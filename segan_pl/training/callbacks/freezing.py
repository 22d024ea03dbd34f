"""Freezing parts of networks by name: no gradient, fixed statistics, and unfreezing at an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import accumulate, groupby
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from segan_pl.errors import UsageError
from segan_pl.training.networks import named_parts


class Freezing(Callback):
    """Freezes parts of a system's networks while it is fitted, until an epoch.

    What is frozen gets no gradient, so no step, no weight decay, no clipping and no optimiser state, and its running
    statistics stay as they are (Keras' meaning of a frozen batch norm, which SegAN-CAT's authors used). All parameters
    are in the optimisers from the start, so that nothing is added when they unfreeze. It begins at the training's
    start. Several ranks average the gradients of what moves in a step (`training.ddp.PhaseDDP`), so that frozen
    parameters cost them nothing and later ones need no announcement. What is frozen follows from the arguments and the
    epoch, so a checkpoint holds nothing of it and a resumed run freezes what an uninterrupted one does.

    Args:
        frozen: Dotted names of networks, modules and parameters, with the wildcards of the shell: "critic",
            "critic.enc2", "segmentor.dec*", "critic.*.bias"; `*` also matches dots. A module means all in it.
        unfreeze_epoch: The first epoch, counted from 0, in which all of it moves; None for never.

    Raises:
        UsageError: `frozen` is empty, or `unfreeze_epoch` is below 1; at the fit's start, a pattern that names nothing.
    """

    def __init__(self, frozen: Sequence[str], unfreeze_epoch: int | None = None) -> None:
        if not frozen:
            raise UsageError("Freezing: nothing to freeze; give patterns such as 'critic' or 'segmentor.dec*'")
        if unfreeze_epoch is not None and unfreeze_epoch < 1:
            raise UsageError(
                f"--finetuning.unfreeze_epoch {unfreeze_epoch}: expected at least 1; to freeze nothing, leave it out"
            )
        self.patterns = tuple(frozen)
        self.unfreeze_epoch = unfreeze_epoch
        self.frozen: Frozen | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse patterns that name nothing, before anything is prepared."""
        find_frozen(cast(nn.ModuleDict, pl_module.networks), self.patterns)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what moves and what is frozen, and freeze; after Lightning's warning about modules in evaluation mode.

        The epoch of a resumed run is known only now.
        """
        networks = cast(nn.ModuleDict, pl_module.networks)
        freezes = self.unfreeze_epoch is None or trainer.current_epoch < self.unfreeze_epoch
        frozen = find_frozen(networks, self.patterns) if freezes else Frozen({}, ())
        for line in moving_and_frozen(networks, frozen):
            rank_zero_info(line)
        if freezes:
            self.frozen = frozen
            frozen.freeze()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Unfreeze when it is time."""
        if self.unfreeze_epoch is not None and self.frozen is not None and trainer.current_epoch >= self.unfreeze_epoch:
            self._end()
            rank_zero_info(f"epoch {trainer.current_epoch}: unfroze {', '.join(self.patterns)}")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Unfreeze what is still frozen, so that another fit of the same system is free to move it."""
        if stage == "fit":
            self._end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The same for a fit that was cut short: Lightning calls no `teardown` then."""
        self._end()

    def _end(self) -> None:
        frozen, self.frozen = self.frozen, None
        if frozen is not None:
            frozen.unfreeze()


@dataclass(frozen=True)
class Frozen:
    """What is frozen.

    Attributes:
        parameters: By dotted name, network first; those that moved before.
        statistics: Modules whose buffers would move in training although their parameters are frozen.
    """

    parameters: Mapping[str, nn.Parameter]
    statistics: Sequence[nn.Module]

    def freeze(self) -> None:
        """No gradient, and evaluation mode for good: `.train()` on a module or anything around it changes nothing."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        for module in self.statistics:
            module.train = partial(_stay, module)  # type: ignore[method-assign]  # survives deepcopy and pickle
            module.training = False

    def unfreeze(self) -> None:
        """Everything moves again, and `.train()` is the module's own."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        for module in self.statistics:
            del module.__dict__["train"]
            module.train()


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """In place of `module.train`: stay in evaluation mode, pass the mode on to what is inside."""
    module.training = False
    for child in module.children():
        child.train(mode)
    return module


def find_frozen(networks: nn.Module, patterns: Sequence[str]) -> Frozen:
    """What the patterns of `Freezing` mean in these networks.

    Raises:
        UsageError: A pattern names no module and no parameter; with the nearest names.
    """
    for pattern in patterns:
        named_parts(networks, pattern, "--finetuning.frozen")

    def is_frozen(name: str) -> bool:
        # A name, and what it lies in: "critic", "critic.enc2", "critic.enc2.conv".
        owners = accumulate(name.split("."), "{}.{}".format)
        return any(fnmatchcase(part, pattern) for part in owners if part for pattern in patterns)

    frozen = {name: parameter for name, parameter in networks.named_parameters() if is_frozen(name)}
    chosen = {id(parameter) for parameter in frozen.values()}
    statistics = []
    for name, module in networks.named_modules():
        own = [id(parameter) for parameter in module.parameters(recurse=False)]
        # Without parameters of its own, a module is frozen by its name.
        still = chosen.issuperset(own) if own else is_frozen(name)
        if still and any(True for _ in module.buffers(recurse=False)):
            statistics.append(module)
    return Frozen({name: one for name, one in frozen.items() if one.requires_grad}, statistics)


def moving_and_frozen(networks: nn.ModuleDict, frozen: Frozen) -> list[str]:
    """A line for each network, e.g. "critic: 1,088 parameters move (input), 656,128 are frozen (enc2, enc3)"."""
    lines = []
    for name, network in networks.items():
        sizes = {f"{name}.{part}": one.numel() for part, one in network.named_parameters() if one.requires_grad}
        still = {part: size for part, size in sizes.items() if part in frozen.parameters}
        moving = {part: size for part, size in sizes.items() if part not in still}
        if still and moving:
            # The first-level layers of the parameters' names, in order.
            moving_layers, still_layers = (
                ", ".join(layer for layer, _ in groupby(part.split(".")[1] for part in parts))
                for parts in (moving, still)
            )
            said = (
                f"{sum(moving.values()):,} parameters move ({moving_layers}), {sum(still.values()):,} are frozen "
                f"({still_layers})"
            )
        else:
            said = f"{sum(sizes.values()):,} parameters {'are frozen' if still else 'move'}"
        lines.append(f"{name}: {said}")
    return lines


def frozen_at_random(frozen: Iterable[str], loaded: Iterable[str]) -> list[str]:
    """A note of the layers that will be frozen with random weights, if there are any.

    Args:
        frozen: Dotted names of parameters, network first.
        loaded: Dotted names of the networks and parts that take weights.
    """
    filled = tuple(f"{part}." for part in loaded)
    layers = dict.fromkeys(".".join(name.split(".")[:2]) for name in frozen if not name.startswith(filled))
    if not layers:
        return []
    return [f"note: frozen with random weights: {', '.join(layers)}; --finetuning.init_from gives trained ones"]
