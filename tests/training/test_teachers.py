"""Networks that a configuration does not give: a second one of the same kind, and a teacher that follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, PlainSegmentor, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET


class Pair(Objective):
    """Two segmentors learn alike, each for itself; a teacher goes half of the way to the first after each step."""

    networks = ("segmentor", "second", "teacher")
    built_like = {"second": "segmentor", "teacher": "segmentor"}  # noqa: RUF012
    teachers = ("teacher",)

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def phases(self) -> Sequence[Phase]:
        return [Phase("segmentor", self.loss, after=self.follow), Phase("second", partial(self.loss, name="second"))]

    def loss(self, context: StepContext, name: str = "segmentor") -> LossTerms:
        self.steps.append(context.step)
        gap = (context.as_segmentor(name)(context.batch.image).sigmoid() - context.target).square().mean()
        return LossTerms(gap, {"gap": gap.detach()})

    def follow(self, context: StepContext) -> None:
        pairs = zip(context.networks["teacher"].parameters(), context.networks["segmentor"].parameters(), strict=True)
        with torch.no_grad():
            for own, new in pairs:
                own.lerp_(new, 0.5)


def build(**settings: Any) -> AdversarialSegmentation:
    torch.manual_seed(0)
    options = {"networks": {"segmentor": PlainSegmentor}, "optimizers": {"default": partial(torch.optim.SGD, lr=0.1)}}
    of_data = {"modalities": ["t1", "t1ce", "t2", "flair"], "labels": "whole_tumour"}
    return AdversarialSegmentation(objective=Pair(), **{**options, **of_data, **settings})


class Start(L.Callback):
    """Notes whether the teacher had the first network's weights, and whether the second had its own."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not pl_module.batches_seen:
            first, second, teacher = (parameters(pl_module, name) for name in Pair.networks)
            self.found = (torch.equal(first, teacher), torch.equal(first, second))


def parameters(system: Any, name: str) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in system.networks[name].parameters()])


def test_a_teacher_begins_with_the_weights_that_it_follows_and_no_optimiser_moves_it(
    make_data: Callable[..., MRIDataModule], tmp_path: Path
) -> None:
    system, start = build(), Start()
    trainer = build_trainer(tmp_path, start)
    with torch.no_grad():  # as weights that are loaded into one network alone
        for parameter in system.networks["segmentor"].parameters():
            parameter.add_(0.25)
    trainer.fit(system, make_data())
    assert start.found == (True, False)
    assert system.trained == ["segmentor", "second"]
    assert len(trainer.optimizers) == 2
    assert not torch.equal(parameters(system, "teacher"), parameters(system, "segmentor"))
    assert not any(parameter.requires_grad for parameter in system.networks["teacher"].parameters())
    seen = system.objective.steps
    assert seen == [step for step in range(system.groups_seen) for _ in range(2)]


def test_a_run_that_goes_on_keeps_its_teacher(make_data: Callable[..., MRIDataModule], tmp_path: Path) -> None:
    whole, first, second = build(), build(), build()
    build_trainer(tmp_path / "whole", epochs=2).fit(whole, make_data())
    trainer = build_trainer(tmp_path / "first", epochs=1)
    trainer.fit(first, make_data())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    build_trainer(tmp_path / "second", epochs=2).fit(second, make_data(), ckpt_path=tmp_path / "first.ckpt")
    for name in Pair.networks:
        assert torch.equal(parameters(whole, name), parameters(second, name))
    assert second.objective.steps[0] == first.groups_seen


def test_the_configuration_gives_neither_such_a_network_nor_a_teachers_optimiser() -> None:
    with pytest.raises(UsageError, match="Pair trains segmentor; the configuration gives also teacher"):
        build(networks={"segmentor": PlainSegmentor, "teacher": PlainSegmentor})
    with pytest.raises(UsageError, match=r"--model\.optimizers\.teacher: no such network"):
        build(optimizers={"teacher": partial(torch.optim.SGD, lr=0.1)})
