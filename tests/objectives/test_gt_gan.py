from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.errors import UsageError
from segan_pl.losses.boundary import boundary_loss, label_boundary
from segan_pl.losses.gan import feature_matching, real_loss
from segan_pl.losses.overlap import cross_entropy
from segan_pl.nets.gt_gan import Generator
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.gt_gan import GTGAN
from tests.contracts import descent, differ, parameters_of, take_phase
from tests.objectives.gan_contract import SIZE, DiscriminatingContract, networks_of, partly, step


class TestGTGAN(DiscriminatingContract):
    options = (
        {},
        {"layers": "weighted", "adversarial_weight": 0.0},
        {"feature_weight": 0.0},
        {"synthetic_weight": 0.1, "synthetic_confidence": 0.0},
        {"pseudo_labels": True, "reconstruction_weight": 0.0},
    )

    def build(self, **options: Any) -> GTGAN:
        return GTGAN(**options)

    def passes(self, option: Mapping[str, Any]) -> list[int]:
        matched = [3, 3] if option.get("feature_weight", 1) else []
        return [5, 3, *matched, *([3] if option.get("adversarial_weight", 1) else [])]


def with_found_boundaries(**options: Any) -> tuple[GTGAN, dict[str, nn.Module]]:
    """The paper's way: a boundary network, which is trained and read."""
    objective = GTGAN(found_boundary=True, **options)
    generator = Generator(4, 2, patch=SIZE, width=2, noise=4, boundary="found")
    return objective, {**networks_of(objective, 2, 4), "generator": generator}


def test_the_generators_loss_is_the_weighted_sum_of_its_terms() -> None:
    torch.manual_seed(0)
    objective, networks = with_found_boundaries()
    batch = partly(2, 3)
    context = StepContext(networks, batch, "softmax")
    total, parts = objective.generator_loss(context)
    fake, given = objective.generated(context), objective.given(context)
    assert fake is not None
    segmentor, generator = networks["segmentor"], networks["generator"]
    real_features = [segmentor.bottleneck(batch.image[2:])]  # type: ignore[operator]
    matching = feature_matching([segmentor.bottleneck(fake)], real_features)  # type: ignore[operator]
    found = generator.boundaries(batch.image[:2])  # type: ignore[operator]
    wanted = boundary_loss(found, label_boundary(batch.target[:2]))
    assert parts["feature_matching"].item() == pytest.approx(matching.item(), rel=1e-4)
    assert parts["adversarial"].item() == pytest.approx(real_loss(segmentor(fake)).item(), rel=1e-4)
    assert parts["boundary"].item() == pytest.approx(wanted.item(), rel=1e-4)
    weights = {"feature_matching": 1.0, "adversarial": 0.1, "reconstruction": 10.0, "boundary": 1.0}
    assert total.item() == pytest.approx(sum(weight * parts[name].item() for name, weight in weights.items()), rel=1e-5)
    assert given.shape == (3, 4, *SIZE)


def test_each_unlabelled_image_is_given_labels_of_the_batch_and_each_labels_go_to_as_many() -> None:
    objective, batch = GTGAN(), partly(2, 6)
    batch.target[0], batch.target[1] = 10, 11
    found = []
    for seed in range(20):
        context = StepContext(networks_of(objective, 2, 4), batch._replace(seed=batch.seed + 100 * seed), "softmax")
        given = objective.given(context).flatten(1).unique(dim=1).flatten().tolist()
        assert sorted(given) == [10] * 3 + [11] * 3
        found.append(tuple(given))
    assert len(set(found)) > 5


@pytest.mark.parametrize(("labelled", "unlabelled"), [(4, 2), (2, 3), (3, 0)])
def test_over_many_batches_no_labels_are_given_more_often_than_others(labelled: int, unlabelled: int) -> None:
    """300 batches; where labelled images are the real ones, their own labels are among those that they are given."""
    objective, batch = GTGAN(), partly(labelled, unlabelled)
    batch.target[:labelled] = torch.arange(float(labelled)).reshape(-1, 1, 1, 1, 1)
    networks, count, real = networks_of(objective, 2, 4), torch.zeros(labelled), unlabelled or labelled
    pairs = torch.zeros(real, labelled)
    for seed in range(300):
        context = StepContext(networks, batch._replace(seed=batch.seed + 1000 * seed), "softmax")
        given = objective.given(context)[:, 0, 0, 0, 0].long()
        once = torch.bincount(given, minlength=labelled)
        assert once.max() - once.min() <= 1
        count += once
        pairs[torch.arange(real), given] += 1
    expected = 300 * real / labelled
    assert ((count - expected).abs() < 0.15 * expected).all(), count
    assert ((pairs - 300 / labelled).abs() < 0.3 * 300 / labelled).all(), pairs


def watched(objective: GTGAN, networks: Mapping[str, nn.Module], batch: Batch, **more: Any) -> list[tuple[Tensor, ...]]:
    """What the generator is given in a step."""
    seen: list[tuple[Tensor, ...]] = []
    handle = networks["generator"].register_forward_pre_hook(lambda _, given: seen.append(given))
    step(objective, networks, batch, **more)
    handle.remove()
    return seen


@pytest.mark.parametrize("found_boundary", [False, True])
def test_the_generator_runs_once_on_given_and_on_own_labels_with_exact_boundaries_or_found_ones(
    found_boundary: bool,
) -> None:
    torch.manual_seed(0)
    objective, networks = with_found_boundaries()
    batch = partly(2, 3)
    found = networks["generator"].boundaries(batch.image[:2]).sigmoid()  # type: ignore[operator]
    if not found_boundary:
        objective = GTGAN()
        networks = networks_of(objective, 2, 4)
        assert networks["generator"].boundary is None
    ((image, labels, noise, boundary),) = watched(objective, networks, batch)
    assert torch.equal(image, torch.cat([batch.image[2:], batch.image[:2]]))
    assert torch.equal(labels[3:], batch.target[:2])
    assert torch.equal(boundary[:3], label_boundary(labels[:3]))
    torch.testing.assert_close(boundary[3:], found if found_boundary else label_boundary(batch.target[:2]))
    assert len(noise.unique(dim=0)) == 5


def test_during_warm_up_nothing_is_played_and_unlabelled_images_are_not_looked_at() -> None:
    objective = GTGAN(warm_up=3)
    for number, played in ((0, False), (2, False), (3, True)):
        torch.manual_seed(0)
        networks, batch = networks_of(objective, 2, 4), partly(2, 3)
        if not played:
            batch.image[2:] = torch.nan
        given = watched(objective, networks, batch, step=number)
        assert len(given[0][0]) == (5 if played else 2)
        parts = step(objective, networks, batch, step=number)
        assert ("fake" in parts["segmentor"]) is played
        assert set(parts["generator"]) - {"total", "feature_matching", "adversarial"} == {"reconstruction"}
        assert ("feature_matching" in parts["generator"]) is played
        assert all(value.isfinite() for part in parts.values() for value in part.values())


def test_with_pseudo_labels_an_image_is_given_its_own_prediction() -> None:
    torch.manual_seed(0)
    objective = GTGAN(pseudo_labels=True)
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
    expected = networks["segmentor"](batch.image[2:]).argmax(1)
    ((_, labels, _, _),) = watched(objective, networks, batch)
    assert torch.equal(labels[:3].argmax(1), expected)
    assert torch.equal(labels[:3].sum(1), torch.ones(3, *SIZE))


@pytest.mark.parametrize("confidence", [0.0, 0.25, 1.0])
def test_synthetic_supervision_asks_for_the_given_labels_where_the_segmentor_is_sure(confidence: float) -> None:
    torch.manual_seed(0)
    objective = GTGAN(synthetic_weight=0.1, synthetic_confidence=confidence)
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
    context = StepContext(networks, batch, "softmax")
    total, parts = objective.segmentor_loss(context)
    given, made = objective.given(context), objective.generated(context)
    assert made is not None
    logits = networks["segmentor"](made)
    mask = (logits.softmax(1) * given).sum(1, keepdim=True) >= confidence
    assert mask.any() == (confidence < 1)
    expected = cross_entropy(logits, given, "softmax", mask=mask)
    assert parts["synthetic"].item() == pytest.approx(expected.item(), rel=1e-4)
    plain = GTGAN().segmentor_loss(StepContext(networks, batch, "softmax")).total
    assert total.item() == pytest.approx(plain.item() + 0.1 * expected.item(), rel=1e-4)
    total.backward()
    assert all(parameter.grad is None for parameter in networks["generator"].parameters())


@pytest.mark.parametrize(
    ("options", "generator", "said"),
    [
        ({"synthetic_weight": 0.1}, {"mode": "vector"}, "images do not depict the labels .* give it mode tissue"),
        ({"found_boundary": True}, {}, "found_boundary true, but the generator has no boundary network; give .* found"),
        ({}, {"boundary": "found"}, "nothing reads it with found_boundary false; give the generator boundary given"),
    ],
)
def test_what_the_generator_lacks_is_said(options: Any, generator: Any, said: str) -> None:
    objective = GTGAN(**options)
    networks = {**networks_of(objective, 2, 4), "generator": Generator(4, 2, patch=SIZE, width=2, **generator)}
    with pytest.raises(UsageError, match=said):
        step(objective, networks, partly(2, 3))


def test_a_generator_without_boundaries_and_a_literal_one_play_too() -> None:
    objective = GTGAN()
    generator = Generator(4, 2, patch=SIZE, width=2, boundary=None, mode="vector")
    found = step(objective, {**networks_of(objective, 2, 4), "generator": generator}, partly(2, 3))
    assert set(found["generator"]) == {"total", "feature_matching", "adversarial", "reconstruction"}


def test_voxels_that_are_not_judged_have_no_share_in_what_is_learnt_from_labels() -> None:
    """Neither the labels there nor the image that is reconstructed there matter to any loss of labelled samples."""
    objective, found = GTGAN(warm_up=1), []
    for value in (0.0, 0.7):
        torch.manual_seed(0)
        networks, batch = networks_of(objective, 2, 4), partly(2, 0)
        batch.target[:, :, 4:8] = -1
        context = StepContext(networks, batch, "softmax", ignores=True)
        made = objective._made(context, context)
        batch.image[:, :, 4:8] = value  # what is reconstructed, once the networks have seen the image
        found.append(objective.generator_loss(context).parts["reconstruction"].item())
        assert made.isfinite().all()
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": "last"}, "layers is 'last'"),
        ({"feature_weight": 0.0, "adversarial_weight": 0.0}, "the generator would not play"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight is -1.0"),
        ({"warm_up": -1}, "warm_up is -1"),
        ({"warm_up": 5, "reconstruction_weight": 0.0}, "warm_up is 5, .* and 0 without a reconstruction_weight"),
        ({"synthetic_confidence": 1.5}, "synthetic_confidence is 1.5"),
        ({"synthetic_confidence": 0.9}, "synthetic_confidence 0.9 does nothing with synthetic_weight 0; leave it out"),
        ({"feature_weight": 0.0, "layers": "all"}, "layers 'all' does nothing with feature_weight 0; leave it out"),
        ({"boundary_weight": 0.5}, "boundary_weight 0.5 does nothing with found_boundary false, .* leave it out"),
        (
            {"found_boundary": True, "reconstruction_weight": 0.0},
            "found_boundary true does nothing with reconstruction_weight 0",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GTGAN(**options)


def test_with_unlabelled_samples_too_each_phase_moves_its_own_network_alone() -> None:
    torch.manual_seed(0)
    objective = GTGAN()
    networks = networks_of(objective, 2, 4)
    context = StepContext(networks, partly(2, 3), "softmax")
    for phase in objective.phases():
        before = {name: parameters_of(one) for name, one in networks.items()}
        take_phase(phase, context, descent(networks))
        for name, one in networks.items():
            assert differ(before[name], parameters_of(one)) == (name == phase.network)
