"""Cross-entropy with a weight for each channel, against PyTorch's own and against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from segan_pl.batch import Batch
from segan_pl.errors import UsageError
from segan_pl.losses.overlap import WeightedCrossEntropy, cross_entropy, weighted_cross_entropy
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.supervised import Supervised
from tests.contracts import tiny_batch

WEIGHTS = [0.33, 1.5, 0.83, 1.33]


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2, 4, 3, 5, 7), label indices and the same one-hot."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.randint(4, (2, 3, 5, 7), generator=generator)
    return logits, label, functional.one_hot(label, 4).movedim(-1, 1)


def test_by_weights_is_pytorchs_weighted_mean_with_its_gradient(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, label, target = case
    ours = weighted_cross_entropy(logits, target, "softmax", WEIGHTS, normaliser="weights")
    theirs = functional.cross_entropy(logits, label, logits.new_tensor(WEIGHTS))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_by_voxels_is_the_plain_mean_of_pytorchs_weighted_terms(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, label, target = case
    ours = weighted_cross_entropy(logits, target, "softmax", WEIGHTS)
    torch.testing.assert_close(
        ours, functional.cross_entropy(logits, label, logits.new_tensor(WEIGHTS), reduction="none").mean()
    )


@pytest.mark.parametrize("normaliser", ["voxels", "weights"])
def test_regions_are_weighted_channel_by_channel(case: tuple[Tensor, Tensor, Tensor], normaliser: str) -> None:
    logits, _, target = case
    ours = weighted_cross_entropy(logits, target, "sigmoid", WEIGHTS, normaliser=normaliser)  # type: ignore[arg-type]
    each = logits.new_tensor(WEIGHTS).reshape(4, 1, 1, 1)
    theirs = functional.binary_cross_entropy_with_logits(logits, target.double(), each)
    torch.testing.assert_close(ours, theirs if normaliser == "voxels" else theirs / each.mean())


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("normaliser", ["voxels", "weights"])
def test_equal_weights_of_1_are_the_plain_cross_entropy(
    case: tuple[Tensor, Tensor, Tensor], activation: str, normaliser: str
) -> None:
    logits, _, target = case
    plain = cross_entropy(logits, target, activation)  # type: ignore[arg-type]
    object_ = WeightedCrossEntropy([1.0] * 4, normaliser=normaliser)  # type: ignore[arg-type]
    torch.testing.assert_close(object_(logits, target, activation), plain)  # type: ignore[arg-type]


def test_two_voxels_by_hand() -> None:
    """Voxels of channel 0 and 1 with probabilities 1/2 each; weights 1 and 3: ln 2 times 4/2, and ln 2 times 4/4."""
    logits, target = torch.zeros(1, 2, 2), torch.eye(2)[None]
    assert weighted_cross_entropy(logits, target, "softmax", [1, 3]).item() == pytest.approx(2 * math.log(2))
    by_weights = weighted_cross_entropy(logits, target, "softmax", [1, 3], normaliser="weights")
    assert by_weights.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("normaliser", ["voxels", "weights"])
def test_nothing_that_counts_costs_0_and_has_no_gradient(normaliser: str) -> None:
    logits = torch.randn(1, 2, 3, requires_grad=True)
    for target, mask in (
        (torch.tensor([[[1.0] * 3, [0.0] * 3]]), None),  # all of the channel whose weight is 0
        (torch.ones(1, 2, 3), torch.zeros(1, 1, 3, dtype=torch.bool)),
    ):
        loss = weighted_cross_entropy(logits, target, "softmax", [0.0, 1.0], normaliser=normaliser, mask=mask)  # type: ignore[arg-type]
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, logits)[0].any()
    empty = weighted_cross_entropy(logits[:0], torch.ones(0, 2, 3), "softmax", [1.0, 1.0], normaliser=normaliser)  # type: ignore[arg-type]
    assert empty.item() == 0


def test_it_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = weighted_cross_entropy(torch.randn(1, 2, 4).bfloat16(), torch.ones(1, 2, 4), "sigmoid", [1.0, 2.0])
    assert loss.dtype == torch.float32


def test_weights_for_other_channels_are_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"has 2 weights, \[1.0, 2.0\], and the label scheme 4 channels; give one"):
        WeightedCrossEntropy([1.0, 2.0])(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), "softmax")


def test_the_supervised_objective_takes_it_and_a_checkpoint_can_say_it() -> None:
    weighted = WeightedCrossEntropy([3.0], normaliser="voxels")
    losses = []
    for loss in (cross_entropy, weighted):
        objective = Supervised(dice_weight=0, cross_entropy_weight=1, cross_entropy=loss)
        losses.append(objective.loss(_context(tiny_batch(1))).total)
    torch.testing.assert_close(losses[1], 3 * losses[0])
    assert weighted.recipe == {"weights": [3.0], "normaliser": "voxels"}


def _context(batch: Batch) -> StepContext:
    torch.manual_seed(0)
    return StepContext({"segmentor": torch.nn.Conv2d(1, 1, 3, padding=1)}, batch, "sigmoid", "zeros")
