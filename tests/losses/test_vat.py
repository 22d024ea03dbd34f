from math import log, sqrt

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import kl_div, normalize

from segan_pl.losses.overlap import cross_entropy, soft_dice_loss
from segan_pl.losses.vat import (
    adversarial_perturbation,
    check_vat_options,
    divergence,
    released_vat_loss,
    unit,
    vat_loss,
)
from segan_pl.nets.reciprocal import Segmentor
from tests.contracts import tiny_batch

SHAPE = (2, 2, 4, 4, 4)
AXES = {"sample": (1, 2, 3, 4), "voxel": (1,), "rms": (1, 2, 3, 4)}


def probabilities(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1, 1)


def test_bernoulli_divergence_worked_by_hand():
    found = divergence(probabilities(0.5, 1.0, 0.0, 0.2), probabilities(0.25, 0.25, 0.25, 0.2).logit(), "sigmoid")
    expected = [0.5 * log(2) + 0.5 * log(2 / 3), log(4), log(4 / 3), 0.0]
    torch.testing.assert_close(found, probabilities(*expected))


def test_categorical_divergence_worked_by_hand():
    logits = probabilities(0.25, 0.25, 0.5).log() + 7  # softmax forgets the 7
    found = divergence(probabilities(0.5, 0.5, 0.0), logits, "softmax")
    assert found.shape == (1, 1, 1, 1, 1)
    assert found.item() == pytest.approx(log(2))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_divergence_from_labels_is_the_cross_entropy(activation):
    torch.manual_seed(0)
    batch = tiny_batch(2, 3, size=(16, 16, 16), activation=activation)
    logits = torch.randn(2, 3, 16, 16, 16)
    found = divergence(batch.target, logits, activation).mean()
    torch.testing.assert_close(found, cross_entropy(logits, batch.target, activation))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_divergence_is_zero_for_the_same_distribution_and_positive_for_another(activation):
    torch.manual_seed(0)
    logits, other = torch.randn(2, *SHAPE, dtype=torch.float64)
    reference = logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)
    assert divergence(reference, logits, activation).abs().max() < 1e-12
    assert divergence(reference, other, activation).min() > 0


def test_divergence_of_certain_logits_stays_finite_with_a_finite_gradient():
    logits = torch.tensor([-500.0, 500.0]).reshape(1, 2, 1, 1, 1).requires_grad_()
    for activation in ("sigmoid", "softmax"):
        loss = divergence(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1, 1), logits, activation).sum()
        loss.backward()
        assert loss.item() == pytest.approx(1000.0)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("norm", ["sample", "rms", "voxel"])
def test_unit_has_length_one_in_its_norm_and_keeps_the_direction(norm):
    direction = torch.randn(SHAPE, dtype=torch.float64) * torch.tensor([1e-30, 1e30]).reshape(2, 1, 1, 1, 1)
    scaled = unit(direction, norm).numpy()
    lengths = np.sqrt((scaled**2).sum(AXES[norm]))
    assert np.allclose(lengths, {"sample": 1, "voxel": 1, "rms": sqrt(2 * 4**3)}[norm])
    assert np.array_equal(np.sign(scaled), np.sign(direction.numpy()))


@pytest.mark.parametrize("norm", ["sample", "rms", "voxel"])
def test_unit_of_tiny_float32_values_does_not_underflow_and_zeros_stay(norm):
    tiny = torch.full(SHAPE, 1e-30)  # squares to 0 in float32
    torch.testing.assert_close(unit(tiny, norm), unit(torch.ones(SHAPE), norm))
    assert not unit(torch.zeros(SHAPE), norm).any()


@pytest.mark.parametrize("norm", ["sample", "rms", "voxel"])
def test_unit_of_what_is_shown_is_unit_without_the_other_modalities(norm):
    direction = torch.randn(2, 4, 3, 3, 3, dtype=torch.float64)
    shown = torch.tensor([[True, False, True, False], [False, True, False, False]])
    scaled = unit(direction, norm, shown)
    assert not scaled[~shown].any()
    for b in range(2):
        alone = unit(direction[b : b + 1, shown[b]], norm)
        torch.testing.assert_close(scaled[b : b + 1, shown[b]], alone)
    assert not unit(direction, norm, torch.zeros_like(shown)).any()


class Linear(nn.Module):
    """Logit = weight * image, voxel by voxel, so that the worst change is known."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, image):
        return (self.weight * image).sum(1, keepdim=True)


def test_against_labels_the_direction_of_a_linear_network_is_the_gradient_worked_by_hand():
    weight = torch.randn(SHAPE[1:], dtype=torch.float64)
    image, label = torch.randn(SHAPE, dtype=torch.float64), (torch.rand(2, 1, 4, 4, 4) > 0.5).double()
    found = adversarial_perturbation(Linear(weight), image, label, "sigmoid", norm="sample", epsilon=0.5, xi=1e-7)
    p = 1 / (1 + np.exp(-(weight * image).sum(1, keepdim=True).numpy()))
    slope = (p - label.numpy()) * weight.numpy()  # of the cross-entropy
    expected = 0.5 * slope / np.sqrt((slope**2).sum((1, 2, 3, 4), keepdims=True))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_against_the_prediction_power_iteration_finds_the_steepest_voxel():
    """At p = 1/2 the divergence of a linear network is (w d)^2 / 8: its worst direction is the largest weight's."""
    weight = torch.ones(1, 4, 4, 4, dtype=torch.float64)
    weight[0, 1, 2, 3] = 3.0
    image = torch.zeros(1, 1, 4, 4, 4, dtype=torch.float64)
    half = torch.full_like(image, 0.5)
    torch.manual_seed(0)
    share = []
    for iterations in (0, 1, 2, 8):
        change = adversarial_perturbation(
            Linear(weight), image, half, "sigmoid", norm="sample", epsilon=1.0, xi=0.01, power_iterations=iterations
        )
        share.append(change[0, 0, 1, 2, 3].abs().item())
    assert share[0] < share[1] < share[2] < share[3]
    assert share[3] > 0.999


@pytest.mark.parametrize("norm", ["sample", "rms", "voxel"])
@pytest.mark.parametrize("iterations", [0, 1])
def test_the_change_is_as_long_as_the_radius_and_has_no_graph(norm, iterations):
    image = torch.rand(SHAPE)
    reference = torch.rand(2, 1, 4, 4, 4)
    change = adversarial_perturbation(
        Linear(torch.randn(SHAPE[1:])), image, reference, "sigmoid", norm=norm, epsilon=0.3, power_iterations=iterations
    )
    torch.testing.assert_close(change, 0.3 * unit(change, norm))
    assert not change.requires_grad


@pytest.fixture(scope="module", params=["group", "instance"])
def trained(request):
    """A small segmentor after 40 steps of Dice, and its batch."""
    torch.manual_seed(0)
    network, batch = Segmentor(2, 1, width=4, norm=request.param), tiny_batch(size=(16, 16, 16))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        soft_dice_loss(network(batch.image).sigmoid(), batch.target, reduction="batch", epsilon=1.0).backward()
        optimiser.step()
    return network, batch


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", ["rms", "voxel"])
@pytest.mark.parametrize("against", ["prediction", "label"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_direction_raises_the_loss_more_than_random_ones_of_the_same_length(
    trained, seed, norm, against, precision
):
    network, batch = trained
    torch.manual_seed(seed)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        reference = network(batch.image).float().sigmoid() if against == "prediction" else batch.target

        def rise(change):
            still, moved = (
                vat_loss(network, batch.image, reference, "sigmoid", r) for r in (torch.zeros_like(change), change)
            )
            return (moved - still).item()

        found, *random = [
            adversarial_perturbation(
                network,
                batch.image,
                reference,
                "sigmoid",
                norm=norm,
                epsilon=0.03,
                xi=0.03,
                power_iterations=iterations,
            )
            for iterations in (1, 0, 0, 0, 0)
        ]
        assert rise(found) > 3 * max(abs(rise(change)) for change in random)


def test_finding_the_direction_leaves_no_gradient_with_the_network(trained):
    network, batch = trained
    network.zero_grad()
    adversarial_perturbation(network, batch.image, batch.target, "sigmoid")
    assert all(parameter.grad is None for parameter in network.parameters())


def as_released(network, image, labels):
    """The released code's steps in its own order (fact sheet, section 3), its first forward included."""
    direction = torch.randn_like(image)
    shift = 1e-6 * normalize(direction, p=2, dim=1)
    first = kl_div(network(image + shift).sigmoid(), labels, reduction="none").mean()
    torch.autograd.Variable(first.detach(), requires_grad=True).backward()
    noise = 2.5 * normalize(direction, p=2, dim=1)
    second = kl_div(network(image + noise).sigmoid(), labels, reduction="none").mean()
    return torch.autograd.Variable(second.detach(), requires_grad=True)


def test_released_loss_equals_the_released_steps_to_rounding_without_the_first_forward(trained):
    network, batch = trained
    for seed in range(3):
        torch.manual_seed(seed)
        expected = as_released(network, batch.image, batch.target).abs()
        torch.manual_seed(seed)
        found = released_vat_loss(network, batch.image, batch.target, "sigmoid")
        torch.testing.assert_close(found, expected.detach())


def test_released_steps_and_our_form_of_them_train_nothing(trained):
    network, batch = trained
    network.zero_grad()
    as_released(network, batch.image, batch.target).abs().backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not released_vat_loss(network, batch.image, batch.target, "sigmoid").requires_grad


def test_released_loss_falls_with_the_probability_of_tumour():
    """Had it a gradient, it would lower the tumour's probability: a network that is right pays most."""
    batch = tiny_batch(size=(8, 8, 8))
    right, wrong = (
        released_vat_loss(lambda _, sign=sign: sign * 20 * (batch.target - 0.5), batch.image, batch.target, "sigmoid")
        for sign in (1, -1)
    )
    assert right.item() == pytest.approx(batch.target.mean().item(), rel=1e-3)
    assert wrong.item() < 1e-4


def test_released_noise_is_two_and_a_half_at_every_voxel():
    seen = []
    image = torch.rand(SHAPE)
    released_vat_loss(lambda x: seen.append(x) or x[:, :1], image, torch.zeros(2, 1, 4, 4, 4), "sigmoid")
    torch.testing.assert_close((seen[0] - image).square().sum(1).sqrt(), torch.full((2, 4, 4, 4), 2.5))
    assert len(seen) == 1


def test_reductions_are_float32_under_bfloat16(trained):
    network, batch = trained
    with torch.autocast("cpu", torch.bfloat16):
        change = adversarial_perturbation(network, batch.image, batch.target, "sigmoid")
        loss = vat_loss(network, batch.image, batch.target, "sigmoid", change)
        released = released_vat_loss(network, batch.image, batch.target, "sigmoid")
    assert {change.dtype, loss.dtype, released.dtype} == {torch.float32}


def test_the_mean_of_a_large_low_precision_map_is_exact():
    logits = torch.zeros(1, 1, 64, 64, 64, dtype=torch.float16)
    found = divergence(torch.ones_like(logits), logits, "sigmoid").sum().item()
    assert found == pytest.approx(64**3 * log(2), rel=1e-6)  # float16 ends at 65,504


def test_an_image_of_low_precision_stays_so_for_the_network():
    seen = []
    image = torch.rand(SHAPE).bfloat16()
    reference = torch.rand(2, 1, 4, 4, 4)
    network = Linear(torch.ones(SHAPE[1:]).bfloat16())
    network.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    change = adversarial_perturbation(network, image, reference, "sigmoid")
    assert vat_loss(network, image, reference, "sigmoid", change).isfinite()
    assert set(seen) == {torch.bfloat16}
    assert change.dtype == torch.float32


def test_an_empty_batch_costs_nothing():
    empty = torch.zeros(0, 1, 4, 4, 4)
    assert vat_loss(nn.Identity(), empty, empty, "sigmoid", empty).item() == 0.0
    assert released_vat_loss(nn.Identity(), empty, empty, "sigmoid").item() == 0.0


def test_bad_options_and_shapes_are_refused():
    for options, text in (
        (("l2", 0.1, 0.1, 1), "norm is 'l2', expected one of"),
        (("rms", 0.0, 0.1, 1), "epsilon is 0.0"),
        (("rms", 0.1, float("nan"), 1), "xi is nan"),
        (("rms", 0.1, 0.1, -1), "at least 0"),
    ):
        with pytest.raises(ValueError, match=text):
            check_vat_options(*options)
    with pytest.raises(ValueError, match=r"the reference has shape \(1, 1, 4, 4, 4\), the logits \(1, 2, 4, 4, 4\)"):
        divergence(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4), "sigmoid")
