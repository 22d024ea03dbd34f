"""A step computes what its phases ask for, once, and every phase finds the graph of its own network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from tests.contracts import descent, take_phase, tiny_batch


class CriticAlone(Objective):
    """Its phase looks at images only."""

    networks = ("segmentor", "critic")

    def phases(self) -> Sequence[Phase]:
        return [Phase("critic", self.loss)]

    def loss(self, context: StepContext) -> LossTerms:
        images = torch.cat([context.batch.image, context.batch.target], 1)
        return LossTerms(context.networks["critic"](images)[-1].mean(), {})


def built(objective: Objective) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {"segmentor": Segmentor(2, 1, width=2)}
    if "critic" in objective.networks:
        networks["critic"] = Critic(3, width=2)
    return networks


@pytest.mark.parametrize(
    ("objective", "forwards"),
    [
        (Supervised(cross_entropy_weight=1.0), {"segmentor": 1}),
        (SegAN(update="alternating"), {"segmentor": 1, "critic": 4}),  # real and fake in each of two phases
        (SegAN(update="simultaneous"), {"segmentor": 1, "critic": 2}),
        (CriticAlone(), {"critic": 1}),
    ],
    ids=["supervised", "alternating", "simultaneous", "the critic alone"],
)
def test_a_step_runs_as_many_forward_passes_as_its_phases_ask_for(
    objective: Objective, forwards: dict[str, int]
) -> None:
    networks, calls = built(objective), Counter[str]()
    for name, network in networks.items():
        network.register_forward_hook(lambda *_, name=name: calls.update([name]))
    context = StepContext(networks, tiny_batch(), "sigmoid")
    assert not calls
    for phase in objective.phases():
        take_phase(phase, context, descent(networks))
    assert calls == forwards


def test_what_another_networks_phase_computed_first_has_its_graph_and_frozen_parameters_stay_frozen() -> None:
    networks = built(SegAN())
    frozen = networks["segmentor"].get_parameter("enc2.conv.weight").requires_grad_(False)
    context = StepContext(networks, tiny_batch(), "sigmoid")
    with context.only(["critic"]), torch.no_grad():
        first = context.probability
        assert not any(parameter.requires_grad for parameter in networks["segmentor"].parameters())
    with context.only(["segmentor"]):
        assert context.probability is first
        context.probability.mean().backward()
    moved = {name for name, parameter in networks["segmentor"].named_parameters() if parameter.grad is not None}
    assert moved == {name for name, _ in networks["segmentor"].named_parameters()} - {"enc2.conv.weight"}
    assert not frozen.requires_grad
    assert all(parameter.grad is None for parameter in networks["critic"].parameters())


def test_a_result_that_an_objective_keeps_is_computed_once_a_step() -> None:
    networks, batch = built(SegAN()), tiny_batch()
    for _ in range(2):
        context, calls = StepContext(networks, batch, "sigmoid"), []
        for _ in range(3):
            found = context.kept("drawn", "critic", lambda calls=calls: calls.append(1) or torch.ones(()))
        assert found.item() == 1
        assert len(calls) == 1
