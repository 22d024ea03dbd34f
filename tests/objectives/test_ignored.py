"""What is predicted in a voxel that is not judged moves no network of any objective."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.losses.overlap import SoftDice
from segan_pl.losses.vat import ReleasedVATLoss, VATLoss
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised

SIZE = (3, 3, 8, 8)  # B, C, H, W

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "supervised": lambda: Supervised(cross_entropy_weight=1.0),
    "supervised without background": lambda: Supervised(dice_background=False, dice=SoftDice(reduction="batch")),
    "SegAN, concat": SegAN,
    "SegAN, mask": lambda: SegAN(critic_input="mask", dice_weight=0),
    "SegAN, mix, simultaneous": lambda: SegAN(critic_input="mix", update="simultaneous"),
    "reciprocal": lambda: Reciprocal(vat=VATLoss(norm="sample")),
    "reciprocal, of the labels": lambda: Reciprocal(vat=VATLoss(reference="labels"), critic_input="concat"),
    "reciprocal as released": lambda: Reciprocal(vat=ReleasedVATLoss(), adversarial="code"),
}


class Voxelwise(nn.Module):
    """Logits that are parameters, and answer to the image voxel by voxel."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.answer = nn.Parameter(torch.tensor([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]], dtype=torch.float64))

    def forward(self, image: Tensor) -> Tensor:
        return self.logits + torch.einsum("cm,bmhw->bchw", self.answer, image)


class Pyramid(nn.Module):
    """A critic of two layers, its input first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, 2, 1, dtype=torch.float64)

    def forward(self, view: Tensor) -> list[Tensor]:
        return [view, self.conv(view)]


def ignored_case(seed: int) -> tuple[Batch, Tensor, Tensor]:
    """A batch with -1 in a quarter of the voxels, the logits, and (B, 1, H, W) bool where voxels are judged."""
    generator = torch.Generator().manual_seed(seed)
    judged = torch.rand(SIZE[0], 1, *SIZE[2:], generator=generator) > 0.25
    label = torch.randint(3, (SIZE[0], *SIZE[2:]), generator=generator)
    target = nn.functional.one_hot(label, 3).movedim(-1, 1).double().masked_fill(~judged, -1)
    image = torch.rand(SIZE[0], 2, *SIZE[2:], generator=generator, dtype=torch.float64)
    there, numbers = torch.ones(SIZE[0], dtype=torch.bool), torch.zeros(SIZE[0], dtype=torch.int64)
    shown, origin = torch.ones(SIZE[0], 2, dtype=torch.bool), torch.zeros(SIZE[0], 3, dtype=torch.int64)
    batch = Batch(image, target, there, shown, numbers, origin, numbers)
    return batch, torch.randn(SIZE, generator=generator, dtype=torch.float64), judged


def moves(objective: Objective, batch: Batch, logits: Tensor, *, ignores: bool = True) -> list[Tensor]:
    """Loss, parts and gradients of each phase, of parameters drawn from one seed."""
    torch.manual_seed(5)
    networks: dict[str, nn.Module] = {"segmentor": Voxelwise(logits.clone())}
    if "critic" in objective.networks:
        networks["critic"] = Pyramid(objective.channels("critic", 2, 3)["in_channels"])
    context = StepContext(networks, batch, "softmax", ignores=ignores)
    found = []
    for phase in objective.phases():
        torch.manual_seed(7)
        terms = phase.loss(context)
        parameters = list(networks[phase.network].parameters())
        gradients = torch.autograd.grad(terms.total, parameters, allow_unused=True, retain_graph=True)
        found += [
            objective.validation_loss(context).total.detach(),
            terms.total.detach(),
            *terms.parts.values(),
            *(g for g in gradients if g is not None),
        ]
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_another_prediction_where_nothing_is_judged_changes_nothing(name: str) -> None:
    batch, logits, judged = ignored_case(1)
    other = torch.where(judged, logits, 20 * torch.randn(SIZE, dtype=torch.float64))
    assert not torch.equal(other, logits)
    torch.testing.assert_close(
        moves(OBJECTIVES[name](), batch, logits), moves(OBJECTIVES[name](), batch, other), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_gradient_reaches_such_a_voxel(name: str) -> None:
    batch, logits, judged = ignored_case(2)
    of_logits = [found for found in moves(OBJECTIVES[name](), batch, logits) if found.shape == SIZE]
    assert of_logits
    for gradient in of_logits:
        assert torch.isfinite(gradient).all()
        assert not gradient[~judged.expand(SIZE)].any()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_where_everything_is_judged_the_losses_are_those_without_a_mask(name: str) -> None:
    batch, logits, _ = ignored_case(3)
    batch = batch._replace(target=nn.functional.one_hot(logits.argmax(1), 3).movedim(-1, 1).double())
    torch.testing.assert_close(
        moves(OBJECTIVES[name](), batch, logits),
        moves(OBJECTIVES[name](), batch, logits, ignores=False),
        rtol=1e-12,
        atol=1e-14,
    )


def test_without_ignored_labels_no_tensor_is_copied() -> None:
    batch, logits, _ = ignored_case(4)
    context = StepContext({"segmentor": Voxelwise(logits)}, batch, "softmax")
    assert context.voxels is None
    assert context.masked == {}
    assert context.target is batch.target
    assert context.judged(logits) is logits
