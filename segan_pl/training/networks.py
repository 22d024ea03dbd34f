"""What is done to a network as a whole: ascending, averaging, compiling; and how a configuration names and makes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError, nearest
from segan_pl.nets.spectral_norm import add_spectral_norm
from segan_pl.objectives.base import Objective


class NetworkFactory(Protocol):
    """A network of the configuration, but for the channels, which follow from the data and the objective."""

    def __call__(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """Build it; a network without one of these parameters is called without (see `Objective.channels`)."""


def require_networks(objective: str, wanted: Sequence[str], given: Collection[str]) -> None:
    """Refuse a configuration that lacks a network of the objective, or has one that it does not know.

    Raises:
        UsageError: It does.
    """
    lacking = [name for name in wanted if name not in given]
    surplus = [name for name in given if name not in wanted]
    found = [*([f"no {', '.join(lacking)}"] if lacking else []), *([f"also {', '.join(surplus)}"] if surplus else [])]
    if found:
        raise UsageError(
            f"--model.networks: {objective} trains {', '.join(wanted)}; the configuration gives {' and '.join(found)}"
        )


def require_named(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse settings for a name that is no network.

    Raises:
        UsageError: There is one; with the nearest name.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise UsageError(f"--model.{option}.{name}: no such network; {nearest(name, names)}")


def require_resolutions_read(networks: Mapping[str, nn.Module], objective: Objective) -> None:
    """Refuse logits at several resolutions that no loss reads.

    Raises:
        UsageError: A network that is no segmentor gives them, or the objective compares one resolution alone.
    """
    for name, network in networks.items():
        lower = getattr(network, "resolutions", 1) - 1
        segments = objective.built_like.get(name, name) == "segmentor"
        if lower and not (segments and objective.supervises_deeply()):
            raise UsageError(
                f"--model.networks.{name}.init_args.deep_supervision {lower} does nothing in "
                f"{type(objective).__name__}, which has no loss of labels at lower resolutions; give 0"
            )


def unreached_note(networks: Mapping[str, nn.Module], preparation: Mapping[str, Any]) -> str | None:
    """That a generator whose images end in tanh cannot make all that a preparation (its fields) does; None if it can.

    The segmentor then tells its images by their range alone.
    """
    name = next((name for name, one in networks.items() if isinstance(getattr(one, "bound", None), nn.Tanh)), None)
    within = None if name is None else Preparation.from_dict(preparation).intensities
    if name is None or (within is not None and within[0] >= -1 and within[1] <= 1):
        return None
    found = "are not bounded" if within is None else f"lie in {[*within]}"
    return (
        f"the {name} makes intensities in [-1, 1] and the prepared ones {found}; give "
        f"--model.networks.{name}.init_args.bounded false, or -c gt_gan_preparation"
    )


def named_parts(networks: nn.Module, pattern: str, option: str) -> list[str]:
    """The dotted names of the modules and parameters that a pattern means, network first.

    Args:
        networks: By name.
        pattern: A name with the shell's wildcards, where `*` also matches dots, e.g. "segmentor.enc*".
        option: Named in the error.

    Raises:
        UsageError: It names none; with the nearest names.
    """
    modules = [name for name, _ in networks.named_modules() if name]
    names = [*modules, *(name for name, _ in networks.named_parameters())]
    found = [name for name in dict.fromkeys(names) if fnmatchcase(name, pattern)]
    # The hint is a network or one of its layers; for a longer name it is one of all parts.
    if not found:
        depth = min(max(2, pattern.count(".") + 1), 3)
        known = [name for name in modules if name.count(".") < depth]
        raise UsageError(f"{option} {pattern}: names no part of the networks; {nearest(pattern, known)}")
    return found


def spectrally_normed(networks: nn.ModuleDict, names: Sequence[str], objective: Objective) -> None:
    """Give networks spectral norm, in place.

    Raises:
        UsageError: There is no such network, it is the segmentor or one without an entry of its own, it has no layer
            to normalise, it is a critic that never learns, or the objective clamps its parameters.
    """
    require_named("spectral_norm", names, networks)
    for name in dict.fromkeys(names):
        if name == "segmentor" or name in objective.built_like:
            raise UsageError(
                f"--model.spectral_norm {name}: expected a critic or another network of training alone; the segmentor "
                f"is built without it for prediction, and so is what is built like it"
            )
        if name == "critic" and getattr(objective, "idle", False):
            raise UsageError(
                f"--model.spectral_norm {name}: does nothing in a {type(objective).__name__} whose critic never learns "
                f"(adversarial_weight 0, or adversarial code); leave it out, or let the critic learn"
            )
        if name in getattr(objective, "clamps", ()):
            raise UsageError(
                f"--model.spectral_norm {name}: {type(objective).__name__} clamps its weights, which are divided by "
                f"their norm afterwards, so that it would do nothing; give --model.objective.init_args.clip none"
            )
        if not add_spectral_norm(networks[name]):
            raise UsageError(
                f"--model.spectral_norm {name}: has no convolution or linear layer whose weight is not normed already"
            )


def require_compilable(objective: Objective) -> None:
    """Refuse torch.compile where a loss needs second derivatives, which compiled networks do not have.

    Raises:
        UsageError: It does.
    """
    if needs_second_derivatives(objective):
        raise UsageError(
            "--model.compile true: stabilisers.r1 needs second derivatives, which torch.compile does not give; leave "
            "one of them out"
        )


def require_syncable(networks: Mapping[str, nn.Module], objective: Objective) -> None:
    """Refuse batch norm over several ranks where a loss needs second derivatives of it, which PyTorch does not have.

    Args:
        networks: All of the objective; R1 is of the critic, or of the segmentor where that is the critic.
        objective: Which trains them.

    Raises:
        UsageError: It does.
    """
    name = "critic" if "critic" in networks else "segmentor"
    if needs_second_derivatives(objective) and any(isinstance(one, _BatchNorm) for one in networks[name].modules()):
        raise UsageError(
            f"--trainer.sync_batchnorm true: stabilisers.r1 needs second derivatives of the {name}, whose batch norm "
            f"has none over several ranks; leave one of them out, or give the {name} another norm"
        )


def needs_second_derivatives(objective: Objective) -> bool:
    """Whether a loss of the objective is of a gradient, as R1 is."""
    return getattr(getattr(objective, "stabilisers", None), "r1", None) is not None


class RunningMean:
    """Moves averaged weights towards the current ones; the first steps weigh more, 1 - (1 + n) / (10 + n)."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(self, mean: Any, new: Any, number: Any) -> None:
        """Average in place, as torch's AveragedModel asks for it."""
        keep = min(self.decay, (1 + int(number)) / (10 + int(number)))
        torch._foreach_lerp_(mean, new, 1 - keep)


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights; its buffers are the network's own."""
    return AveragedModel(network, multi_avg_fn=RunningMean(decay)).requires_grad_(False)


def averaged_copies(networks: nn.ModuleDict, averaging: float | Mapping[str, float] | None) -> nn.ModuleDict:
    """The averaged copy of each network that has a decay; a number is the segmentor's.

    Raises:
        UsageError: A decay is out of range, or of a network that there is not.
    """
    decays = {"segmentor": averaging} if isinstance(averaging, int | float) else averaging or {}
    require_named("averaging", decays, networks)
    if wrong := {name: decay for name, decay in decays.items() if not 0 <= decay < 1}:
        raise UsageError(f"--model.averaging {wrong}: expected decays from 0 (no average) to below 1, such as 0.99")
    return nn.ModuleDict({name: averaged_copy(networks[name], decay) for name, decay in decays.items() if decay})


@contextmanager
def one_scale(scaler: Any) -> Iterator[None]:
    """Inside, float16's gradient scaler keeps its scale; afterwards it is updated once, if any network has stepped.

    Lightning updates it after every optimiser's step, which would unscale the next network's gradients by
    another number than they were scaled by.
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


def negate_gradients(network: nn.Module) -> None:
    """Make the next step go uphill."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if gradients:
        torch._foreach_neg_(gradients)


def compile_or_stay_eager(networks: Iterable[nn.Module]) -> None:
    """torch.compile in place (state-dict keys stay); a failing graph runs eagerly, which dynamo then logs."""
    import torch._dynamo

    torch._dynamo.config.suppress_errors = True
    for network in networks:
        network.compile()
