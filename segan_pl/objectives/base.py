"""The contract of a training step: its phases as data, and what the step has computed so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, wraps
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.losses.activation import Activation, activate
from segan_pl.losses.voxels import cleared
from segan_pl.nets.modality_mask import ModalityMask, Network, with_modality_mask
from segan_pl.recipe import Recorded


class LossTerms(NamedTuple):
    """A network's loss and what it is made of.

    Attributes:
        total: Scalar with gradient.
        parts: Detached scalars to log, by name, e.g. {"dice": ..., "adversarial": ...}.
    """

    total: Tensor
    parts: dict[str, Tensor]


class StepContext:
    """One step's networks, its batch, and forward results, each computed on first use and kept for the step.

    What no phase asks for does not run.

    Args:
        networks: Name to network ("segmentor", "critic", ...).
        batch: The batch, `image` and `target` floating point, in the networks' memory format.
        activation: Of the label scheme.
        modality_mask: How the segmentor learns which modalities are missing.
        ignores: Whether the label scheme has voxels that are not judged, of target -1.
        step: How many steps the run has taken before this one, for weights that grow and terms that begin late.
        steps: How many the whole run takes; None where nobody knows, as of a run without an end.

    Attributes:
        segment: The segmentor as a function of any image (B, M, *spatial) of these samples, to logits (B, C, *spatial);
            mask channels are added where it takes them.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        batch: Batch,
        activation: Activation,
        modality_mask: ModalityMask = "zeros",
        *,
        ignores: bool = False,
        step: int = 0,
        steps: int | None = None,
    ) -> None:
        self.networks = networks
        self.batch = batch
        self.activation = activation
        self.ignores = ignores
        self.modality_mask: ModalityMask = modality_mask
        self.step = step
        self.steps = steps
        self.segment = self.as_segmentor("segmentor")
        self._kept: dict[str, Tensor] = {}
        # What moves at all: frozen parameters require no gradient when the step begins.
        self._moving = {name: [p for p in one.parameters() if p.requires_grad] for name, one in networks.items()}

    def as_segmentor(self, name: str) -> Network:
        """`segment` by another network that is built like the segmentor: a teacher, or the second one of a pair."""
        return with_modality_mask(self.networks[name], self.batch.modality_mask, self.modality_mask)

    @property
    def logits(self) -> Tensor:
        """(B, C, *spatial), the segmentor's output, with its graph."""
        return self.kept("logits", "segmentor", lambda: self.segment(self.batch.image))

    @property
    def probability(self) -> Tensor:
        """(B, C, *spatial) float32, after the activation, with its graph."""
        return self.kept("probability", "segmentor", lambda: activate(self.logits, self.activation))

    @cached_property
    def voxels(self) -> Tensor | None:
        """(B, 1, *spatial) bool, True where a voxel is judged; None where the scheme ignores nothing.

        Of a sample without a label every voxel is True: its target says nothing.

        A critic sees masks as `judged` makes them, and every other loss takes `**context.masked`: then nothing flows
        back from the other voxels.
        """
        if not self.ignores:
            return None
        target = self.batch.target[:, :1]
        return (target >= 0) | ~self.batch.labelled.reshape(-1, *[1] * (target.ndim - 1))

    @cached_property
    def target(self) -> Tensor:
        """(B, C, *spatial) in {0, 1}: that of the batch, 0 where nothing is judged."""
        return self.judged(self.batch.target)

    @property
    def reference(self) -> Tensor:
        """(B, C, *spatial), `target` in the dtype of `probability`: a critic sees first the one, then the other."""
        return self.target.to(self.probability.dtype)

    @property
    def masked(self) -> dict[str, Any]:
        """The keyword argument of a loss that says which voxels count: none where all do."""
        return {} if self.voxels is None else {"mask": self.voxels}

    def judged(self, mask: Tensor) -> Tensor:
        """A mask or logits (B, C, *spatial), 0 where nothing is judged; itself where everything is."""
        return cleared(mask, self.voxels)

    def kept(self, name: str, network: str, compute: Callable[[], Tensor]) -> Tensor:
        """A forward pass that the phases of a step share: computed by the first that asks, whichever network it moves.

        It stays as it was computed when the network moves, and its graph serves one backward pass: a second phase of
        the same network runs the network again (the segmentor by `segment`).

        Args:
            name: Of the result, e.g. "generated".
            network: Whose parameters get a gradient through it, in the phases in which that network moves.
            compute: The forward pass.
        """
        if name not in self._kept:
            with torch.enable_grad(), _requiring_grad(self._moving[network], True):
                self._kept[name] = compute()
        return self._kept[name]

    @property
    def asked_in_vain(self) -> bool:
        """Whether a loss has asked for the labelled samples of a batch that has none."""
        # Asked in this way, the batch is not looked at where no loss has asked.
        return self.__dict__.get("labelled", self) is None

    @cached_property
    def labelled(self) -> StepContext | None:
        """The same context for the labelled samples alone; itself where all are, and None where none is.

        A forward pass that has run by then is shared. Another one is of the labelled samples alone: what needs no
        unlabelled sample costs nothing for them, and a batch norm does not see them.
        """
        # A device waits for this answer, so it is asked once a step.
        return self if bool(self.batch.labelled.all()) else self._part(self.batch.labelled)

    @cached_property
    def unlabelled(self) -> StepContext | None:
        """The same for the samples without a label; None where there is none. Their targets mean nothing."""
        return self._part(~self.batch.labelled)

    def _part(self, chosen: Tensor) -> StepContext | None:
        """The context of the chosen samples, (B,) bool, which shares what has run; None where none is chosen."""
        count = int(chosen.sum())
        if not count:
            return None
        # A slice keeps the memory format.
        first = int(chosen.int().argmax())
        rows = slice(first, first + count) if bool(chosen[first : first + count].all()) else chosen
        part = self.of(Batch(*(field[rows] for field in self.batch)))
        with torch.enable_grad():
            part._kept = {name: result[rows] for name, result in self._kept.items()}
        return part

    def of(self, batch: Batch) -> StepContext:
        """The same step with other samples, such as mixed or changed images; no forward pass of theirs has run."""
        other = StepContext(
            *(self.networks, batch, self.activation, self.modality_mask),
            ignores=self.ignores,
            step=self.step,
            steps=self.steps,
        )
        # During a phase the parameters of other networks require no gradient, and would be taken for frozen ones.
        other._moving = self._moving
        return other

    @contextmanager
    def only(self, names: Sequence[str]) -> Iterator[None]:
        """Inside, only these networks' parameters receive gradients; frozen ones stay frozen."""
        others = [parameter for name, moving in self._moving.items() if name not in names for parameter in moving]
        with _requiring_grad(others, False):
            yield


@contextmanager
def _requiring_grad(parameters: Iterable[nn.Parameter], required: bool) -> Iterator[None]:
    """Inside, the parameters require a gradient, or none; those that differed before differ again afterwards."""
    changed = [parameter for parameter in parameters if parameter.requires_grad != required]
    for parameter in changed:
        parameter.requires_grad_(required)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(not required)


def of_labelled(loss: Callable[[Any, StepContext], LossTerms]) -> Callable[[Any, StepContext], LossTerms]:
    """Make an objective's loss that of the labelled samples; without any it has no term, so that no step is taken."""

    @wraps(loss)
    def of_part(objective: Any, context: StepContext) -> LossTerms:
        part = context.labelled
        return LossTerms(torch.zeros(()), {}) if part is None else loss(objective, part)

    of_part.of_labelled = True  # type: ignore[attr-defined]
    return of_part


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
