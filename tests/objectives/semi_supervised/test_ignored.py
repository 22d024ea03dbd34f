"""What an image shows in a voxel that is not judged moves no network of a semi-supervised objective."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segan_pl.losses.vat import VATLoss
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.semi_supervised.bcp import BidirectionalCopyPaste
from segan_pl.objectives.semi_supervised.cps import CrossPseudoSupervision
from segan_pl.objectives.semi_supervised.fixmatch import FixMatch
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.self_training import SelfTraining
from segan_pl.objectives.semi_supervised.ua_mt import UncertaintyAwareMeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from tests.objectives.semi_supervised.contract import partly_labelled

OBJECTIVES: dict[str, Objective] = {
    "mean teacher of all": MeanTeacher(samples="all"),
    "uncertainty-aware of all": UncertaintyAwareMeanTeacher(samples="all", passes=2),
    "cross pseudo supervision of all": CrossPseudoSupervision(samples="all"),
    "FixMatch": FixMatch(threshold=0.3),
    "copy-paste": BidirectionalCopyPaste(),
    "copy-paste, warm-up": BidirectionalCopyPaste(warm_up=1000),
    "self-training": SelfTraining(threshold=0.3),
    "virtual adversarial of all": VirtualAdversarial(vat=VATLoss(norm="sample")),
}


def losses(objective: Objective, image: Tensor, target: Tensor) -> list[Tensor]:
    """Loss and gradients of each phase, of networks that see one voxel at a time."""
    networks: dict[str, nn.Module] = {}
    for number, name in enumerate(objective.networks):
        torch.manual_seed(number)
        networks[name] = nn.Conv2d(2, 3, 1).double()
    batch = partly_labelled(2, 3, size=image.shape[2:], activation="softmax", dtype=torch.float64)
    batch = batch._replace(image=image, target=target)
    context = StepContext(networks, batch, "softmax", ignores=True, step=90, steps=100)
    found = []
    for phase in objective.phases():
        torch.manual_seed(7)
        total = phase.loss(context).total
        found += [total.detach(), *torch.autograd.grad(total, list(networks[phase.network].parameters()))]
    return found


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_another_image_where_nothing_is_judged_changes_nothing(objective: Objective) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = partly_labelled(2, 3, size=(12, 12), activation="softmax", dtype=torch.float64)
    image = torch.randn(batch.image.shape, generator=generator, dtype=torch.float64)
    ignored = torch.rand(4, 1, 12, 12, generator=generator) < 0.25
    ignored[2:] = False
    target = batch.target.masked_fill(ignored, -1)
    other = torch.where(ignored, 3 * image + 1, image)
    found = [losses(objective, shown, target) for shown in (image, other)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)
    judged = losses(objective, other, batch.target)
    assert not torch.equal(judged[0], found[1][0])
