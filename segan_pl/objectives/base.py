"""The contract of a training step: its phases as data. What the step has computed so far is its `StepContext`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segan_pl.objectives.step_context import StepContext
from segan_pl.recipe import Recorded

__all__ = ["LossTerms", "Objective", "Phase", "StepContext", "of_labelled", "over_resolutions"]


class LossTerms(NamedTuple):
    """A network's loss and what it is made of.

    Attributes:
        total: Scalar with gradient.
        parts: Detached scalars to log, by name, e.g. {"dice": ..., "adversarial": ...}.
    """

    total: Tensor
    parts: dict[str, Tensor]


def of_labelled(loss: Callable[[Any, StepContext], LossTerms]) -> Callable[[Any, StepContext], LossTerms]:
    """Make an objective's loss that of the labelled samples; without any it has no term, so that no step is taken."""

    @wraps(loss)
    def of_part(objective: Any, context: StepContext) -> LossTerms:
        part = context.labelled
        return LossTerms(torch.zeros(()), {}) if part is None else loss(objective, part)

    of_part.of_labelled = True  # type: ignore[attr-defined]
    return of_part


def over_resolutions(
    context: StepContext, loss: Callable[[StepContext], LossTerms], name: str = "segmentor"
) -> LossTerms:
    """A loss of labels with deep supervision: its mean over the resolutions, of weights 1, 1/2, 1/4, ... (nnU-Net).

    Lee et al. 2015; Isensee et al. 2021, who leave the lowest resolution of the decoder out, as do the networks here.
    Total and parts are such means; of a network with one resolution the loss itself.

    Args:
        context: Of the samples.
        loss: Of a context, by its logits (or probability), target and `masked`.
        name: Of the network that is built like the segmentor.
    """
    found = [loss(one) for one in context.at_resolutions(name)]
    if len(found) == 1:
        return found[0]
    weights = [2.0**-level for level in range(len(found))]

    def mean(values: Iterable[Tensor]) -> Tensor:
        terms = [weight / sum(weights) * value for weight, value in zip(weights, values, strict=True)]
        return torch.stack(terms).sum()

    parts = {part: mean(one.parts[part] for one in found) for part in found[0].parts}
    return LossTerms(mean(one.total for one in found), parts)


class Phase(NamedTuple):
    """One optimiser step of a training step.

    Attributes:
        network: Which moves; only its parameters get a gradient from `loss`.
        loss: What it minimises.
        after: Called after the optimiser's step (SegAN clips the critic here); None for nothing.
        every: In batches; with accumulation, in groups of them.
        ascending: Networks that move on the same backward pass in the opposite direction (simultaneous updates: one
            backward, several steps); their gradients are negated. Empty when networks alternate.
    """

    network: str
    loss: Callable[[StepContext], LossTerms]
    after: Callable[[StepContext], None] | None = None
    every: int = 1
    ascending: tuple[str, ...] = ()


class Objective(Recorded, nn.Module):
    """What a paper optimises: its networks, and the phases of a step. It receives networks and never builds them.

    Attributes:
        networks: The names of all.
        built_like: A network without an entry in the configuration to the one whose factory and channels it has too.
        teachers: Those of `built_like` that no optimiser moves. They begin with the other network's weights and follow
            it in a phase's `after`.
        needs_unlabelled: Whether every batch must have unlabelled samples; a run without any is refused.
        exclusive_labels: Whether it needs a label scheme whose labels exclude each other, background among them.
    """

    networks: tuple[str, ...] = ("segmentor",)
    built_like: Mapping[str, str] = MappingProxyType({})
    teachers: tuple[str, ...] = ()
    needs_unlabelled: bool = False
    exclusive_labels: bool = False

    def phases(self) -> Sequence[Phase]:
        """The phases of one step, in order."""
        raise TypeError(f"{type(self).__name__} must define phases()")

    def reads_unlabelled(self) -> bool:
        """Whether a phase's loss may read samples without a label: one that is not marked by `of_labelled`."""
        return not all(getattr(phase.loss, "of_labelled", False) for phase in self.phases())

    def supervises_deeply(self) -> bool:
        """Whether a loss is over all resolutions at which the segmentor gives logits, by `over_resolutions`.

        Otherwise a network with deep supervision is refused.
        """
        return False

    def gap_term(self) -> str | None:
        """The logged term ("NETWORK_PART") that is the critic's gap; None where there is none, or verdicts instead."""
        return None

    def at_bound(self, networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """The share of a network's clamped parameters that lie at their bound, by the network's name; none here."""
        return {}

    def validation_parts(self) -> tuple[str, ...]:
        """The names of `validation_loss`'s parts, known before training; none where the objective has no such loss."""
        return ()

    def validation_loss(self, context: StepContext) -> LossTerms:
        """What the segmentor minimises for its labels alone: no other network, and no random number, has a share in it.

        Validation logs it as val/loss, the mean over whole cases, which can choose a checkpoint.

        Args:
            context: Of one whole case: its slices are the batch of a 2-D network, its volume is that of a 3-D one. Its
                logits are there already; no network runs.
        """
        raise TypeError(f"{type(self).__name__} has no validation_loss()")

    def channels(self, network: str, modalities: int, classes: int) -> dict[str, int]:
        """The arguments that a network's factory is called with, in addition to those of its configuration.

        Args:
            network: One of `networks`.
            modalities: Channels of the image that it sees; of the segmentor, mask channels included.
            classes: Channels of the label scheme.

        Returns:
            By the parameter's name: `in_channels`, and `out_channels` where the network has such.
        """
        if network == "segmentor":
            return {"in_channels": modalities, "out_channels": classes}
        raise ValueError(f"objective {type(self).__name__} does not say the channels of its {network}: channels()")

    def inputs(self, network: str, modalities: int, classes: int) -> list[tuple[int | None, int | None]]:
        """What each input channel of a network other than the segmentor shows, to adapt it to other modalities.

        Returns:
            For each channel (modality's number or None, label channel's number or None); both for a product.
        """
        raise ValueError(
            f"objective {type(self).__name__} does not say what the channels of its {network} show: inputs()"
        )
