"""The GANs whose discriminator is the segmentor: Mondal's variants, and what GT-GAN shares with them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segan_pl.errors import UsageError
from segan_pl.losses.overlap import WeightedCrossEntropy, cross_entropy
from segan_pl.nets.few_shot import Segmentor
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.gan import Discriminating, SemiSupervisedGAN
from segan_pl.objectives.gt_gan import GTGAN
from segan_pl.objectives.stabilisers import InstanceNoise, Stabilisers
from segan_pl.training.system import AdversarialSegmentation
from tests.contracts import buffers_of, descent, differ, take_phase
from tests.objectives.gan_contract import DiscriminatingContract, networks_of, partly, step

GANS: Mapping[str, Mapping[str, Any]] = {
    "gan": {"generator_loss": "adversarial"},
    "fm": {},
    "all": {"generator_loss": "all_layers"},
    "wfm": {"generator_loss": "weighted"},
    "bad": {"encoder_weight": 0.01},
}

CHANGING = Stabilisers(instance_noise=InstanceNoise(steps=10))


class TestSemiSupervisedGAN(DiscriminatingContract):
    options = tuple(GANS.values())

    def build(self, **options: Any) -> SemiSupervisedGAN:
        return SemiSupervisedGAN(**options)

    def passes(self, option: Mapping[str, Any]) -> list[int]:
        return [5, 3, 3] if option.get("generator_loss") == "adversarial" else [5, 3, 3, 3]


def worked(logits: Tensor) -> Tensor:
    """D = Z / (Z + 1), voxel by voxel."""
    total = logits.double().exp().sum(1)
    return total / (total + 1)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 2.0), (1.0, 0.5, 0.5)])
def test_the_segmentors_loss_is_the_weighted_sum_worked_in_logarithms(weights: tuple[float, float, float]) -> None:
    torch.manual_seed(0)
    lab, unl, fake = weights
    objective = SemiSupervisedGAN(labelled_weight=lab, unlabelled_weight=unl, fake_weight=fake)
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
    context = StepContext(networks, batch, "softmax")
    total, parts = objective.segmentor_loss(context)
    logits = networks["segmentor"](batch.image)
    generated = networks["segmentor"](objective.generated(context))
    assert generated.shape[0] == 3
    entropy = -(logits[:2].log_softmax(1) * batch.target[:2]).sum(1).mean()
    real_d, fake_d = worked(logits[2:]), worked(generated)
    expected = lab * entropy - unl * real_d.log().mean() - fake * (1 - fake_d).log().mean()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert parts["real"].item() == pytest.approx(real_d.mean().item(), rel=1e-5)
    assert parts["fake"].item() == pytest.approx(fake_d.mean().item(), rel=1e-5)
    assert objective.equilibrium == unl / (unl + fake)


def test_the_weights_are_those_of_their_sources() -> None:
    assert GTGAN().equilibrium == pytest.approx(1 / 3)
    assert SemiSupervisedGAN().equilibrium == 0.5


def test_labelled_images_stand_in_where_a_batch_has_no_others() -> None:
    torch.manual_seed(0)
    objective = SemiSupervisedGAN()
    networks, batch = networks_of(objective, 2, 4), partly(2, 0)
    _, parts = objective.segmentor_loss(StepContext(networks, batch, "softmax"))
    assert parts["real"].item() == pytest.approx(worked(networks["segmentor"](batch.image)).mean().item(), rel=1e-5)


def test_without_a_labelled_sample_the_noise_gan_plays_on_and_gt_gan_takes_no_step() -> None:
    for objective in (SemiSupervisedGAN(), GTGAN()):
        torch.manual_seed(0)
        networks = networks_of(objective, 2, 4)
        context = StepContext(networks, partly(0, 3), "softmax")
        losses = [phase.loss(context) for phase in objective.phases()]
        if isinstance(objective, GTGAN):
            assert not any(loss.total.requires_grad or loss.parts for loss in losses)
        else:
            assert set(losses[0].parts) == {"unlabelled_loss", "fake_loss", "real", "fake"}


@pytest.mark.parametrize("objective", [SemiSupervisedGAN(), GTGAN()], ids=["noise", "labels"])
def test_noise_follows_from_the_samples_seeds_and_from_nothing_else(objective: Discriminating) -> None:
    torch.manual_seed(0)
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
    state = torch.get_rng_state()
    made = [objective.generated(StepContext(networks, batch, "softmax")) for _ in range(2)]
    other = batch._replace(seed=batch.seed + 100)
    made.append(objective.generated(StepContext(networks, other, "softmax")))
    assert torch.equal(torch.get_rng_state(), state)
    first, second, third = made
    assert first is not None
    assert second is not None
    assert third is not None
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_the_encoder_takes_the_step_of_one_backward_pass_with_the_generator() -> None:
    """The authors move both on one loss."""
    torch.manual_seed(0)
    objective = SemiSupervisedGAN(encoder_weight=0.01)
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
    joint = objective.generator_loss(StepContext(networks, batch, "softmax")).total
    expected = torch.autograd.grad(joint, list(networks["encoder"].parameters()))
    context = StepContext(networks, batch, "softmax")
    _, generator, encoder = objective.phases()
    take_phase(generator, context, descent(networks))
    take_phase(encoder, context, descent(networks, 0.0))
    for parameter, gradient in zip(networks["encoder"].parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_a_modality_that_real_images_lack_is_hidden_in_generated_ones() -> None:
    for objective in (SemiSupervisedGAN(generator_loss="adversarial"), GTGAN()):
        torch.manual_seed(0)
        networks, batch = networks_of(objective, 2, 4), partly(2, 3)
        networks["segmentor"] = Segmentor(4, 4, width=2)
        batch.modality_mask[3, 1] = False
        batch.image[3, 1] = 0
        seen: list[Tensor] = []
        networks["segmentor"].encoder[0].register_forward_pre_hook(  # type: ignore[index,union-attr]
            lambda _, given, seen=seen: seen.append(given[0].detach())
        )
        context = StepContext(networks, batch, "softmax", "channels")
        for phase in objective.phases():
            phase.loss(context)
        generated = [image for image in seen if len(image) == 3]
        assert len(generated) > 1
        for image in generated:
            assert not image[1, 1].any()
            assert not image[1, 3].any()
            assert image[0, 1].any()
            assert image[0, 3].all()


@pytest.mark.parametrize("options", GANS.values(), ids=GANS)
def test_the_losses_are_float32_under_autocast(options: Mapping[str, Any]) -> None:
    for objective in (SemiSupervisedGAN(**options), GTGAN()):
        torch.manual_seed(0)
        networks = networks_of(objective, 2, 4)
        with torch.autocast("cpu", torch.bfloat16):
            context = StepContext(networks, partly(2, 3), "softmax")
            losses = [phase.loss(context) for phase in objective.phases()]
        assert context.logits.dtype == torch.bfloat16
        for total, parts in losses:
            assert {total.dtype, *(part.dtype for part in parts.values())} == {torch.float32}
            assert total.isfinite()


class FeaturesOfMonai(MonaiSegmentor):
    """MONAI's U-Net that shows its logits as features, so that they can be matched."""

    def features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        logits = self(image)
        return logits, [logits]

    def bottleneck(self, image: Tensor) -> Tensor:
        made: Tensor = self(image)
        return made


@pytest.mark.parametrize(
    "objective",
    [
        *(SemiSupervisedGAN(**options) for options in GANS.values()),
        GTGAN(),
        GTGAN(layers="all", synthetic_weight=0.1, pseudo_labels=True),
    ],
    ids=[*GANS, "labels", "all of labels"],
)
def test_real_images_alone_move_the_running_statistics_once_and_a_generators_step_moves_nothing(
    objective: Discriminating,
) -> None:
    torch.manual_seed(0)
    networks, batch = networks_of(objective, 2, 4), partly(2, 3)
    networks["segmentor"] = FeaturesOfMonai(2, 4, kind="UNet", width=4, levels=3, norm="batch")
    alone = deepcopy(networks["segmentor"])
    alone(batch.image)
    context = StepContext(networks, batch, "softmax")
    for phase in objective.phases():
        take_phase(phase, context, descent(networks))
        assert not differ(buffers_of(networks["segmentor"]), buffers_of(alone)), phase.network


def test_a_segmentor_that_shows_no_features_can_only_be_deceived() -> None:
    torch.manual_seed(0)
    for form in ("adversarial", "feature_matching"):
        objective = SemiSupervisedGAN(generator_loss=form)  # type: ignore[arg-type]
        networks = {**networks_of(objective, 2, 4), "segmentor": nn.Conv3d(2, 4, 1)}
        if form == "adversarial":
            step(objective, networks, partly(2, 3))
        else:
            with pytest.raises(UsageError, match="the segmentor Conv3d does not show its own"):
                step(objective, networks, partly(2, 3))


@pytest.mark.parametrize("weights", [None, [0.33, 1.5, 0.83, 1.33]])
def test_validation_scores_the_labels_alone(weights: list[float] | None) -> None:
    given: Any = cross_entropy if weights is None else WeightedCrossEntropy(weights)
    objective = SemiSupervisedGAN(labelled_weight=2.0, cross_entropy=given)
    torch.manual_seed(0)
    networks, batch = networks_of(objective, 2, 4), partly(2, 0)
    total, parts = objective.validation_loss(StepContext(networks, batch, "softmax"))
    terms = -networks["segmentor"](batch.image).log_softmax(1) * batch.target
    expected = (terms * torch.tensor(weights or [1.0] * 4).reshape(1, 4, 1, 1, 1)).sum(1).mean()
    assert tuple(parts) == objective.validation_parts() == ("cross_entropy",)
    assert parts["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert total.item() == pytest.approx(2 * expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"generator_loss": "hinge"}, "generator_loss is 'hinge'"),
        ({"encoder_weight": -1.0}, "encoder_weight is -1.0, expected a number of at least 0"),
        ({"labelled_weight": 0.0}, "labelled_weight is 0.0, expected a number above 0"),
        ({"unlabelled_weight": float("nan")}, "unlabelled_weight is nan"),
        ({"fake_weight": 0.0}, "fake_weight is 0.0, expected a number above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SemiSupervisedGAN(**options)


@pytest.mark.parametrize("labels", ["regions", "whole_tumour", "only:et"])
def test_regions_are_refused_as_a_voxel_of_none_would_always_look_fake(labels: str) -> None:
    objective = SemiSupervisedGAN()
    with pytest.raises(UsageError, match=f"--data.labels {labels}: SemiSupervisedGAN needs labels that exclude each "):
        AdversarialSegmentation({}, objective, modalities=["t1"], labels=labels)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (SemiSupervisedGAN(generator_loss="adversarial", stabilisers=CHANGING), [2, 3, 3, 3]),
        (SemiSupervisedGAN(generator_loss="adversarial"), [5, 3, 3]),
        (GTGAN(feature_weight=0.0, adversarial_weight=1.0, pseudo_labels=True, stabilisers=CHANGING), [5, 3, 3, 3]),
    ],
    ids=["changed", "as they are", "pseudo-labels"],
)
def test_changed_images_alone_pass_the_segmentor_where_labels_need_no_others(
    objective: Discriminating, expected: list[int]
) -> None:
    """Samples in its passes, for 2 labelled and 3 unlabelled ones."""
    torch.manual_seed(0)
    networks, seen = networks_of(objective, 2, 4), []
    segmentor: Any = networks["segmentor"]
    segmentor.encoder[0].register_forward_hook(lambda *given: seen.append(len(given[-1])))
    parts = step(objective, networks, partly(2, 3))["segmentor"]
    assert seen == expected
    assert {"cross_entropy", "real", "fake"} <= parts.keys()
