"""What is done to a player as a whole: resting, ascending, averaging, compiling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


@contextmanager
def only(movers: Sequence[str], players: Mapping[str, nn.Module]) -> Iterator[None]:
    """Inside, only the movers' parameters receive gradients; frozen ones stay frozen."""
    resting = [
        parameter
        for name, player in players.items()
        if name not in movers
        for parameter in player.parameters()
        if parameter.requires_grad
    ]
    for parameter in resting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in resting:
            parameter.requires_grad_(True)


class RunningMean:
    """Moves averaged weights towards the present ones; the first steps weigh more, 1 - (1 + n) / (10 + n)."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(self, mean: Any, new: Any, number: Any) -> None:
        """Average in place, as torch's AveragedModel asks for it."""
        keep = min(self.decay, (1 + int(number)) / (10 + int(number)))
        torch._foreach_lerp_(mean, new, 1 - keep)


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights; its buffers are the network's own."""
    return AveragedModel(network, multi_avg_fn=RunningMean(decay)).requires_grad_(False)


@contextmanager
def one_scale(scaler: Any) -> Iterator[None]:
    """Inside, float16's gradient scaler keeps its scale; afterwards it is updated once, if any player has stepped.

    Lightning updates it after every optimiser's step, which would unscale the next player's gradients by another number
    than they were scaled by.
    """
    if scaler is None:
        yield
        return
    update, stepped = scaler.update, []
    scaler.update = lambda *_, **__: stepped.append(True)
    try:
        yield
    finally:
        scaler.update = update
    if stepped:
        update()


def negate_gradients(player: nn.Module) -> None:
    """Turn descent into ascent."""
    gradients = [parameter.grad for parameter in player.parameters() if parameter.grad is not None]
    if gradients:
        torch._foreach_neg_(gradients)


def to_channels_last(network: nn.Module) -> None:
    """Weights of 2-D and 3-D convolutions in the memory format whose channels come last, in place."""
    for parameter in network.parameters():
        if parameter.ndim in MEMORY_FORMATS:
            parameter.data = parameter.data.to(memory_format=MEMORY_FORMATS[parameter.ndim])


MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def compile_or_stay_eager(networks: Iterable[nn.Module]) -> None:
    """torch.compile in place (state-dict keys stay); a failing graph runs eagerly, which dynamo then logs."""
    import torch._dynamo

    torch._dynamo.config.suppress_errors = True
    for network in networks:
        network.compile()


def has_gradient(player: nn.Module) -> bool:
    """Whether any parameter has one."""
    return any(parameter.grad is not None for parameter in player.parameters())
