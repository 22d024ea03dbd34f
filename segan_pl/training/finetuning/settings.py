"""The options of finetuning: what a new run begins with, and which parts of it move (SegAN-CAT, section IV)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from segan_pl.errors import UsageError
from segan_pl.training.finetuning.input_adaptation import first_convolution
from segan_pl.training.networks import named_parts

INPUT = "input"
# It is an option of `validate` and `test` alone.
SCORING = "other_modalities"


@dataclass(frozen=True)
class FinetuningOptions:
    """What a new run begins with and which parts of it move.

    Attributes:
        init_from: Checkpoint whose weights a new run begins with; optimisers and epochs start from the beginning. A
            continued run does not read it again.
        networks: Those that take weights from there; default all of the model.
        adapt_input: What becomes of the input layers when the number of modalities differs: "repeat", "mean", "zero"
            (docs/finetuning.md), or refuse the checkpoint. As many modalities are taken over one to one, whatever their
            names; with "zero" by name.
        parts: What moves, all else is frozen: names of networks, or of layers in them, with the shell's wildcards.
            NETWORK.input is the convolution that reads a network's input. Default everything.
        frozen: Patterns of what else is frozen, e.g. [segmentor.enc*, "critic.*.bias"].
        unfreeze_epoch: First epoch, counted from 0, in which all that was frozen moves; default never.
    """

    init_from: str | None = None
    networks: list[str] | None = None
    adapt_input: Literal["refuse", "repeat", "mean", "zero"] = "refuse"
    parts: list[str] | None = None
    frozen: list[str] | None = None
    unfreeze_epoch: int | None = None

    def require_sense(self, checkpoint: str | None) -> None:
        """Refuse options that contradict each other or would do nothing.

        Args:
            checkpoint: --ckpt_path, if given.

        Raises:
            UsageError: One does.
        """
        if self.init_from and checkpoint:
            raise UsageError("--finetuning.init_from begins a new run, --ckpt_path goes on with one; give one of them")
        if self.init_from is None and self.adapt_input != "refuse":
            raise UsageError(
                f"--finetuning.adapt_input {self.adapt_input} needs the checkpoint to adapt: --finetuning.init_from"
            )
        if self.init_from is None and self.networks is not None:
            raise UsageError(
                f"--finetuning.networks {self.networks} needs the checkpoint to take them from: --finetuning.init_from"
            )
        if self.networks is not None and not self.networks:
            raise UsageError(
                "--finetuning.networks is empty; name at least one network, or leave out --finetuning.init_from"
            )
        if self.parts is not None and not self.parts:
            raise UsageError("--finetuning.parts is empty: nothing would move; name what moves, or leave it out")


def refuse_out_of_place(arguments: Sequence[str]) -> None:
    """Refuse what was typed for another command; a run's configuration file may hold the options of all.

    Args:
        arguments: The command, then its options.

    Raises:
        UsageError: `fit` with an option of scoring, or `validate` or `test` with one of finetuning.
    """
    command, *typed = arguments
    for argument in typed:
        name = argument.partition("=")[0].rstrip("+")
        if name == f"--{SCORING}" and command == "fit":
            raise UsageError(f"{name} is an option of validate and test, not of fit; leave it out")
        if name.partition(".")[0] == "--finetuning" and command != "fit":
            raise UsageError(f"{name} is an option of fit, not of {command}; leave it out")


def frozen_patterns(options: FinetuningOptions, networks: nn.ModuleDict) -> list[str]:
    """The patterns for `Freezing` that `parts` and `frozen` mean for these networks; empty where all moves.

    Raises:
        UsageError: A part names nothing, or `unfreeze_epoch` has nothing to unfreeze.
    """
    patterns = list(options.frozen or [])
    if options.parts is not None:
        moving: set[str] = set()
        for part in options.parts:
            network, _, inner = part.partition(".")
            if inner == INPUT and network in networks:
                moving.add(f"{network}.{first_convolution(networks[network], network)}".rstrip("."))
                continue
            moving.update(named_parts(networks, part, "--finetuning.parts"))
        patterns = [*_all_but(moving, networks), *patterns]
    if options.unfreeze_epoch is not None and not patterns:
        raise UsageError(
            f"--finetuning.unfreeze_epoch {options.unfreeze_epoch}, but nothing is frozen; give --finetuning.parts or "
            f"--finetuning.frozen"
        )
    return list(dict.fromkeys(patterns))


def _all_but(moving: set[str], module: nn.Module, name: str = "") -> Iterator[str]:
    """The dotted names of everything inside a module that has weights or statistics, except for what moves."""
    for own, child in [*module.named_children(), *module.named_parameters(recurse=False)]:
        inner = f"{name}.{own}".lstrip(".")
        if inner in moving:
            continue
        if not isinstance(child, nn.Module):
            yield inner
        elif any(one.startswith(f"{inner}.") for one in moving):
            yield from _all_but(moving, child, inner)
        elif child.state_dict():
            yield inner
