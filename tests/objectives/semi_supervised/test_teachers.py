"""Teachers: how they follow, what batch norm and missing modalities do in them, and when a snapshot is taken."""

from __future__ import annotations

from math import exp
from typing import Any

import pytest
import torch
from torch import nn

from segan_pl.errors import UsageError
from segan_pl.losses.vat import VATLoss
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.semi_supervised.base import grown
from segan_pl.objectives.semi_supervised.bcp import BidirectionalCopyPaste
from segan_pl.objectives.semi_supervised.cps import CrossPseudoSupervision
from segan_pl.objectives.semi_supervised.fixmatch import FixMatch
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.self_training import SelfTraining
from segan_pl.objectives.semi_supervised.teachers import noisy
from segan_pl.objectives.semi_supervised.ua_mt import UncertaintyAwareMeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from segan_pl.objectives.supervised import Supervised
from tests.contracts import buffers_of, descent, differ, parameters_of, take_phase
from tests.objectives.semi_supervised.contract import partly_labelled, with_twins

OBJECTIVES: dict[str, Objective] = {
    "mean teacher": MeanTeacher(),
    "uncertainty-aware": UncertaintyAwareMeanTeacher(passes=2),
    "cross pseudo supervision": CrossPseudoSupervision(),
    "FixMatch": FixMatch(threshold=0.5),
    "copy-paste": BidirectionalCopyPaste(),
    "self-training": SelfTraining(threshold=0.5),
    "virtual adversarial": VirtualAdversarial(),
}
each = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def built(objective: Objective, modalities: int = 2, channels: int = 1, *, norm: Any = "batch") -> dict[str, nn.Module]:
    def build() -> MonaiSegmentor:
        return MonaiSegmentor(modalities, channels, width=4, levels=2, norm=norm)

    torch.manual_seed(0)
    return with_twins(objective, {"segmentor": build()}, build)


def volumes(networks: dict[str, nn.Module], *, step: int, mask: Any = "zeros", **batch: Any) -> StepContext:
    return StepContext(networks, partly_labelled(size=(8, 8, 8), **batch), "sigmoid", mask, step=step, steps=100)


def take(objective: Objective, networks: dict[str, nn.Module], *, step: int) -> None:
    context = volumes(networks, step=step)
    for phase in objective.phases():
        take_phase(phase, context, descent(networks, 0.1))


@pytest.mark.parametrize(("step", "keep"), [(0, 0.0), (1, 0.5), (3, 0.75), (98, 98 / 99), (99, 0.99), (5000, 0.99)])
def test_a_mean_teacher_is_a_mean_at_first_and_an_average_later(step: int, keep: float) -> None:
    objective = MeanTeacher(ramp_up=10)
    networks = built(objective)
    with torch.no_grad():
        for parameter in networks["teacher"].parameters():
            parameter.add_(1.0)
    before = parameters_of(networks["teacher"])
    take(objective, networks, step=step)
    now = parameters_of(networks["segmentor"])
    for own, new, found in zip(before, now, networks["teacher"].parameters(), strict=True):
        torch.testing.assert_close(found, keep * own + (1 - keep) * new)


def test_a_copy_pastes_teacher_is_the_segmentor_until_the_warm_up_ends_and_then_an_average() -> None:
    objective = BidirectionalCopyPaste(warm_up=20)
    networks = built(objective)
    take(objective, networks, step=19)
    before = parameters_of(networks["segmentor"])
    assert not differ(before, parameters_of(networks["teacher"]))
    take(objective, networks, step=20)
    for own, new, found in zip(
        before, parameters_of(networks["segmentor"]), parameters_of(networks["teacher"]), strict=True
    ):
        torch.testing.assert_close(found, 0.99 * own + 0.01 * new)


def test_a_snapshot_is_taken_when_the_warm_up_ends_and_then_every_so_many_steps() -> None:
    objective = SelfTraining(warm_up=4, refresh=3, threshold=0.5)
    networks, taken = built(objective), []
    for step in range(12):
        take(objective, networks, step=step)
        if not differ(parameters_of(networks["segmentor"]), parameters_of(networks["teacher"])):
            taken.append(step + 1)
    assert taken == [1, 2, 3, 4, 7, 10]


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if objective.teachers])
def test_batch_norm_in_a_teacher_leaves_no_trace_and_its_statistics_are_the_segmentors(name: str) -> None:
    objective = OBJECTIVES[name]
    networks = built(objective)
    started = buffers_of(networks["teacher"])
    context = volumes(networks, step=89)  # after which self-training takes a snapshot
    objective.loss(context)  # type: ignore[operator]
    assert not differ(started, buffers_of(networks["teacher"]))
    assert differ(started, buffers_of(networks["segmentor"]))
    objective.after(context)  # type: ignore[operator]
    assert not differ(buffers_of(networks["segmentor"]), buffers_of(networks["teacher"]))


def test_the_pass_of_the_weak_view_leaves_no_trace_in_batch_norm() -> None:
    """The pass that learns moves it alone, once."""
    networks = built(FixMatch(threshold=0.5))
    FixMatch(threshold=0.5).loss(volumes(networks, step=1))
    counts = {int(value) for name, value in networks["segmentor"].named_buffers() if name.endswith("batches_tracked")}
    assert counts == {1}


def test_a_teacher_normalises_by_the_batch_or_as_the_frozen_segmentor_does() -> None:
    """One batch norm alone: the mean of its output is 0 by the batch, and -5 by running statistics of mean 5."""
    objective = MeanTeacher(ramp_up=0, noise=0.0)
    networks = {name: nn.Sequential(nn.BatchNorm3d(2)) for name in objective.networks}
    for network in networks.values():
        network[0].running_mean.fill_(5.0)
    seen: list[float] = []
    networks["teacher"].register_forward_hook(lambda *given: seen.append(given[-1].mean().item()))
    for training in (True, False, True):
        networks["segmentor"].train(training)
        objective.loss(volumes(networks, step=1, channels=2))
    assert seen[0] == pytest.approx(0, abs=1e-4)
    assert seen[1] < -4
    assert seen[2] == pytest.approx(seen[0])


def test_noise_is_cut_off_at_two_deviations_and_each_draw_is_another() -> None:
    context = volumes(built(MeanTeacher()), step=0)
    image = context.batch.image
    first, second = (noisy(context, 0.1, number) - image for number in (0, 1))
    for noise in (first, second):
        assert noise.abs().max() <= 0.2 + 1e-6
        assert 0.08 < noise.std() < 0.1
    assert not torch.equal(first, second)
    assert torch.equal(noisy(context, 0.1) - image, first)
    assert torch.equal(noisy(context, 0.0), image)


@each
def test_a_missing_modality_stays_missing_in_all_that_a_network_is_shown(objective: Objective) -> None:
    """With mask channels every network is told so; a mixed image shows what both of its samples have."""
    networks = built(objective, modalities=4)
    seen: list[torch.Tensor] = []
    for network in networks.values():
        network.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    context = volumes(networks, step=90, mask="channels")
    for row in (0, 3):
        context.batch.modality_mask[row, 1] = False
        context.batch.image[row, 1] = 0
    context.batch.image[:, 1] += context.batch.modality_mask[:, 1].view(-1, 1, 1, 1)  # what is there is never 0
    for phase in objective.phases():
        phase.loss(context)
    assert seen
    for image, told in (one.chunk(2, 1) for one in seen):
        for sample, mask in zip(image, told, strict=True):
            there = mask.flatten(1).amin(1) > 0
            assert torch.equal(mask, there.view(-1, 1, 1, 1).float().expand_as(mask))
            assert torch.equal(there, sample.flatten(1).any(1))


def test_two_samples_without_a_common_modality_show_what_each_has() -> None:
    objective, batch = BidirectionalCopyPaste(), partly_labelled(size=(8, 8), labelled=1, unlabelled=1)
    batch.modality_mask[0, 0] = batch.modality_mask[1, 1] = False
    first, second = (type(batch)(*(field[rows] for field in batch)) for rows in (slice(1), slice(1, 2)))
    assert objective.mixed(first, second).batch.modality_mask.tolist() == [[True, True]]


def test_the_weight_grows_to_the_ramps_end_and_stays() -> None:
    assert grown(0, 200) == pytest.approx(exp(-5))
    assert grown(100, 200) == pytest.approx(exp(-1.25))
    assert grown(200, 200) == grown(900, 200) == grown(0, 0) == 1


@each
def test_lengths_follow_the_run_where_none_is_given_and_a_run_without_an_end_needs_numbers(
    objective: Objective,
) -> None:
    networks = built(objective)
    context = StepContext(networks, partly_labelled(size=(8, 8, 8)), "sigmoid", step=3)
    if isinstance(objective, FixMatch | VirtualAdversarial):
        objective.loss(context)
        return
    with pytest.raises(UsageError, match=r": (ramp_up|warm_up) null follows the run, which has no end; give --trainer"):
        objective.phases()[0].loss(context)


def test_a_given_number_of_steps_does_not_ask_for_the_run() -> None:
    for objective in (MeanTeacher(ramp_up=7), SelfTraining(warm_up=0, refresh=1), BidirectionalCopyPaste(warm_up=0)):
        networks = built(objective)
        context = StepContext(networks, partly_labelled(size=(8, 8, 8)), "sigmoid", step=3)
        assert objective.loss(context).total.isfinite()
        objective.after(context)


BAD: list[tuple[type[Objective], dict[str, Any], str]] = [
    (
        MeanTeacher,
        {"weight": 0.0},
        "^weight is 0.0, expected a number above 0; without the term, Supervised is enough$",
    ),
    (MeanTeacher, {"weight": float("nan")}, "weight is nan"),
    (MeanTeacher, {"ramp_up": -1}, "^ramp_up is -1, expected a number of steps of at least 0"),
    (MeanTeacher, {"decay": 1.0}, "^decay is 1.0, expected a number from 0"),
    (MeanTeacher, {"noise": -0.1}, "^noise is -0.1, expected a standard deviation"),
    (MeanTeacher, {"samples": "labelled"}, "^samples is 'labelled', expected one of"),
    (UncertaintyAwareMeanTeacher, {"passes": 0}, "^passes are 0, expected at least 1"),
    (CrossPseudoSupervision, {"samples": "both"}, "samples is 'both'"),
    (FixMatch, {"threshold": 1.0}, "^threshold is 1.0, expected a probability from 0"),
    (SelfTraining, {"threshold": -0.1}, "threshold is -0.1"),
    (SelfTraining, {"refresh": 0}, "^refresh is 0, expected a number of steps of at least 1"),
    (SelfTraining, {"warm_up": -5}, "^warm_up is -5"),
    (BidirectionalCopyPaste, {"box": 1.0}, "^box is 1.0, expected a share"),
    (BidirectionalCopyPaste, {"warm_up": -5}, "warm_up is -5"),
    (BidirectionalCopyPaste, {"decay": -0.5}, "decay is -0.5"),
    (VirtualAdversarial, {"samples": "none"}, "samples is 'none'"),
]


@pytest.mark.parametrize(("kind", "options", "text"), BAD)
def test_options_out_of_range_are_refused_in_one_line(kind: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as refused:
        kind(**options)
    assert "\n" not in str(refused.value)


def test_a_virtual_adversarial_loss_against_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="vat reference is 'labels', which unlabelled samples lack"):
        VirtualAdversarial(vat=VATLoss(reference="labels"))


def test_the_supervised_loss_is_the_one_that_is_given() -> None:
    given = Supervised(dice_weight=0.0, cross_entropy_weight=2.0)
    objective = MeanTeacher(supervised=given)
    parts = objective.loss(volumes(built(objective), step=1)).parts
    assert set(parts) == {"cross_entropy", "consistency", "weight"}
    assert objective.validation_parts() == ("cross_entropy",)
