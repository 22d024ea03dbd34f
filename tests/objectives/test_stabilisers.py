"""R1, DiffAugment and instance noise: closed forms, the same draw for real and fake, gradients, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segan_pl.errors import UsageError
from segan_pl.nets import few_shot, reciprocal, segan
from segan_pl.objectives.base import LossTerms, Objective, StepContext
from segan_pl.objectives.gan import SemiSupervisedGAN
from segan_pl.objectives.gt_gan import GTGAN
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.stabilisers import R1, DiffAugment, InstanceNoise, Stabilisers
from tests.contracts import tiny_batch

SEEDS = torch.arange(8)
STILL = {"brightness": 0.0, "contrast": 0.0}


class Linear(nn.Module):
    """A critic with one number for a sample, behind its input as every critic has it."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, numbers))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, (x.flatten(1) @ self.weight)[:, None]]


def context_of(critic: nn.Module, *, step: int = 0, steps: int | None = 10, **options: Any) -> StepContext:
    torch.manual_seed(0)
    networks = {"segmentor": nn.Conv2d(2, 1, 3, padding=1), "critic": critic}
    return StepContext(networks, tiny_batch(**options), "sigmoid", step=step, steps=steps)


def test_of_a_linear_critic_the_penalty_is_the_squared_length_of_the_weights_of_the_mask_alone() -> None:
    critic = Linear(3 * 32 * 32)
    objective = SegAN(stabilisers=Stabilisers(r1=R1(gamma=6.0)))
    terms, bare = objective.critic_loss(context_of(critic)), SegAN().critic_loss(context_of(critic))
    expected = critic.weight.view(3, -1)[2].square().sum()
    assert terms.parts["r1"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert (terms.total - bare.total).item() == pytest.approx(3 * expected.item(), rel=1e-5)


def test_a_lazy_penalty_comes_every_few_steps_and_weighs_as_many_times_as_much() -> None:
    objective = SegAN(stabilisers=Stabilisers(r1=R1(every=4)))
    critic = Linear(3 * 32 * 32)
    steps = [objective.critic_loss(context_of(critic, step=step)) for step in range(9)]
    assert ["r1" in one.parts for one in steps] == [step % 4 == 0 for step in range(9)]
    assert (steps[0].total - steps[1].total).item() == pytest.approx(5 * 4 * steps[0].parts["r1"].item(), rel=1e-5)


def test_a_critic_that_ascends_the_joint_loss_descends_the_penalty() -> None:
    critic = Linear(3 * 32 * 32)
    options: dict[str, Any] = {"update": "simultaneous", "stabilisers": Stabilisers(r1=R1())}
    terms, bare = (SegAN(**one).joint_loss(context_of(critic)) for one in (options, {"update": "simultaneous"}))
    assert (bare.total - terms.total).item() == pytest.approx(5 * terms.parts["r1"].item(), rel=1e-5)


def test_the_penalty_reaches_the_critic_alone_and_leaves_its_statistics() -> None:
    critic = segan.Critic(3, width=4)
    context = context_of(critic)
    nothing = LossTerms(torch.zeros(()), {})
    before = [buffer.clone() for buffer in critic.buffers()]
    with context.only(["critic"]):
        penalised = SegAN(stabilisers=Stabilisers(r1=R1()))._penalised(nothing, context)
        penalised.total.backward()
    assert all(torch.equal(old, new) for old, new in zip(before, critic.buffers(), strict=True))
    assert any(parameter.grad.any() for parameter in critic.parameters() if parameter.grad is not None)
    assert all(parameter.grad is None for parameter in context.networks["segmentor"].parameters())


def test_the_penalty_is_that_of_float32_under_autocast() -> None:
    critic = segan.Critic(3, width=4)
    objective = SegAN(stabilisers=Stabilisers(r1=R1()))
    exact = objective.critic_loss(context_of(critic)).parts["r1"]
    with torch.autocast("cpu", torch.bfloat16):
        found = objective.critic_loss(context_of(critic)).parts["r1"]
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


@pytest.mark.parametrize("size", [(16, 24), (8, 16, 24)])
def test_image_and_mask_are_moved_alike_and_only_the_image_is_recoloured(size: tuple[int, ...]) -> None:
    image = torch.rand(8, 2, *size) + 1
    seen, moved = DiffAugment(**STILL)(SEEDS, image, image[:, :1])
    assert seen is not None
    assert moved is not None
    assert torch.equal(seen[:, :1], moved)
    assert 0.2 < (moved == 0).float().mean() < 0.6
    colour = DiffAugment(translation=0.0, cutout=0.0)
    changed, still = colour(SEEDS, image, image[:, :1])
    assert changed is not None
    assert still is not None
    assert torch.equal(still, image[:, :1])
    lowest, highest = (changed / image).aminmax()
    assert lowest < 0.9 < 1.1 < highest


def test_a_translation_moves_voxels_by_at_most_its_share_and_brings_in_zeros() -> None:
    x = torch.arange(1.0, 17).expand(64, 1, 16, 16)
    _, moved = DiffAugment(**STILL, cutout=0.0)(torch.arange(64), None, x)
    assert moved is not None
    shifts = torch.where(moved > 0, torch.arange(1.0, 17) - moved, torch.nan).flatten(1)
    assert all(len(set(one[~one.isnan()].tolist())) == 1 for one in shifts)
    assert set(shifts[~shifts.isnan()].tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}


def test_every_change_has_the_right_gradient_and_a_missing_modality_none() -> None:
    image = torch.rand(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    # Without brightness, whose deviation has no gradient.
    augment = DiffAugment(brightness=0.0, translation=0.2)
    assert torch.autograd.gradcheck(lambda image, mask: augment(SEEDS[:2], image, mask), (image, mask))
    shown = torch.tensor([[True, False], [True, True]])
    empty = (image * shown[:, :, None, None]).detach().requires_grad_()
    seen, _ = DiffAugment()(SEEDS[:2], empty, shown=shown)
    assert seen is not None
    seen.sum().backward()
    assert empty.grad is not None
    assert torch.isfinite(empty.grad).all()
    assert not seen[0, 1].any()


def test_a_perfect_prediction_leaves_no_gap_whatever_the_critic_is_shown() -> None:
    stabilisers = Stabilisers(diff_augment=DiffAugment(), instance_noise=InstanceNoise(sigma=1.0))
    objective, context = SegAN(stabilisers=stabilisers), context_of(segan.Critic(3, width=4))
    context.kept("probability", "segmentor", lambda: context.batch.target.clone())
    assert objective.critic_loss(context).total.item() == 0
    view = objective._view(context, context.reference)
    assert not torch.equal(view, objective.critic_view(context.batch.image, context.reference))


def test_noise_fades_in_a_straight_line_to_none_and_each_step_repeats_its_own() -> None:
    noise, x = InstanceNoise(sigma=0.4), torch.zeros(2, 1, 64, 64)
    spreads = []
    for step in (0, 5, 10, 12):
        drawn = [noise(context_of(Linear(1), step=step), "critic", x) for _ in range(2)]
        assert torch.equal(*drawn)
        spreads.append(drawn[0].std().item())
    assert spreads == pytest.approx([0.4, 0.2, 0, 0], rel=0.05)
    assert InstanceNoise(steps=4).deviation(context_of(Linear(1), step=1)) == pytest.approx(0.075)
    with pytest.raises(UsageError, match=r"steps null follows the run, which has no end; give --trainer\.max_epochs"):
        noise.deviation(context_of(Linear(1), steps=None))


@pytest.mark.parametrize("critic_input", ["mask", "concat"])
def test_reciprocals_critic_is_stabilised_with_and_without_an_image(critic_input: Any) -> None:
    colour = {} if critic_input == "concat" else STILL
    every = Stabilisers(r1=R1(), diff_augment=DiffAugment(**colour), instance_noise=InstanceNoise())
    objective = Reciprocal(critic_input=critic_input, stabilisers=every)
    critic = reciprocal.Critic(**objective.channels("critic", 2, 1), width=4)
    networks = {"segmentor": reciprocal.Segmentor(2, 1, width=4), "critic": critic}
    context = StepContext(networks, tiny_batch(size=(8, 8, 8)), "sigmoid", steps=4)
    terms = objective.critic_loss(context)
    assert terms.parts["r1"] > 0
    objective.segmentor_loss(context).total.backward()
    assert all(torch.isfinite(one.grad).all() for one in networks["segmentor"].parameters() if one.grad is not None)


def test_a_segmentor_that_is_the_critic_learns_labels_from_the_images_as_they_are() -> None:
    batch = tiny_batch(2, 4, size=(16, 16), items=4, activation="softmax")
    batch = batch._replace(labelled=torch.tensor([True, True, False, False]))
    networks = {
        "segmentor": few_shot.Segmentor(2, 4, width=2, spatial_dims=2),
        "generator": few_shot.Generator(2, patch=(16, 16), width=2, noise=4),
    }
    every = Stabilisers(r1=R1(), diff_augment=DiffAugment(), instance_noise=InstanceNoise())
    plain, stabilised = (
        SemiSupervisedGAN(stabilisers=one).segmentor_loss(StepContext(networks, batch, "softmax", steps=4))
        for one in (None, every)
    )
    assert torch.equal(plain.parts["cross_entropy"], stabilised.parts["cross_entropy"])
    assert not torch.equal(plain.parts["unlabelled_loss"], stabilised.parts["unlabelled_loss"])
    assert not torch.equal(plain.parts["fake_loss"], stabilised.parts["fake_loss"])
    assert set(stabilised.parts) - set(plain.parts) == {"r1"}


REFUSED: Mapping[str, Callable[[], object]] = {
    "r1 gamma is 0": lambda: R1(gamma=0),
    "r1 every is 0": lambda: R1(every=0),
    "diff_augment brightness is -1": lambda: DiffAugment(brightness=-1),
    "diff_augment cutout is 1": lambda: DiffAugment(cutout=1),
    "diff_augment changes nothing": lambda: DiffAugment(**STILL, translation=0, cutout=0),
    "instance_noise sigma is 0": lambda: InstanceNoise(sigma=0),
    "instance_noise steps are 0": lambda: InstanceNoise(steps=0),
    "stabilisers do nothing with adversarial 'code'": lambda: Reciprocal(
        adversarial="code", stabilisers=Stabilisers(r1=R1())
    ),
    "brightness 0.5 and contrast 0.5 do nothing with critic_input 'mask'": lambda: Reciprocal(
        stabilisers=Stabilisers(diff_augment=DiffAugment())
    ),
    "synthetic_weight 0.1 learns labels where they were given": lambda: GTGAN(
        synthetic_weight=0.1, stabilisers=Stabilisers(diff_augment=DiffAugment())
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_out_of_range_or_does_nothing_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=said):
        REFUSED[said]()


@pytest.mark.parametrize("kind", [SegAN, Reciprocal, SemiSupervisedGAN, GTGAN])
def test_a_checkpoint_can_say_how_to_make_them_again(kind: Callable[..., Objective]) -> None:
    stabilisers = Stabilisers(r1=R1(gamma=2.0), instance_noise=InstanceNoise(steps=3))
    said = kind(stabilisers=stabilisers).recipe["stabilisers"]
    assert said["class_path"] == "segan_pl.objectives.stabilisers.Stabilisers"
    assert said["init_args"]["r1"]["init_args"] == {"gamma": 2.0, "every": 1}
    assert said["init_args"]["diff_augment"] is None


def test_the_critics_image_is_changed_once_in_a_step_and_is_what_a_change_of_both_gives() -> None:
    augment = DiffAugment()
    context = context_of(Linear(3 * 32 * 32))
    context.batch.modality_mask[1, 0] = False
    calls: list[int] = []
    once = Stabilisers(diff_augment=augment)
    known, seed, mask = context.batch.modality_mask, context.batch.seed, context.batch.target
    expected = augment(seed, context.batch.image, mask, shown=known)
    draw, augment.recoloured = augment.recoloured, lambda *given: (calls.append(1), draw(*given))[1]  # type: ignore
    for number in range(3):
        part = context if number < 2 else context._part(torch.arange(len(seed)) == 1)
        assert part is not None
        image, changed = once.pair(part, part.batch.image, part.batch.target)
        rows = slice(None) if part is context else slice(1, 2)
        assert torch.equal(image, expected[0][rows])  # type: ignore[index,arg-type]
        assert torch.equal(changed, expected[1][rows])  # type: ignore[index]
    assert len(calls) == 1
