"""Voxels that are not judged: no loss and no gradient depends on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from segan_pl.losses.overlap import cross_entropy, soft_dice_loss, weighted_cross_entropy
from segan_pl.losses.vat import adversarial_perturbation, released_vat_loss, vat_loss
from segan_pl.losses.voxels import cleared, masked_mean

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def dice(**options: str) -> Loss:
    return lambda logits, target, mask: soft_dice_loss(logits.softmax(1), target, mask=mask, **options)  # type: ignore[arg-type]


LOSSES: dict[str, Loss] = {
    "dice of slices": dice(),
    "dice of the batch": dice(reduction="batch"),
    "linear dice": dice(form="linear"),
    "printed dice": dice(form="printed"),
    "cross-entropy of labels": lambda z, y, mask: cross_entropy(z, y, "softmax", mask=mask),
    "cross-entropy of regions": lambda z, y, mask: cross_entropy(z, y, "sigmoid", mask=mask),
    "weighted cross-entropy of labels": lambda z, y, mask: weighted_cross_entropy(
        z, y, "softmax", [1.0, 2.0, 0.5], mask=mask
    ),
    "weighted cross-entropy of regions by weights": lambda z, y, mask: weighted_cross_entropy(
        z, y, "sigmoid", [1.0, 2.0, 0.5], normaliser="weights", mask=mask
    ),
    "vat": lambda z, y, mask: vat_loss(lambda _: z, z, y, "softmax", torch.zeros_like(z), mask=mask),
}


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2, 3, 5, 7), one-hot labels with -1 in a fifth of the voxels, and the mask of the others."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    label = torch.randint(3, (2, 5, 7), generator=generator)
    target = nn.functional.one_hot(label, 3).movedim(-1, 1).double()
    mask = torch.rand(2, 1, 5, 7, generator=generator) > 0.2
    return logits, target.masked_fill(~mask, -1), mask


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_predicted_in_an_ignored_voxel_changes_no_loss_and_no_gradient(
    name: str, case: tuple[Tensor, Tensor, Tensor]
) -> None:
    logits, target, mask = case
    other = torch.where(mask, logits, 50 * torch.randn_like(logits))
    found = []
    for z in (logits, other):
        z = z.clone().requires_grad_()
        loss = LOSSES[name](z, target, mask)
        (gradient,) = torch.autograd.grad(loss, z)
        assert not gradient[~mask.expand_as(gradient)].any()
        found.append((loss.detach(), gradient))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_leaves_the_loss_of_the_voxels_that_count(name: str, case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, mask = case
    keep = mask.clone()
    keep[:, :, :3], keep[:, :, 3:] = True, False  # so that what counts is a patch of its own
    target = torch.where(keep, target.clamp_min(0), -1)
    expected = LOSSES[name](logits[:, :, :3], target[:, :, :3], None)
    torch.testing.assert_close(LOSSES[name](logits, target, keep), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_of_all_voxels_leaves_the_loss(name: str, case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, mask = case
    target = target.clamp_min(0)
    torch.testing.assert_close(
        LOSSES[name](logits, target, torch.ones_like(mask)), LOSSES[name](logits, target, None), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("name", LOSSES)
def test_where_no_voxel_counts_there_is_no_gradient(name: str, case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, mask = case
    logits.requires_grad_()
    loss = LOSSES[name](logits, torch.full_like(target, -1), torch.zeros_like(mask))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert not gradient.any()


def test_the_perturbation_answers_to_the_voxels_that_count_alone(case: tuple[Tensor, Tensor, Tensor]) -> None:
    _, target, mask = case
    image = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    weight = torch.where(mask, 1.0, 1000.0)  # a pixel-wise network that is steep where nobody judges
    torch.manual_seed(0)
    change = adversarial_perturbation(lambda x: weight * x, image, target, "softmax", mask=mask, norm="sample")
    assert change[mask.expand_as(change)].any()
    assert not change[~mask.expand_as(change)].any()


def test_the_released_price_is_of_the_voxels_that_count(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, mask = case
    outputs = (logits, torch.where(mask, logits, 50 * torch.randn_like(logits)))
    found = [released_vat_loss(lambda _, z=z: z, logits, target, "softmax", mask=mask) for z in outputs]
    assert found[0] == found[1] > 0


def test_without_a_mask_nothing_is_copied() -> None:
    value = torch.randn(1, 2, 3)
    assert cleared(value, None) is value
    assert masked_mean(value, None) == value.mean()
    assert masked_mean(value[:0], None) == 0
