"""What a training step has computed so far: its batch, its networks, and their forward results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.losses.activation import Activation, activate
from segan_pl.losses.voxels import cleared, resized
from segan_pl.nets.modality_mask import ModalityMask, Network, with_modality_mask


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
        self._kept: dict[str, tuple[Tensor, ...]] = {}  # of a segmentor with deep supervision, one for each resolution
        # What moves at all: frozen parameters require no gradient when the step begins.
        self._moving = {name: [p for p in one.parameters() if p.requires_grad] for name, one in networks.items()}

    def as_segmentor(self, name: str) -> Network:
        """`segment` by another network that is built like the segmentor: a teacher, or the second one of a pair."""
        return with_modality_mask(self.networks[name], self.batch.modality_mask, self.modality_mask)

    @property
    def logits(self) -> Tensor:
        """(B, C, *spatial), the segmentor's output, with its graph."""
        return self.deep_logits()[0]

    @torch.no_grad()
    def output_range(self) -> Tensor | None:
        """How far the segmentor's probabilities of this step lie apart: the largest range of a channel, scalar.

        None where no phase has asked for its output yet; nothing runs for it.
        """
        labelled: StepContext | None = self.__dict__.get("labelled")
        for context in (self, labelled):
            if context is None or "logits" not in context._kept:
                continue
            logits = context._kept["logits"][0].detach()
            if self.activation == "softmax":
                logits = activate(logits, self.activation)
            # one pass over a channel takes less time than `amin` and `amax` of all
            edges = torch.stack([torch.stack(torch.aminmax(one)) for one in logits.unbind(1)])  # (C, 2)
            if self.activation != "softmax":  # each channel by itself, and larger logits are larger probabilities
                edges = activate(edges, self.activation)
            return (edges[:, 1] - edges[:, 0]).max()
        return None

    def deep_logits(self, name: str = "segmentor") -> tuple[Tensor, ...]:
        """The output at each resolution, the image's own (`logits`) first, of one forward pass: (B, C, *spatial / s).

        One alone of a network without deep supervision, and where predictions are scored.

        Args:
            name: Of another network that is built like the segmentor.
        """
        network, image = self.networks[name], self.batch.image

        def run() -> tuple[Tensor, ...]:
            if getattr(network, "resolutions", 1) == 1:
                return (self.as_segmentor(name)(image),)
            deep = partial(network, deep=True)
            return tuple(with_modality_mask(deep, self.batch.modality_mask, self.modality_mask)(image))

        return self.all_kept("logits" if name == "segmentor" else name, name, run)

    def at_resolutions(self, name: str = "segmentor") -> list[StepContext]:
        """The same samples at each resolution of `deep_logits`, as contexts whose `logits` are that network's.

        Their targets, and with them the voxels that are judged, are the nearest voxels; their images are not reduced.
        """
        first, *lower = self.deep_logits(name)
        whole = self
        if name != "segmentor":
            whole = self.of(self.batch)
            whole._kept = {"logits": (first,)}
        found = [whole]
        for logits in lower:
            part = self.of(self.batch._replace(target=resized(self.batch.target, logits.shape[2:])))
            part._kept = {"logits": (logits,)}
            found.append(part)
        return found

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
        return self.all_kept(name, network, lambda: (compute(),))[0]

    def all_kept(self, name: str, network: str, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """`kept` of several results at once, each with the samples as its first axis."""
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
            part._kept = {name: tuple(one[rows] for one in results) for name, results in self._kept.items()}
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
