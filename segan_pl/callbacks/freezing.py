"""Freezing parts of players by name: no gradient, statistics at rest, and a thaw at an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from segan_pl.errors import UsageError, nearest


class Freezing(Callback):
    """Keeps parts of a system's players at rest while it is fitted, until they thaw.

    What rests gets no gradient, so no step, no weight decay, no clipping and no optimiser state, and its running
    statistics stand still (Keras' meaning of a frozen batch norm, which SegAN-CAT's authors used). All parameters are
    in the optimisers from the start, so that nothing is added at the thaw. It rests from the training's start, when
    DDP has wrapped the players: its reducer then knows the parameters that thaw later. What rests follows from the
    arguments and the epoch, so a checkpoint holds nothing of it and a resumed run rests as an uninterrupted one.

    Args:
        frozen: Dotted names of players, modules and parameters, with the wildcards of the shell: "critic",
            "critic.enc2", "segmentor.dec*", "critic.*.bias"; `*` also stands for dots. A module means all in it.
        thaw_epoch: The first epoch, counted from 0, in which all of it moves; None for never.

    Raises:
        UsageError: `frozen` is empty, or `thaw_epoch` is below 1; at the fit's start, a pattern that names nothing.
    """

    def __init__(self, frozen: Sequence[str], thaw_epoch: int | None = None) -> None:
        if not frozen:
            raise UsageError("Freezing: nothing to freeze; give patterns such as 'critic' or 'segmentor.dec*'")
        if thaw_epoch is not None and thaw_epoch < 1:
            raise UsageError(f"--thaw_epoch {thaw_epoch}: expected at least 1; to freeze nothing, leave it out")
        self.frozen = tuple(frozen)
        self.thaw_epoch = thaw_epoch
        self.rest: Rest | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse patterns that name nothing, before anything is prepared."""
        find_rest(cast(nn.ModuleDict, pl_module.players), self.frozen)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what moves and what rests, and freeze; later than Lightning's warning about modules in evaluation mode.

        The epoch of a resumed run is known only now.
        """
        players = cast(nn.ModuleDict, pl_module.players)
        rests = self.thaw_epoch is None or trainer.current_epoch < self.thaw_epoch
        rest = find_rest(players, self.frozen) if rests else Rest({}, ())
        for line in moving_and_resting(players, rest):
            rank_zero_info(line)
        if rests:
            self.rest = rest
            rest.begin()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Thaw when it is time."""
        if self.rest is not None and self.thaw_epoch is not None and trainer.current_epoch >= self.thaw_epoch:
            self._end()
            rank_zero_info(f"epoch {trainer.current_epoch}: thawed {', '.join(self.frozen)}")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of what never thawed, so that another fit of the same system is free to move it."""
        if stage == "fit":
            self._end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The same for a fit that was cut short: Lightning calls no `teardown` then."""
        self._end()

    def _end(self) -> None:
        rest, self.rest = self.rest, None
        if rest is not None:
            rest.end()


@dataclass(frozen=True)
class Rest:
    """What a freezing holds still.

    Attributes:
        parameters: By dotted name, player first; those that moved before.
        statistics: Modules whose buffers would move in training although their parameters rest.
    """

    parameters: Mapping[str, nn.Parameter]
    statistics: Sequence[nn.Module]

    def begin(self) -> None:
        """No gradient, and evaluation mode for good: `.train()` on a module or anything around it changes nothing."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        for module in self.statistics:
            module.train = partial(_stay, module)  # type: ignore[method-assign]  # survives deepcopy and pickle
            module.training = False

    def end(self) -> None:
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


def find_rest(players: nn.Module, patterns: Sequence[str]) -> Rest:
    """What the patterns of `Freezing` mean in these players.

    Raises:
        UsageError: A pattern names no module and no parameter; with the nearest names.
    """
    modules = {name: module for name, module in players.named_modules() if name}
    parameters = dict(players.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in (*modules, *parameters)):
            raise UsageError(f"frozen {pattern!r} names no part of the networks; {_nearest(pattern, modules)}")

    def rests(name: str) -> bool:
        return any(fnmatchcase(part, pattern) for part in _with_owners(name) for pattern in patterns)

    resting = {name: parameter for name, parameter in parameters.items() if rests(name)}
    chosen = {id(parameter) for parameter in resting.values()}
    statistics = [
        module
        for name, module in modules.items()
        if any(True for _ in module.buffers(recurse=False)) and _all_rest(module, chosen, otherwise=rests(name))
    ]
    return Rest({name: one for name, one in resting.items() if one.requires_grad}, statistics)


def _with_owners(name: str) -> Iterator[str]:
    """A dotted name, then what it lies in: "critic.enc2.conv", "critic.enc2", "critic"."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _all_rest(module: nn.Module, chosen: set[int], *, otherwise: bool) -> bool:
    """Whether all of a module's own parameters rest; `otherwise` for a module that has none."""
    own = [id(parameter) for parameter in module.parameters(recurse=False)]
    return chosen.issuperset(own) if own else otherwise


def _nearest(pattern: str, modules: Mapping[str, nn.Module]) -> str:
    """A hint for a pattern: among the players and their layers, or among everything for a longer name."""
    depth = max(2, pattern.count(".") + 1)
    return nearest(pattern, [name for name in modules if name.count(".") < min(depth, 3)])


def moving_and_resting(players: nn.ModuleDict, rest: Rest) -> list[str]:
    """A line a player, e.g. "critic: 1,088 parameters move (input), 656,128 at rest (enc2, enc3)"."""
    return [f"{name}: {_moving_and_resting(name, player, rest)}" for name, player in players.items()]


def _moving_and_resting(player: str, network: nn.Module, rest: Rest) -> str:
    sizes = {f"{player}.{name}": one.numel() for name, one in network.named_parameters() if one.requires_grad}
    resting = {name: size for name, size in sizes.items() if name in rest.parameters}
    moving = {name: size for name, size in sizes.items() if name not in resting}
    if not resting:
        return f"{sum(moving.values()):,} parameters move"
    if not moving:
        return f"{sum(resting.values()):,} parameters at rest"
    return (
        f"{sum(moving.values()):,} parameters move ({_layers(moving)}), "
        f"{sum(resting.values()):,} at rest ({_layers(resting)})"
    )


def _layers(names: Mapping[str, int]) -> str:
    """The first-level layers of parameters' names, in order."""
    return ", ".join(layer for layer, _ in groupby(name.split(".")[1] for name in names))
