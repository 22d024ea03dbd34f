"""Beginning a run with another run's weights: strict, by player, the input layer adapted where that is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from segan_pl.checkpoint_file import CheckpointError, read_checkpoint, refuse_folder
from segan_pl.checkpoint_format import FORMAT, KEY, CheckpointMismatchError, require_same_weights
from segan_pl.data.labels import label_scheme
from segan_pl.errors import UsageError, nearest
from segan_pl.input_adaptation import (
    InputChannel,
    adapt_weights,
    first_convolution,
    mixing,
    segmentor_inputs,
)
from segan_pl.transfer import TransferOptions

if TYPE_CHECKING:
    from segan_pl.system import AdversarialSegmentation

Weights = dict[str, Tensor]
PLAYERS, AVERAGED = "players.", "averaged.module."


@dataclass(frozen=True)
class Source:
    """A checkpoint as another run begins with it.

    Attributes:
        path: Where it lies.
        digest: Of its bytes.
        epoch: The last one that it was trained for, counted from 0.
        modalities: What it was trained on.
        labels: Name of its label scheme.
        players: By player, its weights by name: of the segmentor the averaged ones where the run kept them, as they are
            what was scored.
    """

    path: Path
    digest: str
    epoch: int
    modalities: tuple[str, ...]
    labels: str
    players: dict[str, Weights]


def read_source(path: str) -> Source:
    """Read the checkpoint of --init_from.

    Raises:
        UsageError: There is no such file, or it is a folder.
        CheckpointError: It is damaged, or none of ours that this version reads.
    """
    place = Path(path).expanduser()
    refuse_folder(place, "--init_from ")
    if not place.is_file():
        raise UsageError(f"--init_from {path}: no such checkpoint; give one of a run's checkpoints/")
    checkpoint = read_checkpoint(place)
    ours = checkpoint.get(KEY)
    if ours is None or ours.get("format") != FORMAT or not (data := ours.get("data")):
        raise CheckpointError(f"--init_from {path}: no checkpoint of segan_pl that this version reads; train anew")
    return Source(
        path=place.resolve(),
        digest=hashlib.blake2b(place.read_bytes(), digest_size=16).hexdigest(),
        epoch=int(checkpoint["epoch"]),
        modalities=tuple(data["modalities"]),
        labels=label_scheme(data["labels"], data.get("native_labels")).name,
        players=_by_player(checkpoint["state_dict"]),
    )


def _by_player(state: Weights) -> dict[str, Weights]:
    """A checkpoint's weights by player, names as in the player itself, also those of a compiled run."""
    players: dict[str, Weights] = {}
    averaged: Weights = {}
    for key, value in state.items():
        key = key.replace("_orig_mod.", "")
        if key.startswith(PLAYERS):
            player, _, name = key.removeprefix(PLAYERS).partition(".")
            players.setdefault(player, {})[name] = value
        elif key.startswith(AVERAGED):
            averaged[key.removeprefix(AVERAGED)] = value
    return {**players, **({"segmentor": averaged} if averaged else {})}


def initialise(system: AdversarialSegmentation, options: TransferOptions) -> list[str]:
    """Give a new system the weights of `init_from`; nothing is drawn, optimisers and epochs are untouched.

    The averaged copy of the segmentor begins with them too. What the run began with is noted in its checkpoints.

    Returns:
        Lines that say what was taken, and what differs.

    Raises:
        UsageError: No such file or player, or another number of modalities without `adapt_input`.
        CheckpointError: The file is damaged or none of ours.
        CheckpointMismatchError: Weights do not fit; with the differing keys.
    """
    assert options.init_from is not None
    source = read_source(options.init_from)
    names = options.init_players or list(system.players)
    _require_players(names, system, source)
    fitting = {name: _fitting(name, system, source, options.adapt_input) for name in names}
    for name, weights in fitting.items():  # only once all fit
        system.players[name].load_state_dict(weights)
    if system.averaged is not None and "segmentor" in names:
        system.averaged.module.load_state_dict(fitting["segmentor"])
    system.initialised_from = {
        "path": str(source.path),
        "digest": source.digest,
        "epoch": source.epoch,
        "modalities": list(source.modalities),
        "players": list(names),
    }
    return [f"{' and '.join(names)} begin with epoch {source.epoch} of {source.path}", *_notes(system, source, options)]


def _require_players(names: Sequence[str], system: AdversarialSegmentation, source: Source) -> None:
    for name in names:
        if name not in system.players:
            raise UsageError(f"--init_players {name}: not in this model; {nearest(name, system.players)}")
        if name not in source.players:
            raise UsageError(
                f"--init_from {source.path}: has no {name}, only {', '.join(source.players)}; "
                f"give --init_players [{', '.join(player for player in system.players if player in source.players)}]"
            )


def _fitting(name: str, system: AdversarialSegmentation, source: Source, rule: Any) -> Weights:
    """A player's weights, its input layer adapted where that is needed and asked for."""
    player, weights = system.players[name], source.players[name]
    before, now = source.modalities, system.modalities
    if len(before) != len(now) and rule == "refuse":
        raise UsageError(
            f"--init_from {source.path} was trained on {len(before)} modalities ({', '.join(before)}), the "
            f"configuration has {len(now)} ({', '.join(now)}); say what becomes of the input layers: "
            f"--adapt_input repeat, mean or zero"
        )
    if rule != "refuse":
        weights = _adapted(name, system, source, rule)
    try:
        require_same_weights(player, weights)
    except CheckpointMismatchError as error:
        planes = name == "segmentor" and rule == "refuse" and system.presence == "channels"
        remedy = "; to add presence planes, --adapt_input zero" if planes else ""
        raise CheckpointMismatchError(f"--init_from {source.path}: {name}: {error}{remedy}") from None
    return weights


def _adapted(name: str, system: AdversarialSegmentation, source: Source, rule: Any) -> Weights:
    """A player's weights, mixed anew if its input channels do not show what the source's did; else as they are."""
    player, weights = system.players[name], source.players[name]
    layer = first_convolution(player, name)
    if _kernel(layer) not in weights:  # another network, whose keys are listed then
        return weights
    same_shape = weights[_kernel(layer)].shape == player.get_parameter(_kernel(layer)).shape
    if same_shape and list(source.modalities) == list(system.modalities):
        return weights  # also of a network whose channels `_inputs` cannot name, as 2.5-D
    there, here = _inputs(name, system, source)
    if there == here and not _by_name(system, source, rule):
        return weights  # compared by what they show: two modalities are as many as one and its presence plane
    mixed = mixing(there, here, rule, source_names=source.modalities, target_names=system.modalities)
    return adapt_weights(player, weights, mixed, layer)


def _kernel(layer: str) -> str:
    """The name of a layer's kernel; a network that is one layer has no name for it."""
    return f"{layer}.weight".removeprefix(".")


def _by_name(system: AdversarialSegmentation, source: Source, rule: Any) -> bool:
    """Whether as many modalities are to be found again by name, not taken over one to one."""
    return rule == "zero" and list(source.modalities) != list(system.modalities)


def _inputs(
    name: str, system: AdversarialSegmentation, source: Source
) -> tuple[list[InputChannel], list[InputChannel]]:
    """What a player's input channels show, in the source and here.

    Raises:
        UsageError: A segmentor's are neither its modalities nor these and their presence planes; or only the source's
            has presence planes.
    """
    before, now = len(source.modalities), len(system.modalities)
    labels = len(system.scheme.channels)
    if name == "critic":
        there, here = (system.objective.critic_inputs(modalities, labels) for modalities in (before, now))
        return [InputChannel(*one) for one in there], [InputChannel(*one) for one in here]
    layer = first_convolution(system.players[name], name)
    channels = (
        source.players[name][_kernel(layer)].shape[1],
        system.players[name].get_parameter(_kernel(layer)).shape[1],
    )
    known = [segmentor_inputs(m, c) for m, c in zip((before, now), channels, strict=True)]
    if known[0] is None or known[1] is None:
        raise UsageError(
            f"--adapt_input: the {name} reads {channels[0]} channels of {before} modalities in {source.path} and "
            f"{channels[1]} of {now} here; expected as many as modalities, or twice as many with presence planes"
        )
    if known[0][-1].presence and not known[1][-1].presence:
        raise UsageError(f"--init_from {source.path}: its {name} reads presence planes; give --model.presence channels")
    return known[0], known[1]


def _notes(system: AdversarialSegmentation, source: Source, options: TransferOptions) -> list[str]:
    """What of the source differs from the new run."""
    notes = []
    before, now = list(source.modalities), system.modalities
    if len(before) != len(now) or _by_name(system, source, options.adapt_input):
        notes.append(f"input layers: {', '.join(before)} -> {', '.join(now)} by {options.adapt_input}")
    elif before != now:
        notes.append(f"note: trained on {', '.join(before)}, now on {', '.join(now)}; inputs are taken over one to one")
    if source.labels != system.scheme.name:
        notes.append(f"note: trained on labels {source.labels}, now {system.scheme.name}; outputs are taken one to one")
    return notes
