"""The contract of a game: turns as data, and what one batch's play has computed so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.losses.activation import Activation, activate
from segan_pl.presence import Presence, informed


class LossTerms(NamedTuple):
    """A player's loss and what it is made of.

    Attributes:
        total: Scalar with gradient.
        parts: Detached scalars to log, by name, e.g. {"dice": ..., "adversarial": ...}.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Play:
    """One batch's networks and forward results; the segmentor runs once, whoever asks.

    Attributes:
        players: Name to network ("segmentor", "critic", ...).
        batch: The batch, `image` and `target` floating point, in the networks' memory format.
        activation: Of the label scheme.
        segment: The segmentor as a function of any image (B, M, *spatial) of these samples: it is told what is there.
        logits: (B, C, *spatial), the segmentor's output, with its graph.
        probability: (B, C, *spatial) float32, after the activation, with its graph.
    """

    def __init__(
        self,
        players: Mapping[str, nn.Module],
        batch: Batch,
        activation: Activation,
        presence: Presence = "zeros",
    ) -> None:
        self.players = players
        self.batch = batch
        self.activation = activation
        self.segment = informed(players["segmentor"], batch.present, presence)
        self.logits: Tensor = self.segment(batch.image)
        self.probability = activate(self.logits, activation)


class Turn(NamedTuple):
    """One player's move.

    Attributes:
        player: Who moves; only its parameters get a gradient from `loss`.
        loss: What it minimises.
        after: Called after the optimiser's step (SegAN clips the critic here); None for nothing.
        every: In batches; with accumulation, in groups of them.
        opponents: Players that move on the same backward pass in the opposite direction (simultaneous updates: one
            backward, several steps); their gradients are negated. Empty when players alternate.
    """

    player: str
    loss: Callable[[Play], LossTerms]
    after: Callable[[Play], None] | None = None
    every: int = 1
    opponents: tuple[str, ...] = ()


class Objective(nn.Module):
    """A paper's game: who plays, in what order and for what. Receives networks, never builds them."""

    players: tuple[str, ...] = ("segmentor",)

    def turns(self) -> Sequence[Turn]:
        """The moves of one batch, in order."""
        raise TypeError(f"{type(self).__name__} must define turns()")

    def critic_channels(self, modalities: int, channels: int) -> int:
        """Input channels of the critic for M modalities and C label channels."""
        raise ValueError(f"objective {type(self).__name__} plays without a critic; leave model.critic out")

    def critic_inputs(self, modalities: int, channels: int) -> list[tuple[int | None, int | None]]:
        """What each of the `critic_channels` shows, for adapting the critic to another number of modalities.

        Returns:
            (modality's number or None, label channel's number or None) a channel; both for a product.
        """
        raise ValueError(
            f"objective {type(self).__name__} does not say what its critic's channels show; give it critic_inputs()"
        )
