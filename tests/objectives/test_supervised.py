import pytest
import torch

from segan_pl.losses.overlap import SoftDice, cross_entropy, soft_dice_loss
from segan_pl.nets.segan import Segmentor
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.supervised import Supervised
from tests.contracts import ObjectiveContract, tiny_batch


class TestSupervised(ObjectiveContract):
    options = (
        {},
        {"dice": SoftDice(reduction="batch"), "cross_entropy_weight": 0.5},
        {"dice_weight": 0, "cross_entropy_weight": 1},
    )

    def build(self, **options):
        return Supervised(**options)

    def networks(self, objective, modalities, channels):
        return {"segmentor": Segmentor(modalities, channels, width=8)}


@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 3), ("softmax", 4)])
def test_loss_is_the_weighted_sum_and_parts_are_bare(activation, channels):
    batch = tiny_batch(2, channels, activation=activation)
    context = StepContext({"segmentor": Segmentor(2, channels, width=2)}, batch, activation)
    total, parts = Supervised(dice_weight=2.0, cross_entropy_weight=0.5).loss(context)
    dice = soft_dice_loss(context.probability, batch.target)
    entropy = cross_entropy(context.logits, batch.target, activation)
    torch.testing.assert_close(total, 2 * dice + 0.5 * entropy)
    torch.testing.assert_close(parts, {"dice": dice.detach(), "cross_entropy": entropy.detach()})


def test_a_term_of_weight_0_is_left_out():
    context = StepContext({"segmentor": Segmentor(2, 1, width=2)}, tiny_batch(), "sigmoid")
    assert set(Supervised().loss(context).parts) == {"dice"}
    assert set(Supervised(dice_weight=0, cross_entropy_weight=1).loss(context).parts) == {"cross_entropy"}


@pytest.mark.parametrize("options", [{"dice_weight": 0.0}, {"dice_weight": -1.0}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        Supervised(**options)


def test_it_has_no_critic():
    with pytest.raises(ValueError, match="does not say the channels of its critic"):
        Supervised().channels("critic", 4, 1)


@pytest.mark.parametrize(("activation", "channels", "first"), [("softmax", 4, 1), ("sigmoid", 3, 0)])
def test_the_background_is_left_out_of_the_labels_dice_and_regions_have_none(activation, channels, first):
    batch = tiny_batch(2, channels, activation=activation)
    context = StepContext({"segmentor": Segmentor(2, channels, width=2)}, batch, activation)
    with_all = Supervised(dice=SoftDice(form="linear")).loss(context).total
    found = Supervised(dice=SoftDice(form="linear"), dice_background=False).loss(context).total
    torch.testing.assert_close(
        found, soft_dice_loss(context.probability[:, first:], batch.target[:, first:], form="linear")
    )
    assert torch.equal(found, with_all) == (activation == "sigmoid")
