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
from segan_pl.nets.few_shot import Segmentor
from segan_pl.nets.gt_gan import Generator
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.gt_gan import GTGAN
from tests.contracts import descent, differ, parameters_of, take_phase
from tests.objectives.test_gan import SIZE, DiscriminatingContract, networks_of, partly, step
from tests.phantom import INTENSITIES, dice_by_tissue, phantoms


class TestGTGAN(DiscriminatingContract):
    options = (
        {},
        {"layers": "weighted", "adversarial_weight": 0.0},
        {"feature_weight": 0.0, "boundary_weight": 0.0},
        {"synthetic_weight": 0.1, "synthetic_confidence": 0.0},
        {"pseudo_labels": True, "reconstruction_weight": 0.0, "boundary_weight": 0.0},
        {"found_boundary": True},
    )

    def build(self, **options: Any) -> GTGAN:
        return GTGAN(**options)

    def passes(self, option: Mapping[str, Any]) -> list[int]:
        matched = [3, 3] if option.get("feature_weight", 1) else []
        return [5, 3, *matched, *([3] if option.get("adversarial_weight", 1) else [])]


def test_the_generators_loss_is_the_weighted_sum_of_its_terms() -> None:
    torch.manual_seed(0)
    objective = GTGAN()
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
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
    objective = GTGAN(found_boundary=found_boundary)
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
    found = networks["generator"].boundaries(batch.image[:2]).sigmoid()  # type: ignore[operator]
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
        assert set(parts["generator"]) - {"total", "feature_matching", "adversarial"} == {"reconstruction", "boundary"}
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
        (
            {"boundary_weight": 0.0, "found_boundary": True},
            {"boundary": False},
            "found_boundary True, but the generator",
        ),
        ({}, {"boundary": False}, "boundary_weight 1.0 and .* generator has no boundary network"),
    ],
)
def test_what_the_generator_lacks_is_said(options: Any, generator: Any, said: str) -> None:
    objective = GTGAN(**options)
    networks = {**networks_of(objective, 2, 4), "generator": Generator(4, 2, patch=SIZE, width=2, **generator)}
    with pytest.raises(UsageError, match=said):
        step(objective, networks, partly(2, 3))


def test_a_generator_without_boundaries_and_a_literal_one_play_too() -> None:
    objective = GTGAN(boundary_weight=0.0)
    generator = Generator(4, 2, patch=SIZE, width=2, boundary=False, mode="vector")
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
        (
            {"reconstruction_weight": 0.0},
            "boundary_weight 1.0 and .* do nothing with reconstruction_weight 0",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GTGAN(**options)


def reconstructing(mode: Any, patch: tuple[int, ...], *, dimmest: float = 1.0, found: bool = False) -> Any:
    """A generator that has learnt in 150 steps to reconstruct phantoms, each times a factor from `dimmest` to 1.

    In tissue mode with boundaries, as shipped; a vector alone unless they are `found`, as they say where labels are.
    """
    steps, boundary = 150, mode == "tissue" or found
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {
        "segmentor": Segmentor(1, 4, width=1, spatial_dims=len(patch)),  # type: ignore[arg-type]
        "generator": Generator(4, 1, patch=patch, width=8, noise=8, mode=mode, boundary=boundary),
    }
    objective = GTGAN(warm_up=steps, boundary_weight=float(boundary), found_boundary=found)
    factors = torch.Generator().manual_seed(0)
    optimiser = {"generator": torch.optim.Adam(networks["generator"].parameters(), 2e-3, (0.5, 0.999))}
    for number in range(steps):
        batch = phantoms(8, patch, seed=number + 1)
        factor = dimmest + (1 - dimmest) * torch.rand(8, 1, *[1] * len(patch), generator=factors)
        context = StepContext(networks, batch._replace(image=batch.image * factor), "softmax", step=number)
        take_phase(objective.phases()[1], context, optimiser)
    return networks["generator"]


def depicted(generator: Any, patch: tuple[int, ...], *, exact: bool = True) -> dict[str, list[float]]:
    """Dice of images made of one subject's image and another's labels, read by the nearest tissue intensity.

    Returns:
        "given": against the labels that they were made of; "own": against those of the image.
    """
    a, b = phantoms(32, patch, seed=10_000), phantoms(32, patch, seed=20_000)
    with torch.no_grad():
        made = generator(a.image, b.target, torch.zeros(32, 8), label_boundary(b.target) if exact else None)
    tissue = (made - torch.tensor(INTENSITIES).reshape(1, 4, *[1] * len(patch))).abs().argmin(1)
    return {"given": dice_by_tissue(tissue, b.target), "own": dice_by_tissue(tissue, a.target)}


def test_an_image_of_one_subject_and_the_labels_of_another_shows_these_labels_in_tissue_mode() -> None:
    """So that the two are a valid labelled sample. As literal AdaIN has it, the image keeps its own tissues.

    That is without boundaries or with its own. By the exact one of the labels, which the game gives, it is neither's.
    """
    tissue = depicted(reconstructing("tissue", (16, 16)), (16, 16))
    assert min(tissue["given"]) > 0.9, tissue
    assert all(given > own + 0.2 for given, own in zip(tissue["given"], tissue["own"], strict=True)), tissue
    vector = depicted(reconstructing("vector", (16, 16)), (16, 16))
    assert all(own > given + 0.1 for given, own in zip(vector["given"], vector["own"], strict=True)), vector
    generator = reconstructing("vector", (16, 16), found=True)
    of_image = depicted(generator, (16, 16), exact=False)
    assert all(own > given for given, own in zip(of_image["given"], of_image["own"], strict=True)), of_image
    as_played = depicted(generator, (16, 16))
    assert max(min(dice) for dice in as_played.values()) < 0.6, as_played
    print("tissue", tissue, "vector", vector, "found", of_image, "exact", as_played)


def test_an_image_is_as_bright_as_the_one_that_it_is_made_of() -> None:
    generator = reconstructing("tissue", (16, 16), dimmest=0.3)
    a, b = phantoms(32, (16, 16), seed=10_000), phantoms(32, (16, 16), seed=20_000)
    bright = []
    with torch.no_grad():
        for factor in (0.3, 0.65, 1.0):
            made = generator(a.image * factor, b.target, torch.zeros(32, 8), label_boundary(b.target))
            bright.append(float(made[b.target[:, 3:] > 0].mean()))
    assert bright[0] + 0.15 < bright[2], bright
    assert bright == sorted(bright)


def test_the_image_is_used_too() -> None:
    torch.manual_seed(0)
    generator = Generator(4, 1, patch=(16, 16), width=4)
    a, b = phantoms(2, (16, 16), seed=1), phantoms(2, (16, 16), seed=2)
    boundary = label_boundary(b.target)
    made = [generator(one.image, b.target, torch.zeros(2, 200), boundary) for one in (a, b)]
    assert (made[0] - made[1]).abs().mean() > 1e-4


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
