"""Unlabelled samples of a batch: what a step context shares with its labelled part, and steps that are not taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.segan import SegAN
from tests.cohort import QUIET, PlainSegmentor, build_system, build_trainer
from tests.contracts import tiny_batch

pytest_plugins = ["tests.cohort_fixtures"]


class Counting(nn.Module):
    """A segmentor that counts its forward passes, and the samples in them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = PlainSegmentor(2, 1)
        self.seen: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(len(image))
        return self.network(image)


def partly(labelled: list[bool]) -> Batch:
    """A batch of which some samples are labelled."""
    batch = tiny_batch(2, 1, items=len(labelled))
    return batch._replace(labelled=torch.tensor(labelled))


def context(labelled: list[bool]) -> StepContext:
    return StepContext({"segmentor": Counting()}, partly(labelled), "sigmoid")


def test_a_wholly_labelled_context_is_its_own_labelled_part() -> None:
    whole = context([True, True])
    assert whole.labelled is whole


def test_a_context_without_a_label_has_no_labelled_part() -> None:
    assert context([False, False]).labelled is None


@pytest.mark.parametrize("labelled", [[True, True, False], [False, True, True], [True, False, True]])
def test_the_labelled_part_has_the_labelled_samples_of_every_field(labelled: list[bool]) -> None:
    whole = context(labelled)
    part = whole.labelled
    assert part is not None
    assert part.labelled is part
    assert whole.labelled is part
    for field, all_of_it in zip(part.batch, whole.batch, strict=True):
        assert torch.equal(field, all_of_it[torch.tensor(labelled)])


@pytest.mark.parametrize("labelled", [[True, True, False], [False, True, True], [True, False, True, False]])
def test_the_unlabelled_part_has_the_others_and_shares_what_has_run(labelled: list[bool]) -> None:
    whole = context(labelled)
    everything = whole.logits
    part = whole.unlabelled
    assert part is not None
    assert whole.unlabelled is part
    for field, all_of_it in zip(part.batch, whole.batch, strict=True):
        assert torch.equal(field, all_of_it[~torch.tensor(labelled)])
    assert torch.equal(part.logits, everything[~torch.tensor(labelled)])
    assert whole.networks["segmentor"].seen == [len(labelled)]
    part.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in whole.networks["segmentor"].parameters())


def test_a_wholly_labelled_context_has_no_unlabelled_part() -> None:
    assert context([True, True]).unlabelled is None


def test_other_samples_of_a_step_are_of_the_same_step_and_share_no_forward_pass() -> None:
    whole = StepContext({"segmentor": Counting()}, partly([True, False]), "sigmoid", ignores=True, step=3, steps=9)
    assert whole.logits.shape[0] == 2
    other = whole.of(partly([True, True, False]))
    assert (other.step, other.steps, other.ignores) == (3, 9, True)
    assert other.logits.shape[0] == 3
    assert whole.networks["segmentor"].seen == [2, 3]


def test_every_voxel_of_an_unlabelled_sample_counts_whatever_its_target_holds() -> None:
    batch = partly([True, False])
    batch.target[:] = -1
    voxels = StepContext({"segmentor": Counting()}, batch, "sigmoid", ignores=True).voxels
    assert voxels is not None
    assert not voxels[0].any()
    assert voxels[1].all()


def test_a_forward_pass_of_all_samples_is_shared_and_otherwise_only_labelled_ones_run() -> None:
    alone = context([True, True, False])
    part = alone.labelled
    assert part is not None
    assert part.probability.shape[0] == 2
    assert alone.networks["segmentor"].seen == [2]
    joint = context([True, True, False])
    joint.networks["segmentor"].load_state_dict(alone.networks["segmentor"].state_dict())
    everything = joint.probability
    shared = joint.labelled
    assert shared is not None
    assert joint.networks["segmentor"].seen == [3]
    torch.testing.assert_close(shared.probability, part.probability)
    assert torch.equal(shared.probability, everything[:2])
    with joint.only(["segmentor"]):
        shared.probability.sum().backward()
    assert all(parameter.grad is not None for parameter in joint.networks["segmentor"].parameters())


def test_a_forward_pass_that_is_kept_while_the_critic_moves_reaches_the_segmentor() -> None:
    whole = context([True, False])
    whole = StepContext({"segmentor": whole.networks["segmentor"], "critic": nn.Linear(1, 1)}, whole.batch, "sigmoid")
    with whole.only(["critic"]):
        part = whole.labelled
        assert part is not None
        assert part.probability.requires_grad
    part.probability.sum().backward()
    assert all(parameter.grad is not None for parameter in whole.networks["segmentor"].parameters())


def test_only_a_loss_that_needs_a_label_has_asked_in_vain() -> None:
    for labelled, in_vain in (([False, False], True), ([True, False], False)):
        one = context(labelled)
        assert not one.asked_in_vain
        assert one.probability.shape[0] == 2
        assert not one.asked_in_vain
        assert (one.labelled is None) is in_vain
        assert one.asked_in_vain is in_vain


@pytest.fixture
def without_labels(make_data: Callable[..., MRIDataModule], monkeypatch: pytest.MonkeyPatch) -> MRIDataModule:
    """Data whose training batches lose their labels on the way to the device."""
    data = make_data()
    monkeypatch.setattr(
        data,
        "on_after_batch_transfer",
        lambda batch, _: batch._replace(labelled=batch.labelled & (data.trainer is None or not data.trainer.training)),
    )
    return data


@pytest.mark.usefixtures("isolated")
@pytest.mark.filterwarnings("ignore")
def test_a_rank_without_a_labelled_sample_is_refused_as_the_others_would_wait_for_it(
    without_labels: MRIDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L.Trainer, "world_size", property(lambda _: 2))
    with pytest.raises(
        UsageError, match="epoch 0, batch 0: rank 0 of 2 has no labelled sample, but SegAN needs one on every rank"
    ):
        build_trainer(tmp_path).fit(build_system(), datamodule=without_labels)


@pytest.mark.usefixtures("isolated")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_a_batch_without_a_labelled_sample_takes_no_step(
    without_labels: MRIDataModule, tmp_path: Path, update: str
) -> None:
    system = build_system(SegAN(update=update))  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in system.state_dict().items()}
    trainer = build_trainer(tmp_path)
    trainer.fit(system, datamodule=without_labels)
    assert trainer.global_step == 0
    for name, value in system.state_dict().items():
        assert torch.equal(value, before[name]), name


pytestmark = QUIET
