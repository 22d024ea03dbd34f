"""A loss of labels at several resolutions: its sum by hand, one forward pass, and who is refused it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, one_hot

from segan_pl.batch import Batch
from segan_pl.errors import UsageError
from segan_pl.losses.overlap import SoftDice, cross_entropy, soft_dice_loss
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.nets.segan import Critic
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext
from segan_pl.objectives.gan import SemiSupervisedGAN
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.semi_supervised.bcp import BidirectionalCopyPaste
from segan_pl.objectives.semi_supervised.cps import CrossPseudoSupervision
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.system import AdversarialSegmentation
from tests.contracts import descent, differ, parameters_of, take_phase, tiny_batch
from tests.objectives.semi_supervised.contract import partly_labelled, with_twins

deep_net = partial(MonaiSegmentor, kind="DynUNet", spatial_dims=2, width=4, levels=4, deep_supervision=2)


class Given(nn.Module):
    """Logits at three resolutions, each a scaled mean of the image, so that sums can be written down."""

    resolutions = 3

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        self.calls: list[bool] = []

    def forward(self, image: Tensor, *, deep: bool = False) -> Tensor | list[Tensor]:
        self.calls.append(deep)
        sizes = [tuple(side // s for side in image.shape[2:]) for s in (1, 2, 4)]
        logits = [scale * interpolate(image, size) for scale, size in zip(self.scales, sizes, strict=True)]
        return logits if deep else logits[0]


def by_hand(image: Tensor, target: Tensor, scales: Sequence[float] = (1.0, -2.0, 3.0)) -> Tensor:
    """4/7, 2/7 and 1/7 of binary cross-entropy and Dice, over the voxels whose target is not -1."""
    total = torch.zeros(())
    for weight, scale, step in zip((4 / 7, 2 / 7, 1 / 7), scales, (1, 2, 4), strict=True):
        logits = scale * interpolate(image, tuple(side // step for side in image.shape[2:]))
        cells = (..., slice(step // 2, None, step), slice(step // 2, None, step))  # nearest-exact of a whole ratio
        wanted = target[cells]
        judged = wanted >= 0
        entropy = binary_cross_entropy_with_logits(logits[judged], wanted[judged])
        dice = soft_dice_loss(logits.sigmoid() * judged, wanted.clamp(0), reduction="batch")
        total = total + weight * (entropy + dice)
    return total


@pytest.mark.parametrize("unlabelled", [0, 2])
def test_the_loss_is_the_weighted_mean_over_resolutions_of_labelled_and_judged_voxels(unlabelled: int) -> None:
    batch = tiny_batch(1, 1, size=(16, 24))
    batch.target[:, :, 3:9, 5:12] = -1
    expected = by_hand(batch.image, batch.target)
    if unlabelled:
        junk = Batch(*(field.clone() for field in batch))._replace(labelled=torch.zeros(2, dtype=torch.bool))
        junk.target.fill_(torch.nan)
        batch = Batch(*(torch.cat(pair) for pair in zip(batch, junk, strict=True)))
    network = Given()
    context = StepContext({"segmentor": network}, batch, "sigmoid", ignores=True)
    terms = Supervised(dice=SoftDice(reduction="batch"), cross_entropy_weight=1.0).loss(context)
    torch.testing.assert_close(terms.total, expected)
    torch.testing.assert_close(sum(terms.parts.values()), expected)
    assert network.calls == [True]
    assert context.logits.shape == batch.target.shape or unlabelled


def test_mask_channels_reach_the_lower_resolutions_too() -> None:
    network = deep_net(4, 1)
    batch = tiny_batch(2, 1)
    context = StepContext({"segmentor": network}, batch, "sigmoid", "channels")
    assert [tuple(one.shape[2:]) for one in context.deep_logits()] == [(32, 32), (16, 16), (8, 8)]
    assert context.logits is context.deep_logits()[0]


def test_validation_compares_the_logits_that_are_there_and_runs_no_network() -> None:
    network, batch = Given(), tiny_batch(1, 1, size=(16, 24))
    context = StepContext({"segmentor": network}, batch, "sigmoid")
    context.kept("logits", "segmentor", lambda: batch.image)
    terms = Supervised(cross_entropy_weight=1.0, dice_weight=0).validation_loss(context)
    torch.testing.assert_close(terms.total, cross_entropy(batch.image, batch.target, "sigmoid"))
    assert not network.calls


def test_critics_see_the_images_own_resolution_and_dice_all() -> None:
    batch, network = tiny_batch(1, 1), Given()
    seen: list[Tensor] = []
    critic = Critic(2, width=2)
    critic.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    objective = SegAN(dice=SoftDice(reduction="batch"))
    context = StepContext({"segmentor": network, "critic": critic}, batch, "sigmoid")
    terms = objective.segmentor_loss(context)
    dice = [
        soft_dice_loss(one.sigmoid(), interpolate(batch.target, one.shape[2:], mode="nearest-exact"), reduction="batch")
        for one in context.deep_logits()
    ]
    torch.testing.assert_close(terms.parts["dice"], (4 * dice[0] + 2 * dice[1] + dice[2]).detach() / 7)
    torch.testing.assert_close(terms.total.detach(), terms.parts["dice"] + terms.parts["adversarial"])
    assert all(view.shape == (2, 2, 32, 32) for view in seen)
    assert network.calls == [True]


def networks_for(objective: Objective) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    networks = with_twins(objective, {"segmentor": deep_net(2, 3)}, lambda: deep_net(2, 3))
    if "critic" in objective.networks:
        networks["critic"] = Critic(objective.channels("critic", 2, 3)["in_channels"], width=2)
    return networks


PLAYED = [
    Supervised(cross_entropy_weight=1.0),
    SegAN(),
    SegAN(update="simultaneous"),
    MeanTeacher(ramp_up=0),
    VirtualAdversarial(ramp_up=0),
    CrossPseudoSupervision(ramp_up=0),
    BidirectionalCopyPaste(warm_up=0),
    BidirectionalCopyPaste(warm_up=9),
]


@pytest.mark.parametrize("objective", PLAYED, ids=[f"{type(o).__name__}{i}" for i, o in enumerate(PLAYED)])
def test_in_every_game_each_head_moves_by_one_pass_with_heads_in_a_step(objective: Objective) -> None:
    networks = networks_for(objective)
    batch = partly_labelled(2, 3, labelled=2, unlabelled=2) if objective.needs_unlabelled else tiny_batch(2, 3)
    passes: list[str] = []
    for name, network in networks.items():
        heads = getattr(network, "heads", [])
        for head in heads[:1]:
            head.register_forward_hook(lambda *_, name=name: passes.append(name))
    before = {name: parameters_of(one.heads) for name, one in networks.items() if hasattr(one, "heads")}
    context = StepContext(networks, batch, "sigmoid", step=1, steps=10)
    for phase in objective.phases():
        losses = take_phase(phase, context, descent(networks))
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    learners = set(before) - set(objective.teachers)
    assert sorted(passes) == sorted(learners)
    for name in learners:
        assert all(
            not torch.equal(old, new)
            for old, new in zip(before[name], parameters_of(networks[name].heads), strict=True)
        )


def test_of_two_segmentors_each_is_compared_at_its_own_resolutions() -> None:
    objective = CrossPseudoSupervision(ramp_up=0, supervised=Supervised(dice_weight=0, cross_entropy_weight=1.0))
    networks = {"segmentor": deep_net(2, 3), "second": deep_net(2, 3)}
    batch = partly_labelled(2, 3)
    context = StepContext(networks, batch, "sigmoid", step=1, steps=10)
    found = objective.loss(context, "second", "segmentor").parts["cross_entropy"]
    logits = networks["second"](batch.image, deep=True)
    rows = batch.labelled
    each = [
        cross_entropy(one[rows], interpolate(batch.target[rows], one.shape[2:], mode="nearest-exact"), "sigmoid")
        for one in logits
    ]
    torch.testing.assert_close(found, (4 * each[0] + 2 * each[1] + each[2]) / 7)


def system(objective: Objective, **settings: Any) -> AdversarialSegmentation:
    networks = {"segmentor": deep_net, "critic": partial(Critic, width=2)}
    given = {name: networks[name] for name in objective.networks}
    return AdversarialSegmentation(given, objective, modalities=["t1", "flair"], labels="regions", **settings)


class OneResolution(Objective):
    def phases(self) -> Sequence[Phase]:
        return [Phase("segmentor", lambda context: LossTerms(context.logits.mean(), {}))]


@pytest.mark.parametrize("objective", [OneResolution(), SegAN(dice_weight=0.0)])
def test_a_game_without_a_loss_at_lower_resolutions_refuses_them(objective: Objective) -> None:
    with pytest.raises(UsageError, match=r"segmentor\.init_args\.deep_supervision 2 does nothing in .*; give 0"):
        system(objective)


def test_other_objectives_with_a_loss_of_labels_take_part() -> None:
    assert all(game.supervises_deeply() for game in (Reciprocal(), SemiSupervisedGAN(), MeanTeacher(ramp_up=0)))


def test_targets_of_labels_stay_one_hot() -> None:
    target = one_hot(torch.randint(0, 4, (2, 16, 16)), 4).movedim(-1, 1).float()
    batch = tiny_batch(2, 1, size=(16, 16))._replace(target=target)
    context = StepContext({"segmentor": deep_net(2, 4)}, batch, "softmax")
    for one in context.at_resolutions():
        assert one.target.shape == one.logits.shape
        assert torch.equal(one.target.sum(1), torch.ones_like(one.target[:, 0]))


def test_the_averaged_network_has_the_heads_too() -> None:
    made = system(Supervised(), averaging=0.9)
    copy = made.averaged["segmentor"].module
    assert not differ(parameters_of(made.segmentor.heads), parameters_of(copy.heads))
