"""The options of transfer learning: what a new run begins with, and what of it moves (SegAN-CAT, section V-C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import nn

from segan_pl.errors import UsageError
from segan_pl.input_adaptation import first_convolution

ONLY_SCORING = ("other_modalities",)


@dataclass(frozen=True)
class TransferOptions:
    """What a new run begins with and what of it moves; and scoring a run on modalities that it was not trained on.

    Attributes:
        init_from: Checkpoint whose weights a new run begins with; optimisers and epochs begin anew. A continued run
            does not read it again.
        init_players: Players that take weights from there; default all of the model.
        adapt_input: What becomes of the input layers when the number of modalities differs: "repeat", "mean", "zero"
            (docs/transfer.md), or refuse the checkpoint. As many modalities are taken over one to one, whatever their
            names; with "zero" by name.
        train: What moves: "segmentor+critic" (the paper's S,D), "segmentor+critic_input" (its S,D_in: of the critic
            only the convolution that reads its input), "segmentor" (the authors' scripts).
        frozen: Patterns of what rests besides, e.g. [segmentor.enc*, "critic.*.bias"].
        thaw_epoch: First epoch, counted from 0, in which all that rested moves; default never.
        other_modalities: For `validate` and `test`: "allow" scores a checkpoint on as many other modalities, named by
            --data.modalities.
    """

    init_from: str | None = None
    init_players: list[str] | None = None
    adapt_input: Literal["refuse", "repeat", "mean", "zero"] = "refuse"
    train: Literal["segmentor+critic", "segmentor+critic_input", "segmentor"] = "segmentor+critic"
    frozen: list[str] | None = None
    thaw_epoch: int | None = None
    other_modalities: Literal["refuse", "allow"] = "refuse"

    @classmethod
    def of(cls, settings: Any) -> TransferOptions:
        """Out of a command's whole settings."""
        return cls(**{field.name: settings[field.name] for field in fields(cls)})

    def require_sense(self, checkpoint: str | None) -> None:
        """Refuse options of `fit` that contradict each other or would do nothing.

        Args:
            checkpoint: --ckpt_path, if given.

        Raises:
            UsageError: One does.
        """
        if self.init_from and checkpoint:
            raise UsageError("--init_from begins a new run, --ckpt_path goes on with one; give one of them")
        if self.init_from is None and self.adapt_input != "refuse":
            raise UsageError(f"--adapt_input {self.adapt_input} needs the checkpoint to adapt: --init_from")
        if self.init_from is None and self.init_players is not None:
            raise UsageError(f"--init_players {self.init_players} needs the checkpoint to take them from: --init_from")
        if self.init_players is not None and not self.init_players:
            raise UsageError("--init_players is empty; name at least one player, or leave out --init_from")


def refuse_out_of_place(arguments: Sequence[str]) -> None:
    """Refuse what was typed for another command; a run's configuration file may hold the options of all.

    Args:
        arguments: The command, then its options.

    Raises:
        UsageError: `fit` with an option of scoring, or `validate` or `test` with one of fit.
    """
    fit = arguments[0] == "fit"
    for field in fields(TransferOptions):
        typed = any(a.partition("=")[0].rstrip("+") == f"--{field.name}" for a in arguments[1:])
        if typed and (field.name in ONLY_SCORING) == fit:
            place = "validate and test" if fit else "fit"
            raise UsageError(f"--{field.name} is an option of {place}, not of {arguments[0]}; leave it out")


def frozen_patterns(options: TransferOptions, players: nn.ModuleDict) -> list[str]:
    """The patterns for `Freezing` that `train` and `frozen` mean for these players; empty where all moves.

    Raises:
        UsageError: `train` names the input of a critic that is not there, or `thaw_epoch` has nothing to thaw.
    """
    patterns: list[str] = []
    critic = dict(players.items()).get("critic")
    if options.train == "segmentor" and critic is not None:
        patterns.append("critic")
    if options.train == "segmentor+critic_input":
        if critic is None:
            raise UsageError("--train segmentor+critic_input: this model has no critic; use --train segmentor")
        patterns.extend(_all_but("critic", critic, first_convolution(critic, "critic")))
    patterns = list(dict.fromkeys([*patterns, *(options.frozen or [])]))
    if options.thaw_epoch is not None and not patterns:
        raise UsageError(f"--thaw_epoch {options.thaw_epoch}, but nothing rests; give --train or --frozen")
    return patterns


def _all_but(player: str, network: nn.Module, layer: str) -> Iterator[str]:
    """Names of everything in a network that has weights or statistics, beside the way to one layer."""
    owner, module = player, network
    for part in layer.split(".") if layer else ():  # a network that is one layer has nothing beside it
        yield from (f"{owner}.{name}" for name, _ in module.named_parameters(recurse=False))
        for name, child in module.named_children():
            if name != part and child.state_dict():
                yield f"{owner}.{name}"
        owner, module = f"{owner}.{part}", module.get_submodule(part)
