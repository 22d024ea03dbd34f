"""A segmentor as one graph of PyTorch's operators with free batch and sides, and whether another runtime agrees."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segan_pl.data.case import Case
from segan_pl.data.prepare.case import prepare
from segan_pl.errors import UsageError
from segan_pl.inference.native_labels import decide
from segan_pl.inference.trained import TrainedSegmentor, probabilities
from segan_pl.nets.modality_mask import segmentor_channels

FEW, SHARE = 10, 1e-5
"""Voxels of a case whose label rounding may turn, and their share of all: one of 44 million was seen."""
TOLERANCE = 1e-4
"""Most that logits may differ by, as a share of the largest where that is above 1; and probabilities.

Another order of sums changes their last bits, so two right runtimes differ. A voxel may have another label only where
such a change decides it (`undecided`).
"""
MOST = 1 << 14
"""Voxels along a side, of a graph whose sides are free."""


class DiffersError(ValueError):
    """An exported network that computes something else; nothing of it is left on disk."""


def divisors(segmentor: TrainedSegmentor) -> tuple[int, ...]:
    """What each side of the network's input must be divisible by, in the patch's order."""
    depth = getattr(segmentor.network, "depth_divisor", None) or segmentor.divisor
    return (depth, segmentor.divisor, segmentor.divisor)[-len(segmentor.patch) :]


def example(segmentor: TrainedSegmentor, *, batch: int, more: int = 0, seed: int = 0) -> Tensor:
    """(B, M, *spatial) noise that the network takes: its patch, at least two of each divisor, and `more` of them."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [d * (max(2, -(-p // d)) + more) for p, d in zip(segmentor.patch, divisors(segmentor), strict=True)]
    channels = segmentor_channels(len(segmentor.modalities), segmentor.modality_mask)
    return torch.randn(batch, channels, *sizes, generator=generator)


def traced(segmentor: TrainedSegmentor) -> ExportedProgram:
    """The network in evaluation mode with a free batch and free sides: multiples of its divisors, at least two of them.

    Where a side shrinks to one voxel PyTorch takes other ways, which a graph does not have.

    Raises:
        UsageError: The network does what torch.export cannot follow, e.g. branches on values.
    """
    sample = example(segmentor, batch=2)
    free: dict[int, Any] = {0: Dim("batch", min=1, max=MOST)}
    least = getattr(segmentor.network, "minimum", 1)
    # a 2.5-D network sees each slice with as many neighbours on either side
    slices = 2 * getattr(getattr(segmentor.network, "network", None), "context", 0) + 1
    for axis, (name, divisor) in enumerate(
        zip(("depth", "height", "width")[-len(segmentor.patch) :], divisors(segmentor), strict=True), 2
    ):
        fewest = max(least, slices) if name == "depth" else least
        steps = Dim(f"{name}_steps", min=max(2 if divisor > 1 else 1, -(-fewest // divisor)), max=MOST)
        free[axis] = divisor * steps if divisor > 1 else steps
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(segmentor.network, (sample,), dynamic_shapes=(free,))
    except Exception as error:  # of many kinds, most of them not public
        kind = type(segmentor.network).__name__
        raise UsageError(
            f"{segmentor.source}: torch.export cannot follow its network {kind} ({first_line(error)}); only "
            f"--format safetensors takes it"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of packages that are not needed, and of their own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def require_equal(segmentor: TrainedSegmentor, other: Callable[[Tensor], Tensor], case: Case | None, what: str) -> str:
    """Compare another runtime of the network with the network: on noise of two sizes, and on a case from files.

    Args:
        segmentor: The network, in float32.
        other: (B, M, *spatial) to logits.
        case: Whole, through the preparation, windows and activation; None for noise alone.
        what: The file, for the message.

    Returns:
        What was compared, and by how much it differs, in one line.

    Raises:
        DiffersError: By more than TOLERANCE.
        CaseError: The case cannot be prepared.
    """
    apart: list[Tensor] = []
    for number in (0, 1):
        sample = example(segmentor, batch=2 - number, more=number, seed=number)
        with torch.inference_mode():
            wanted, found = segmentor.network(sample), other(sample)
        apart.append((wanted - found).abs().max() / wanted.abs().max().clamp(min=1.0))
    worst = float(torch.stack(apart).max())  # of NaN NaN, unlike Python's max
    line = f"logits of generated input differ by {worst:.1e} of the largest"
    if not worst <= TOLERANCE:
        raise DiffersError(f"{what}: {line}, more than {TOLERANCE:g}; it is not left behind")
    if case is None:
        return line
    image = torch.from_numpy(prepared_image(segmentor, case))
    wanted = probabilities(segmentor, image)
    found = probabilities(replace(segmentor, network=_Called(other, segmentor.network)), image)
    worst = float((wanted - found).abs().max())
    activation = segmentor.scheme.activation
    changed = (decide(wanted, activation) != decide(found, activation)).any(0)
    line += f"; probabilities of a whole case by {worst:.1e}"
    if not worst <= TOLERANCE:
        raise DiffersError(f"{what}: {line}, more than {TOLERANCE:g}; it is not left behind")
    return f"{line}, {labels_line(changed, undecided(wanted, activation), what)}"


def undecided(probability: Tensor, activation: str) -> Tensor:
    """The voxels that a change of TOLERANCE may give another label, (*spatial) bool.

    Args:
        probability: (C, *spatial).
        activation: With "sigmoid" a channel lies within TOLERANCE of 0.5; with "softmax" the two largest within twice
            as much of each other, since each of them may change.
    """
    if activation == "softmax":
        first, second = probability.topk(2, dim=0).values
        return first - second <= 2 * TOLERANCE
    return ((probability - 0.5).abs() <= TOLERANCE).any(0)


def labels_line(changed: Tensor, open_: Tensor, what: str) -> str:
    """How many voxels of a case have another label, and why that is rounding.

    Args:
        changed: (*spatial) bool, which have.
        open_: Of `undecided`, of the network itself.
        what: The file, for the message.

    Raises:
        DiffersError: One of them was decided, or they are more than rounding turns.
    """
    count, total = int(changed.sum()), changed.numel()
    if real := int((changed & ~open_).sum()):
        raise DiffersError(
            f"{what}: {real} of {total} voxels of a whole case have another label, though their probabilities lie "
            f"further than {TOLERANCE:g} from a tie and from 0.5, which is no rounding; it is not left behind"
        )
    if count > (most := max(FEW, int(total * SHARE))):
        raise DiffersError(
            f"{what}: {count} of {total} voxels of a whole case have another label, each within {TOLERANCE:g} of a "
            f"tie or of 0.5; rounding turns at most {most}, so the network decides nothing or ties go the other way; "
            f"it is not left behind"
        )
    line = f"labels of {count} of {total} voxels"
    return f"{line}, each within {TOLERANCE:g} of a tie or of 0.5, where rounding decides" if count else line


def prepared_image(segmentor: TrainedSegmentor, case: Case) -> np.ndarray[Any, np.dtype[np.float16]]:
    """(M, D, H, W) of a case that has all modalities.

    Raises:
        CaseError: It lacks one, or cannot be prepared.
    """
    images = {modality: case.images[modality] for modality in segmentor.modalities}
    return prepare(replace(case, images=images, mask=None), segmentor.preparation).image


class _Called(nn.Module):
    """A function in the place of a network, with what the walk over a volume asks of one."""

    def __init__(self, function: Callable[[Tensor], Tensor], like: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name in ("divisor", "depth_divisor"):
            if hasattr(like, name):
                setattr(self, name, getattr(like, name))

    def forward(self, image: Tensor) -> Tensor:
        """(B, M, *spatial) to logits."""
        return self.function(image.float())
