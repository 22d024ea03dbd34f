import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from segan_pl.nets.segan import Critic, Segmentor
from tests.contracts import CriticContract, SegmentorContract


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class TestSegmentor(SegmentorContract):
    size = (32, 48)

    def build(self, in_channels, out_channels):
        return Segmentor(in_channels, out_channels, width=4)


class TestCritic(CriticContract):
    size = (16, 24)
    layers = 4

    def build(self, in_channels):
        return Critic(in_channels, width=4)


@pytest.mark.parametrize(
    ("modalities", "channels", "parameters"), [(1, 1, 4_305_153), (4, 1, 4_308_225), (4, 5, 4_310_533)]
)
def test_segmentor_has_the_published_number_of_parameters(modalities, channels, parameters):
    with torch.device("meta"):
        assert count(Segmentor(modalities, channels)) == parameters


@pytest.mark.parametrize(
    ("channels", "parameters"),
    [(1, 657_216), (4, 660_288), (2, 658_240), (5, 661_312), (3, 659_264), (9, 665_408)],
    ids=["mask-1", "mask-4", "concat-1", "concat-4", "mix-1", "mix-4"],
)
def test_critic_has_the_published_number_of_parameters(channels, parameters):
    with torch.device("meta"):
        assert count(Critic(channels)) == parameters


def test_segmentor_keeps_2688_running_values():
    with torch.device("meta"):
        network = Segmentor(4, 1)
    assert sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name) == 2688


@pytest.mark.parametrize(("channels", "elements"), [(1, 742_400), (2, 768_000), (5, 844_800), (9, 947_200)])
def test_critic_pyramid_has_the_published_number_of_elements(channels, elements):
    with torch.device("meta"):
        pyramid = Critic(channels)(torch.zeros(2, channels, 160, 160))
    assert [layer.shape[2:] for layer in pyramid] == [(160, 160), (80, 80), (40, 40), (20, 20)]
    assert sum(layer[0].numel() for layer in pyramid) == elements


def test_layers_can_be_named_for_transfer():
    assert list(dict(Segmentor(1, 1, width=2).named_children())) == [
        "input", "enc2", "enc3", "enc4", "dec3", "dec2", "dec1", "output",
    ]  # fmt: skip
    assert list(dict(Critic(1, width=2).named_children())) == ["input", "enc2", "enc3"]
    with torch.device("meta"):
        assert [count(Critic(channels).input) for channels in (1, 4, 2, 5)] == [1088, 4160, 2112, 5184]


def test_kernels_start_with_the_fan_out_deviation_and_the_rest_at_rest():
    torch.manual_seed(0)
    segmentor, critic = Segmentor(4, 1), Critic(5)
    assert critic.input.conv.weight.std().item() == pytest.approx(0.0442, rel=0.05)
    assert segmentor.output.conv.weight.std().item() == pytest.approx(0.471, rel=0.1)
    assert segmentor.enc3.conv.weight.std().item() == pytest.approx((2 / (16 * 256)) ** 0.5, rel=0.01)
    for name, parameter in [*segmentor.named_parameters(), *critic.named_parameters()]:
        if not name.endswith("conv.weight"):
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("norm.weight")))), name


def test_batch_norm_and_slope_take_the_options():
    networks = [
        Segmentor(1, 1, width=2, leaky_slope=0.2, bn_momentum=0.9, bn_eps=1e-3),
        Critic(1, width=2, leaky_slope=0.2, bn_momentum=0.9, bn_eps=1e-3),
    ]
    for network in networks:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert {(norm.momentum, norm.eps) for norm in norms} == {(0.9, 1e-3)}
        slopes = {module.negative_slope for module in network.modules() if isinstance(module, nn.LeakyReLU)}
        assert slopes == {0.2}


def test_skips_are_added_after_the_activation():
    torch.manual_seed(0)
    network = Segmentor(2, 1, width=2).eval()
    image = torch.randn(1, 2, 32, 32)
    e1 = network.input(image)
    e2 = network.enc2(e1)
    e3 = network.enc3(e2)
    x = network.enc4(e3)
    for block, skip in ((network.dec3, e3), (network.dec2, e2), (network.dec1, e1)):
        up = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = torch.relu(block.norm(block.conv(up))) + skip
    assert (x < 0).any()  # the sum is not activated again
    x = network.output.conv(interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    torch.testing.assert_close(network(image), x)
