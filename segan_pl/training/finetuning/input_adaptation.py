"""Taking an input layer over when the number of modalities changes: repeat, mean or zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from segan_pl.errors import UsageError

Rule = Literal["repeat", "mean", "zero"]


class InputChannel(NamedTuple):
    """What one input channel of a network shows.

    Attributes:
        modality: Its number in the list of modalities; None where the channel shows none.
        label: The label channel that it shows, or that the modality is multiplied by; None for none.
        mask: It is a constant of 0 or 1 that says whether the modality is there.
    """

    modality: int | None
    label: int | None = None
    mask: bool = False


def segmentor_inputs(modalities: int, channels: int) -> list[InputChannel] | None:
    """What `channels` input channels of a segmentor show: the modalities, or these and then their mask channels.

    Returns:
        None where it is neither.
    """
    images = [InputChannel(number) for number in range(modalities)]
    masks = [InputChannel(number, mask=True) for number in range(modalities)]
    return {modalities: images, 2 * modalities: [*images, *masks]}.get(channels)


def mixing(
    source: Sequence[InputChannel],
    target: Sequence[InputChannel],
    rule: Rule,
    *,
    source_names: Sequence[str],
    target_names: Sequence[str],
) -> Tensor:
    """How much of each source channel's kernel goes into each target channel's (ours; the papers keep one modality).

    With M_s modalities before and M_t now. "repeat": modality i takes modality i mod M_s times M_s / M_t. "mean": every
    modality takes the source's mean times M_s / M_t. So the same image in all channels gives the first layer what it
    gave it before (with "repeat" where M_s divides M_t). "zero": modalities are found again by name, unscaled, new ones
    begin at 0: the output stays. Channels that show labels alone stay as they are. Mask channels follow the same
    rule, and begin at 0 where the source has none.

    Returns:
        (target channels, source channels), float64.

    Raises:
        UsageError: With "zero", no modality has a name of the source's.
    """
    if rule == "zero" and not set(source_names) & set(target_names):
        raise UsageError(
            f"--finetuning.adapt_input zero keeps modalities of the same name, but {', '.join(target_names)} has none "
            f"of {', '.join(source_names)}; use repeat or mean"
        )
    weights = torch.zeros(len(target), len(source), dtype=torch.float64)
    for row, channel in enumerate(target):
        for modality, share in _sources(channel.modality, rule, source_names, target_names).items():
            found = channel._replace(modality=modality)
            if found in source:
                weights[row, source.index(found)] = share
    return weights


def _sources(
    modality: int | None, rule: Rule, source_names: Sequence[str], target_names: Sequence[str]
) -> dict[int | None, float]:
    """The source's modalities that a target modality takes from, and how much of each."""
    before, now = len(source_names), len(target_names)
    if modality is None:
        return {None: 1.0}
    if rule == "repeat":
        return {modality % before: before / now}
    if rule == "mean":
        # This is 1 / M_s of each, times M_s / M_t.
        return dict.fromkeys(range(before), 1 / now)
    name = target_names[modality]
    return {source_names.index(name): 1.0} if name in source_names else {}


def adapt_weights(
    network: nn.Module, weights: Mapping[str, Tensor], mixed: Tensor, first: str | None = None
) -> dict[str, Tensor]:
    """A network's weights, of which the kernels that read its input are mixed; all others are returned as they are.

    Args:
        network: What the weights are for.
        weights: By name, those of the source.
        mixed: (channels now, channels before), as `mixing` makes it.
        first: The convolution that reads the input; others do, too, if their number of channels changes alike.
    """
    now, before = mixed.shape
    adapted = dict(weights)
    layers = convolutions(network)
    for name, layer in layers.items():
        kernel = weights.get(key := f"{name}.weight" if name else "weight")
        if kernel is None or kernel.ndim < 2 or (layer.weight.shape[1], kernel.shape[1]) != (now, before):
            continue
        if now != before or layer is layers.get(first or ""):
            new = torch.einsum("ts,os...->ot...", mixed, kernel.double())
            adapted[key] = new.to(kernel.dtype)
    return adapted


def convolutions(network: nn.Module) -> dict[str, _ConvNd]:
    """The layers whose kernels' second axis is their input, by name, in the order of definition.

    A layer that a network holds twice is there under both names, as its weights are in the state (MONAI's DynUNet).
    """
    return {
        name: module
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, _ConvNd) and not module.transposed and module.groups == 1
    }


def first_convolution(network: nn.Module, name: str) -> str:
    """The name of the layer that reads a network's input: its first convolution, in the order of definition.

    Raises:
        UsageError: The network has no convolution.
    """
    found = next(iter(convolutions(network)), None)
    if found is None:
        raise UsageError(
            f"the {name} {type(network).__name__} has no convolution, so no layer is known to read its input"
        )
    return found


LENGTH, DIRECTION = (f".parametrizations.weight.original{number}" for number in (0, 1))
"""How the state names the two parts of a kernel with weight norm, after the layer's name."""

UNNORMED, LEFT, RIGHT = (f".parametrizations.weight.{part}" for part in ("original", "0._u", "0._v"))
"""The same for spectral norm: the kernel before it is divided, and its first singular vectors."""


def multiplied_out(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state's kernels with weight or spectral norm as plain ones, which can be mixed; all others as they are.

    Of spectral norm it is the kernel before it is divided: the norm divides the mixed one anew.
    """
    parts = (LENGTH, DIRECTION, UNNORMED, LEFT, RIGHT)
    plain = {name: value for name, value in weights.items() if not name.endswith(parts)}
    for name in (name.removesuffix(DIRECTION) for name in weights if name.endswith(DIRECTION)):
        length, direction = weights[name + LENGTH], weights[name + DIRECTION]
        plain[f"{name}.weight"] = direction * (length / _lengths(direction, length))
    for name in (name.removesuffix(UNNORMED) for name in weights if name.endswith(UNNORMED)):
        plain[f"{name}.weight"] = weights[name + UNNORMED]
    return plain


def taken_apart(plain: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `multiplied_out` for kernels with either norm in `weights`.

    The kernel itself is its direction. The singular vectors of a kernel that was mixed are found anew.
    """
    apart = dict(plain)
    for name in (name.removesuffix(DIRECTION) for name in weights if name.endswith(DIRECTION)):
        kernel = apart.pop(f"{name}.weight")
        apart[name + LENGTH], apart[name + DIRECTION] = _lengths(kernel, weights[name + LENGTH]), kernel
    for name in (name.removesuffix(UNNORMED) for name in weights if name.endswith(UNNORMED)):
        kernel = apart.pop(f"{name}.weight")
        vectors = weights[name + LEFT], weights[name + RIGHT]
        if kernel is not weights[name + UNNORMED]:
            left, _, right = torch.linalg.svd(kernel.flatten(1).double(), full_matrices=False)
            vectors = left[:, 0].to(vectors[0]), right[0].to(vectors[1])
        apart[name + UNNORMED], (apart[name + LEFT], apart[name + RIGHT]) = kernel, vectors
    return apart


def _lengths(kernel: Tensor, like: Tensor) -> Tensor:
    """Euclidean length of a kernel over the axes that `like` has one element of."""
    axes = [axis for axis, size in enumerate(like.shape) if size == 1]
    lengths: Tensor = torch.linalg.vector_norm(kernel, dim=axes, keepdim=True)
    return lengths
