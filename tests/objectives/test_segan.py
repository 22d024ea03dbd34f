import pytest
import torch
from torch import nn

from segan_pl.losses.features import MultiscaleL1, multiscale_l1
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.segan import SegAN
from tests.contracts import ObjectiveContract, buffers_of, descent, differ, parameters_of, take_phase, tiny_batch

INPUTS = ("mask", "concat", "mix")


def cast(objective, modalities=2, channels=1, *, width=4, dtype=torch.float32):
    """Networks by a fixed seed."""
    torch.manual_seed(0)
    critic = Critic(**objective.channels("critic", modalities, channels), width=width)
    return {"segmentor": Segmentor(modalities, channels, width=width).to(dtype), "critic": critic.to(dtype)}


class TestSegAN(ObjectiveContract):
    options = tuple(
        {"critic_input": critic_input, "update": update}
        for critic_input in INPUTS
        for update in ("alternating", "simultaneous")
    )

    def build(self, **options):
        return SegAN(**options)

    def networks(self, objective, modalities, channels):
        return {
            "segmentor": Segmentor(modalities, channels, width=8),
            "critic": Critic(**objective.channels("critic", modalities, channels), width=8),
        }


@pytest.mark.parametrize(("critic_input", "single", "regions"), [("mask", 4, 12), ("concat", 5, 7), ("mix", 9, 19)])
def test_critic_channels_follow_modalities_and_regions(critic_input, single, regions):
    objective = SegAN(critic_input=critic_input)
    assert objective.channels("critic", 4, 1)["in_channels"] == single
    assert objective.channels("critic", 4, 3)["in_channels"] == regions


@pytest.mark.parametrize("spatial", [(4, 4), (2, 3, 4)])
def test_critic_sees_every_modality_times_every_region(spatial):
    image, mask = torch.rand(2, 4, *spatial), torch.rand(2, 3, *spatial)
    products = [image[:, m] * mask[:, c] for c in range(3) for m in range(4)]
    views = {
        "mask": torch.stack(products, 1),
        "concat": torch.cat([image, mask], 1),
        "mix": torch.cat([image, mask, torch.stack(products, 1)], 1),
    }
    for critic_input, expected in views.items():
        objective = SegAN(critic_input=critic_input)
        assert torch.equal(objective.critic_view(image, mask), expected)
        assert expected.shape[1] == objective.channels("critic", 4, 3)["in_channels"]


def measured_gap(objective, networks, batch):
    """The gap as both networks would see it now, on batch statistics."""
    with torch.no_grad():
        return objective.critic_loss(StepContext(networks, batch, "sigmoid")).parts["gap"].item()


@pytest.mark.parametrize("critic_input", INPUTS)
@pytest.mark.parametrize("sign", [1, -1])
def test_critic_step_raises_the_gap_and_segmentor_step_lowers_it_and_a_flipped_sign_turns_each(critic_input, sign):
    objective = SegAN(critic_input=critic_input, dice_weight=0.0, adversarial_weight=sign, clip="none")
    networks = cast(objective, dtype=torch.float64)
    batch = tiny_batch(dtype=torch.float64)
    optimisers = {
        "critic": torch.optim.SGD(networks["critic"].parameters(), 1e-3, maximize=sign < 0),
        "segmentor": torch.optim.SGD(networks["segmentor"].parameters(), 1e-3),
    }
    start = measured_gap(objective, networks, batch)
    assert start > 0
    critic_phase, segmentor_phase = objective.phases()

    take_phase(critic_phase, StepContext(networks, batch, "sigmoid"), optimisers)
    widened = measured_gap(objective, networks, batch)
    assert sign * (widened - start) > 1e-6

    take_phase(segmentor_phase, StepContext(networks, batch, "sigmoid"), optimisers)
    assert sign * (measured_gap(objective, networks, batch) - widened) < -1e-6


def moved_buffers(networks, action):
    before = {name: buffers_of(network) for name, network in networks.items()}
    action()
    return {name for name, network in networks.items() if differ(before[name], buffers_of(network))}


def batches_tracked(network):
    return {m.num_batches_tracked.item() for m in network.modules() if isinstance(m, nn.BatchNorm2d)}


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_segmentor_statistics_move_once_a_batch_and_critic_statistics_in_each_phase(update):
    objective = SegAN(update=update)
    networks = cast(objective)
    contexts = []
    made = moved_buffers(networks, lambda: contexts.append(StepContext(networks, tiny_batch(), "sigmoid")))
    assert made == set()  # nothing runs before a phase asks for it
    for count, phase in enumerate(objective.phases(), 1):
        moved = moved_buffers(networks, lambda phase=phase: take_phase(phase, contexts[0], descent(networks)))
        assert moved == ({"segmentor", "critic"} if count == 1 else {"critic"})
        assert batches_tracked(networks["critic"]) == {2 * count}  # real and fake, apart
    assert batches_tracked(networks["segmentor"]) == {1}


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_real_then_fake_pass_the_critic_as_separate_batches(update):
    objective = SegAN(update=update)
    networks = cast(objective)
    batch = tiny_batch()
    seen = []
    networks["critic"].register_forward_pre_hook(lambda _, args: seen.append(args[0][:, -1:].detach()))
    context = StepContext(networks, batch, "sigmoid")
    for phase in objective.phases():
        take_phase(phase, context, descent(networks))
    assert len(seen) == 2 * len(objective.phases())
    for real, fake in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(real, batch.target)
        assert torch.equal(fake, context.probability)


@pytest.mark.parametrize("weight", [1.0, 0.5, -1.0])
@pytest.mark.parametrize("critic_input", INPUTS)
def test_simultaneous_gradients_equal_two_separate_calls_at_the_same_parameters(critic_input, weight):
    objective = SegAN(critic_input=critic_input, adversarial_weight=weight, update="simultaneous")
    networks = cast(objective, dtype=torch.float64)
    context = StepContext(networks, tiny_batch(dtype=torch.float64), "sigmoid")
    segmentor, critic = (list(networks[name].parameters()) for name in ("segmentor", "critic"))
    expected_critic = torch.autograd.grad(objective.critic_loss(context).total, critic)
    expected_segmentor = torch.autograd.grad(objective.segmentor_loss(context).total, segmentor, retain_graph=True)
    joint = torch.autograd.grad(objective.joint_loss(context).total, segmentor + critic)
    for found, expected in zip(joint, [*expected_segmentor, *(-g for g in expected_critic)], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_alternating_segmentor_meets_the_critic_after_its_step():
    objective = SegAN()
    networks = cast(objective)
    batch = tiny_batch()
    context = StepContext(networks, batch, "sigmoid")
    critic_phase, segmentor_phase = objective.phases()
    optimisers = descent(networks, rate=0.1)
    before = take_phase(critic_phase, context, optimisers)["gap"]
    with torch.no_grad():
        real, fake = (
            networks["critic"](objective.critic_view(batch.image, m)) for m in (batch.target, context.probability)
        )
        now = multiscale_l1(fake, real)
    after = take_phase(segmentor_phase, context, optimisers)["adversarial"]
    assert abs(after - before) > 1e-4
    torch.testing.assert_close(after, now)


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("clip", ["kernels", "all", "none"])
def test_clip_bounds_what_it_names_after_the_critics_step(update, clip):
    objective = SegAN(update=update, clip=clip, clip_value=0.05)
    networks = cast(objective, width=8)
    context = StepContext(networks, tiny_batch(), "sigmoid")
    before = dict(zip(dict(networks["critic"].named_parameters()), parameters_of(networks["critic"]), strict=True))
    for phase in objective.phases():
        take_phase(phase, context, descent(networks, rate=1e-4))
    bounded = {name for name, p in networks["critic"].named_parameters() if p.abs().max() <= 0.0500001}
    kernels = {name for name in before if name.endswith("conv.weight")}
    small = {name for name, p in before.items() if p.abs().max() < 0.04}  # biases and batch norm shifts start at 0
    assert bounded == {"kernels": kernels | small, "all": set(before), "none": small}[clip]
    assert max(p.abs().max() for p in networks["segmentor"].parameters()) > 0.05


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_frozen_critic_layers_are_neither_moved_nor_clipped(update):
    objective = SegAN(update=update, clip="all")
    networks = cast(objective)
    critic = networks["critic"]
    frozen = [critic.enc2.requires_grad_(False), critic.enc3.requires_grad_(False)]
    before = [p for layer in frozen for p in parameters_of(layer)]
    context = StepContext(networks, tiny_batch(), "sigmoid")
    for phase in objective.phases():
        take_phase(phase, context, descent(networks))
    assert not differ(before, [p for layer in frozen for p in layer.parameters()])
    assert critic.input.conv.weight.abs().max() <= 0.0500001


def test_without_dice_only_the_adversarial_term_is_computed():
    objective = SegAN(dice_weight=0.0)
    context = StepContext(cast(objective), tiny_batch(), "sigmoid")
    total, parts = objective.segmentor_loss(context)
    assert set(parts) == {"adversarial"}
    torch.testing.assert_close(total.detach(), parts["adversarial"])


def test_segmentor_loss_is_the_weighted_sum_and_the_critics_minus_the_gap():
    objective = SegAN(dice_weight=0.5, adversarial_weight=2.0)
    context = StepContext(cast(objective), tiny_batch(), "sigmoid")
    total, parts = objective.segmentor_loss(context)
    torch.testing.assert_close(total.detach(), 2 * parts["adversarial"] + 0.5 * parts["dice"])
    total, parts = objective.critic_loss(context)
    assert total.item() == -parts["gap"].item() < 0


def test_layer_weights_reach_the_loss():
    batch = tiny_batch()
    gaps = []
    for weights in (None, [2.0] * 4):
        objective = SegAN(gap=MultiscaleL1(layer_weights=weights))
        gaps.append(objective.critic_loss(StepContext(cast(objective), batch, "sigmoid")).parts["gap"])
    torch.testing.assert_close(gaps[1], 2 * gaps[0])
    objective = SegAN(gap=MultiscaleL1(layer_weights=[1.0, 2.0]))
    with pytest.raises(ValueError, match="2 numbers, the critic returns 4"):
        objective.critic_loss(StepContext(cast(objective), batch, "sigmoid"))


def test_losses_are_float32_under_autocast():
    objective = SegAN()
    networks = cast(objective)
    with torch.autocast("cpu", torch.bfloat16):
        context = StepContext(networks, tiny_batch(), "sigmoid")
        losses = [objective.critic_loss(context), objective.segmentor_loss(context), objective.joint_loss(context)]
    assert context.logits.dtype == torch.bfloat16
    for total, parts in losses:
        assert {total.dtype, *(part.dtype for part in parts.values())} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"critic_input": "sum"}, "mask"),
        ({"update": "both"}, "alternating"),
        ({"clip": "weights"}, "kernels"),
        ({"clip_value": 0.0}, "clip: none"),
        ({"dice_weight": -1.0}, "dice_weight"),
        ({"adversarial_weight": 0.0}, "Supervised"),
    ],
)
def test_arguments_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        SegAN(**options)
