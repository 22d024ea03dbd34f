"""Beginning a run with another run's weights: strict, by network, the input layer adapted where that is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from segan_pl.data.labels import label_scheme
from segan_pl.errors import UsageError, nearest
from segan_pl.inference.checkpoint_file import (
    CheckpointError,
    described_data,
    own_part,
    read_checkpoint,
    refuse_folder,
    weights_of,
)
from segan_pl.training.checkpoint import (
    CheckpointMismatchError,
    SavedSystem,
    as_typed,
    differing_preparation,
    require_same_weights,
)
from segan_pl.training.finetuning.input_adaptation import (
    InputChannel,
    adapt_weights,
    convolutions,
    first_convolution,
    mixing,
    multiplied_out,
    segmentor_inputs,
    taken_apart,
)
from segan_pl.training.finetuning.settings import FinetuningOptions

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """A checkpoint as another run begins with it.

    Attributes:
        path: Where it lies.
        digest: Of its bytes.
        epoch: The last one that it was trained for, counted from 0.
        modalities: What it was trained on.
        labels: Name of its label scheme.
        preparation: Of its volumes, as a checkpoint describes it; empty where it does not.
        networks: By network, its weights by name: the averaged ones where the run kept them, as those of the segmentor
            are what was scored.
    """

    path: Path
    digest: str
    epoch: int
    modalities: tuple[str, ...]
    labels: str
    networks: dict[str, Weights]
    preparation: Mapping[str, Any] = field(default_factory=dict)


def read_source(path: str) -> Source:
    """Read the checkpoint of --finetuning.init_from.

    Raises:
        UsageError: There is no such file, or it is a folder.
        CheckpointError: It is damaged, or none of ours that this version reads.
    """
    place = Path(path).expanduser()
    refuse_folder(place, "--finetuning.init_from ")
    if not place.is_file():
        raise UsageError(f"--finetuning.init_from {path}: no such checkpoint; give one of a run's checkpoints/")
    try:
        checkpoint = read_checkpoint(place)
    except CheckpointError as error:
        raise UsageError(f"--finetuning.init_from {error}") from error
    data = described_data(own_part(checkpoint, f"--finetuning.init_from {path}"), f"--finetuning.init_from {path}")
    state = checkpoint["state_dict"]
    names = dict.fromkeys(key.split(".")[1] for key in state if key.startswith("networks."))
    return Source(
        path=place.resolve(),
        digest=hashlib.blake2b(place.read_bytes(), digest_size=16).hexdigest(),
        epoch=int(checkpoint["epoch"]),
        modalities=tuple(data["modalities"]),
        labels=label_scheme(data["labels"], data.get("native_labels")).name,
        networks={name: weights_of(name, state) for name in names},
        preparation=data.get("preparation") or {},
    )


def initialise(
    system: SavedSystem, options: FinetuningOptions, preparation: Mapping[str, Any] | None = None
) -> list[str]:
    """Give a new system the weights of `init_from`; nothing is drawn, optimisers and epochs are untouched.

    An averaged copy begins with them too. What the run began with is noted in its checkpoints.

    Args:
        system: Of the new run.
        options: Where the weights come from, and which are taken.
        preparation: Of the new run's volumes, as a checkpoint describes it; None leaves it uncompared.

    Returns:
        Lines that say what was taken, and what differs.

    Raises:
        UsageError: No such file or network, or another number of modalities without `adapt_input`.
        CheckpointError: The file is damaged or none of ours.
        CheckpointMismatchError: Weights do not fit; with the differing keys.
    """
    assert options.init_from is not None
    source = read_source(options.init_from)
    names = options.networks or system.trained
    for name in names:
        if name not in system.networks:
            raise UsageError(f"--finetuning.networks {name}: not in this model; {nearest(name, system.networks)}")
        if name not in source.networks:
            raise UsageError(
                f"--finetuning.init_from {source.path}: has no {name}, only {', '.join(source.networks)}; "
                f"give --finetuning.networks [{', '.join(one for one in system.networks if one in source.networks)}]"
            )
    fitting = {name: _fitting(name, system, source, options.adapt_input) for name in names}
    for name, weights in fitting.items():  # only once all fit
        system.networks[name].load_state_dict(weights)
        if name in system.averaged:
            system.averaged[name].get_submodule("module").load_state_dict(weights)
    system.began = True
    system.initialised_from = {
        "path": str(source.path),
        "digest": source.digest,
        "epoch": source.epoch,
        "modalities": list(source.modalities),
        "networks": list(names),
    }
    first = f"{' and '.join(names)} begin with epoch {source.epoch} of {source.path}"
    notes = _notes(system, source, options)
    if source.preparation and preparation is not None:
        former, present = differing_preparation(source.preparation, preparation)
        if former:
            notes.append(f"note: trained on volumes prepared with {as_typed(former)}, now {as_typed(present)}")
    return [first, *notes]


def _fitting(name: str, system: SavedSystem, source: Source, rule: Any) -> Weights:
    """A network's weights, its input layer adapted where that is needed and asked for."""
    network, weights = system.networks[name], source.networks[name]
    before, now = source.modalities, system.modalities
    if len(before) != len(now) and rule == "refuse":
        raise UsageError(
            f"--finetuning.init_from {source.path} was trained on {len(before)} modalities ({', '.join(before)}), the "
            f"configuration has {len(now)} ({', '.join(now)}); say what becomes of the input layers: "
            f"--finetuning.adapt_input repeat, mean or zero"
        )
    if rule != "refuse":
        weights = _adapted(name, system, source, rule)
    try:
        require_same_weights(network, weights)
    except CheckpointMismatchError as error:
        masked = name == "segmentor" and rule == "refuse" and system.modality_mask == "channels"
        remedy = "; to add mask channels, --finetuning.adapt_input zero" if masked else ""
        raise CheckpointMismatchError(f"--finetuning.init_from {source.path}: {name}: {error}{remedy}") from None
    return weights


def _adapted(name: str, system: SavedSystem, source: Source, rule: Any) -> Weights:
    """A network's weights, mixed again if its input channels do not show what the source's did; else as they are."""
    network, stored = system.networks[name], source.networks[name]
    layer, weights = first_convolution(network, name), multiplied_out(stored)
    # It is another network, whose keys the error lists afterwards.
    if _kernel(layer) not in weights:
        return stored
    same_shape = weights[_kernel(layer)].shape == convolutions(network)[layer].weight.shape
    if same_shape and list(source.modalities) == list(system.modalities):
        # This holds for networks whose channels `_inputs` cannot name, too, as in 2.5-D.
        return stored
    there, here = _inputs(name, system, source)
    if there == here and not _by_name(system, source, rule):
        # Numbers of channels would not do: two modalities are as many as one and its mask channel.
        return stored
    mixed = mixing(there, here, rule, source_names=source.modalities, target_names=system.modalities)
    return taken_apart(adapt_weights(network, weights, mixed, layer), stored)


def _kernel(layer: str) -> str:
    """The name of a layer's kernel; a network that is one layer has no name for it."""
    return f"{layer}.weight".removeprefix(".")


def _by_name(system: SavedSystem, source: Source, rule: Any) -> bool:
    """Whether as many modalities are to be found again by name, not taken over one to one."""
    return rule == "zero" and list(source.modalities) != list(system.modalities)


def _inputs(name: str, system: SavedSystem, source: Source) -> tuple[list[InputChannel], list[InputChannel]]:
    """What a network's input channels show, in the source and here.

    Raises:
        UsageError: A segmentor's are neither its modalities nor these and their mask channels; or only the source's
            has mask channels.
    """
    before, now = len(source.modalities), len(system.modalities)
    labels = len(system.scheme.channels)
    if name != "segmentor":
        there, here = (system.objective.inputs(name, modalities, labels) for modalities in (before, now))
        return [InputChannel(*one) for one in there], [InputChannel(*one) for one in here]
    layer = first_convolution(system.networks[name], name)
    channels = (
        multiplied_out(source.networks[name])[_kernel(layer)].shape[1],
        convolutions(system.networks[name])[layer].weight.shape[1],
    )
    known = [segmentor_inputs(m, c) for m, c in zip((before, now), channels, strict=True)]
    if known[0] is None or known[1] is None:
        raise UsageError(
            f"--finetuning.adapt_input: the {name} reads {channels[0]} channels of {before} modalities in "
            f"{source.path} and {channels[1]} of {now} here; expected as many as modalities, or twice as "
            f"many with mask channels"
        )
    if known[0][-1].mask and not known[1][-1].mask:
        raise UsageError(
            f"--finetuning.init_from {source.path}: its {name} reads mask channels; give --model.modality_mask channels"
        )
    return known[0], known[1]


def _notes(system: SavedSystem, source: Source, options: FinetuningOptions) -> list[str]:
    """What of the source differs from the new run."""
    notes = []
    before, now = list(source.modalities), system.modalities
    if len(before) != len(now) or _by_name(system, source, options.adapt_input):
        notes.append(f"input layers: {', '.join(before)} -> {', '.join(now)} by {options.adapt_input}")
    elif before != now:
        pairs = [f"{new} takes {old}'s" for old, new in zip(before, now, strict=True) if old != new]
        by_name = f" by position ({', '.join(pairs)}); --finetuning.adapt_input zero goes by name"
        notes.append(
            f"note: trained on {', '.join(before)}, now on {', '.join(now)}; inputs are taken over one to one"
            f"{by_name if set(before) & set(now) else ''}"
        )
    if source.labels != system.scheme.name:
        notes.append(f"note: trained on labels {source.labels}, now {system.scheme.name}; outputs are taken one to one")
    return notes
