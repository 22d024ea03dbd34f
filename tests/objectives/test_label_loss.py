"""The supervised loss in place of an adversarial objective's Dice, and virtual adversarial training of labels alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segan_pl.losses.overlap import SoftDice, cross_entropy
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.base import LossTerms, Objective, StepContext
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from segan_pl.objectives.supervised import Supervised
from tests.contracts import tiny_batch
from tests.objectives.semi_supervised.contract import partly_labelled
from tests.objectives.test_labelled import Counting

GAMES: dict[str, tuple[type[Objective], dict[str, Any]]] = {
    "alternating": (SegAN, {"update": "alternating"}),
    "simultaneous": (SegAN, {"update": "simultaneous"}),
    "reciprocal": (Reciprocal, {"vat_weight": 0.0, "critic_input": "concat"}),
}


def learnt(objective: Objective) -> tuple[LossTerms, list[torch.Tensor | None]]:
    """The loss of the phase that moves the segmentor, and the segmentor's gradients."""
    torch.manual_seed(0)
    critic = Critic(**objective.channels("critic", 2, 1), width=4)
    networks: dict[str, nn.Module] = {"segmentor": Segmentor(2, 1, width=4), "critic": critic}
    (phase,) = (one for one in objective.phases() if one.network == "segmentor")
    terms = phase.loss(StepContext(networks, tiny_batch(2, 1), "sigmoid"))
    terms.total.backward()
    return terms, [parameter.grad for parameter in networks["segmentor"].parameters()]


@pytest.mark.parametrize("game", GAMES)
def test_dice_alone_is_the_same_as_a_supervised_loss(game: str) -> None:
    kind, options = GAMES[game]
    dice = SoftDice(reduction="batch")
    (plain, gradients), (given, same) = (
        learnt(kind(**options, dice_weight=0.7, **loss))
        for loss in ({"dice": dice}, {"supervised": Supervised(dice=dice)})
    )
    assert given.parts.keys() == plain.parts.keys()
    torch.testing.assert_close(given.total, plain.total)
    torch.testing.assert_close(same, gradients)


@pytest.mark.parametrize("game", GAMES)
def test_cross_entropy_joins_dice_with_the_weights_of_both_losses(game: str) -> None:
    kind, options = GAMES[game]
    both = Supervised(dice=SoftDice(reduction="batch"), cross_entropy_weight=0.5)
    objective = kind(**options, dice_weight=0.7, supervised=both)
    terms, _ = learnt(objective)
    alone, _ = learnt(kind(**options, dice_weight=0.7, dice=SoftDice(reduction="batch")))
    torch.manual_seed(0)
    critic = Critic(**objective.channels("critic", 2, 1), width=4)
    context = StepContext({"segmentor": Segmentor(2, 1, width=4), "critic": critic}, tiny_batch(2, 1), "sigmoid")
    # (the networks were drawn in the order of `learnt`)
    entropy = cross_entropy(context.logits, context.target, "sigmoid").detach()
    torch.testing.assert_close(terms.parts["cross_entropy"], entropy)
    torch.testing.assert_close(terms.total, alone.total + 0.7 * 0.5 * entropy)
    assert objective.validation_parts() == ("dice", "cross_entropy")


@pytest.mark.parametrize("kind", [SegAN, Reciprocal])
def test_two_losses_of_labels_are_refused(kind: type[Objective]) -> None:
    with pytest.raises(ValueError, match="supervised and dice are given, expected one of them"):
        kind(supervised=Supervised(), dice=SoftDice())


def test_a_supervised_loss_without_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="dice_weight is 0, with which the supervised loss does nothing"):
        SegAN(supervised=Supervised(), dice_weight=0.0)


def test_perturbing_labelled_samples_alone_shows_the_network_no_others() -> None:
    objective = VirtualAdversarial(samples="labelled")
    assert not objective.needs_unlabelled
    assert not objective.reads_unlabelled()
    found = {}
    for unlabelled in (0, 2):
        torch.manual_seed(0)
        network = Counting()
        batch = partly_labelled(labelled=2, unlabelled=unlabelled)
        found[unlabelled] = objective.loss(StepContext({"segmentor": network}, batch, "sigmoid")).total
        assert network.seen == [2, 2, 2]  # the samples, the search for their perturbation, and perturbed
    torch.testing.assert_close(found[2], found[0])


def test_samples_of_another_kind_are_refused_with_all_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"samples is 'some', expected one of \('all', 'unlabelled', 'labelled'\)"):
        VirtualAdversarial(samples="some")  # type: ignore[arg-type]
