"""Semi-supervised objectives in runs: exact continuation, lengths that follow the run, frozen parts, refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.objectives.base import LossTerms, Objective, StepContext
from segan_pl.objectives.semi_supervised.bcp import BidirectionalCopyPaste
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.callbacks.freezing import Freezing
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_system, build_trainer
from tests.training.ddp_run import SEMI_SUPERVISED

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]
ADAM = {"default": partial(torch.optim.Adam, lr=1e-2)}


def system_of(objective: Objective, **settings: Any) -> AdversarialSegmentation:
    return build_system(objective, plain=True, optimizers=ADAM, **settings)


def few_labels(make_data: MakeData) -> MRIDataModule:
    """Two of six cases labelled: three batches an epoch of six labelled and six unlabelled slices."""
    return make_data(n_labelled=2)


def state(system: AdversarialSegmentation) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in system.networks.state_dict().items()}


@pytest.mark.parametrize("name", SEMI_SUPERVISED)
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(name: str, make_data: MakeData, tmp_path: Path) -> None:
    systems = [system_of(SEMI_SUPERVISED[name]()) for _ in range(3)]
    whole, first, second = systems
    torch.manual_seed(3)
    build_trainer(tmp_path / "whole", epochs=2).fit(whole, few_labels(make_data))
    trainer = build_trainer(tmp_path / "first", epochs=1)
    torch.manual_seed(3)
    trainer.fit(first, few_labels(make_data))
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    torch.manual_seed(99)  # what the process drew before does not matter
    build_trainer(tmp_path / "second", epochs=2).fit(second, few_labels(make_data), ckpt_path=tmp_path / "first.ckpt")
    expected, found, middle = state(whole), state(second), state(first)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert all(not torch.equal(value, middle[key]) for key, value in expected.items() if "weight" in key)


class Lengths(MeanTeacher):
    """Notes the step and the run's length in each loss."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int | None]] = []

    def loss(self, context: StepContext) -> LossTerms:
        self.seen.append((context.step, context.steps))
        return super().loss(context)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_knows_how_many_the_run_takes(accumulate: int, make_data: MakeData, tmp_path: Path) -> None:
    objective = Lengths()
    trainer = build_trainer(tmp_path, epochs=2, limit_val_batches=0)
    trainer.fit(system_of(objective, accumulate=accumulate), few_labels(make_data))
    batches = int(trainer.num_training_batches)
    steps = 2 * -(-batches // accumulate)
    assert {length for _, length in objective.seen} == {steps}
    assert sorted({step for step, _ in objective.seen}) == list(range(steps))
    assert len(objective.seen) == 2 * batches


def test_a_run_without_an_end_is_refused_where_a_length_follows_it(make_data: MakeData, tmp_path: Path) -> None:
    trainer = build_trainer(tmp_path, epochs=-1, limit_val_batches=0)
    with pytest.raises(UsageError, match="MeanTeacher: ramp_up null follows the run, which has no end"):
        trainer.fit(system_of(MeanTeacher()), few_labels(make_data))


def test_a_run_without_unlabelled_cases_is_refused_with_the_remedy(make_data: MakeData, tmp_path: Path) -> None:
    said = "MeanTeacher needs unlabelled cases too, and every training case is labelled; give --data.n_labelled N, so"
    with pytest.raises(UsageError, match=said):
        build_trainer(tmp_path).fit(system_of(MeanTeacher()), make_data())


@pytest.mark.parametrize("name", SEMI_SUPERVISED)
def test_what_is_frozen_stays_in_the_segmentor_and_in_its_teacher(
    name: str, make_data: MakeData, tmp_path: Path
) -> None:
    system = system_of(SEMI_SUPERVISED[name]())
    before = state(system)
    trainer = build_trainer(tmp_path, Freezing(["segmentor.layers.0"]), limit_val_batches=0)
    trainer.fit(system, few_labels(make_data))
    after = state(system)
    still = {key for key, value in after.items() if torch.equal(value, before[key])}
    assert still == {"segmentor.layers.0.weight", "segmentor.layers.0.bias"}
    for teacher in system.objective.teachers:
        assert torch.equal(after[f"{teacher}.layers.0.weight"], before["segmentor.layers.0.weight"])
        assert not torch.equal(after[f"{teacher}.layers.2.weight"], before["segmentor.layers.2.weight"])


def test_copy_paste_begins_like_supervised_training_on_mixed_slices_and_hands_its_weights_on(
    make_data: MakeData, tmp_path: Path
) -> None:
    """Until the warm-up's end the teacher is the segmentor, in the checkpoint too."""
    system = system_of(BidirectionalCopyPaste(warm_up=1000))
    build_trainer(tmp_path, limit_val_batches=0).fit(system, few_labels(make_data))
    own, taught = system.networks["segmentor"].state_dict(), system.networks["teacher"].state_dict()
    assert all(torch.equal(value, taught[key]) for key, value in own.items())


def test_a_supervised_run_is_not_told_that_it_needs_unlabelled_cases(make_data: MakeData, tmp_path: Path) -> None:
    build_trainer(tmp_path, limit_val_batches=0).fit(system_of(Supervised()), make_data())
