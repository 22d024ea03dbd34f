"""What every semi-supervised objective must keep besides `ObjectiveContract`; small networks and batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.errors import UsageError
from segan_pl.losses.activation import Activation
from segan_pl.nets.segan import Segmentor
from segan_pl.objectives.base import Objective, StepContext
from tests.contracts import (
    Networks,
    ObjectiveContract,
    buffers_of,
    descent,
    differ,
    parameters_of,
    take_phase,
    tiny_batch,
)

STEPS = 100


def partly_labelled(
    modalities: int = 2,
    channels: int = 1,
    *,
    size: Sequence[int] = (32, 32),
    activation: Activation = "sigmoid",
    labelled: int = 2,
    unlabelled: int = 2,
    junk: float = float("nan"),
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """A tiny batch of which the last samples have no label, but junk as a target, and seeds of their own."""
    count = labelled + unlabelled
    batch = tiny_batch(modalities, channels, size=size, items=count, activation=activation, dtype=dtype)
    target = batch.target.clone()
    target[labelled:] = junk
    seeds = torch.arange(count) * 7919 + 13
    return batch._replace(target=target, labelled=torch.arange(count) < labelled, seed=seeds)


def with_twins(objective: Objective, networks: dict[str, nn.Module], build: Any) -> dict[str, nn.Module]:
    """The networks that are built like another one, teachers with its weights, as the system makes them."""
    for name, of in objective.built_like.items():
        networks[name] = build()
        if name in objective.teachers:
            networks[name].load_state_dict(networks[of].state_dict())
            networks[name].requires_grad_(False)
    return networks


class SemiSupervisedContract(ObjectiveContract):
    """Inherit and define `build`; `forwards` are the passes of a step after any warm-up, by network."""

    forwards: Mapping[str, int]
    step = 0

    def networks(self, objective: Objective, modalities: int, channels: int) -> dict[str, nn.Module]:
        build = lambda: Segmentor(modalities, channels, width=8)  # noqa: E731
        return with_twins(objective, {"segmentor": build()}, build)

    def context(
        self, networks: Networks, modalities: int = 2, channels: int = 1, activation: Activation = "sigmoid"
    ) -> StepContext:
        batch = partly_labelled(modalities, channels, size=self.size, activation=activation)
        return StepContext(networks, batch, activation, step=self.step, steps=STEPS)

    def moved(self, batch: Batch, **options: Any) -> list[Tensor]:
        """Everything that a network holds after one step on a batch."""
        objective, networks = self.cast(**options)
        context = StepContext(networks, batch, "sigmoid", step=self.step, steps=STEPS)
        torch.manual_seed(5)
        for phase in objective.phases():
            take_phase(phase, context, descent(networks))
        return [tensor for one in networks.values() for tensor in (*parameters_of(one), *buffers_of(one))]

    def test_one_segmentor_forward_serves_a_batch(self) -> None:
        """And so many of the other networks as the paper asks for."""
        objective, networks = self.cast()
        calls = Counter[str]()
        for name, network in networks.items():
            network.register_forward_hook(lambda *_, name=name: calls.update([name]))
        context = self.context(networks)
        for phase in objective.phases():
            take_phase(phase, context, descent(networks))
        assert calls == self.forwards

    def test_unlabelled_samples_change_nothing(self) -> None:
        """Their images change what is learnt; what stands in their targets changes nothing."""
        for option in self.options:
            found = [self.moved(partly_labelled(size=self.size, junk=junk), **option) for junk in (float("nan"), 7.0)]
            assert not differ(*found), option
            assert all(tensor.isfinite().all() for tensor in found[0])
            other = partly_labelled(size=self.size)
            other.image[2:] += 0.5 * torch.rand(other.image[2:].shape, generator=torch.Generator().manual_seed(3))
            assert differ(found[0], self.moved(other, **option)), option

    @pytest.mark.parametrize("labels", [0, 4])
    def test_a_batch_of_one_kind_alone_is_refused_in_one_line(self, labels: int) -> None:
        objective, networks = self.cast()
        batch = partly_labelled(size=self.size, labelled=labels, unlabelled=4 - labels)
        context = StepContext(networks, batch, "sigmoid", step=self.step, steps=STEPS)
        with pytest.raises(UsageError, match=f"^a batch of 4 samples has {labels} with a label; .*--data.n_labelled N"):
            objective.phases()[0].loss(context)

    def test_it_says_that_it_reads_unlabelled_samples_and_needs_them(self) -> None:
        objective = self.build()
        assert objective.needs_unlabelled
        assert objective.reads_unlabelled()

    def test_losses_are_float32_under_autocast(self) -> None:
        for option in self.options:
            objective, networks = self.cast(**option)
            with torch.autocast("cpu", torch.bfloat16):
                context = self.context(networks)
                losses = [phase.loss(context) for phase in objective.phases()]
                for total, parts in losses:
                    assert {total.dtype, *(part.dtype for part in parts.values())} == {torch.float32}
                sum(one.total for one in losses).backward()  # type: ignore[union-attr]
            for name in set(networks) - set(objective.teachers):
                assert all(parameter.grad is not None for parameter in networks[name].parameters()), (name, option)

    def test_validation_is_the_supervised_loss(self) -> None:
        objective, networks = self.cast()
        context = StepContext(networks, tiny_batch(size=self.size), "sigmoid")
        expected = objective.supervised.loss(context)  # type: ignore[union-attr]
        found = objective.validation_loss(context)
        assert torch.equal(found.total, expected.total)
        assert set(objective.validation_parts()) == set(found.parts) == {"dice", "cross_entropy"}
