import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from segan_pl.nets.segan_isic import Critic, Segmentor
from tests.contracts import CriticContract, SegmentorContract


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class TestSegmentor(SegmentorContract):
    size = (64, 64)

    def build(self, in_channels, out_channels):
        return Segmentor(in_channels, out_channels, width=2)


class TestCritic(CriticContract):
    size = (64, 64)
    layers = 7

    def build(self, in_channels):
        return Critic(in_channels, width=2)


@pytest.mark.parametrize(
    ("channels", "segmentor", "critic"), [(3, 156_235_264, 9_393_088), (4, 156_238_400, 9_396_224)]
)
def test_networks_have_the_number_of_parameters_that_the_public_code_uses(channels, segmentor, critic):
    with torch.device("meta"):
        assert count(Segmentor(channels, 1)) == segmentor
        assert count(Critic(channels)) == critic


@pytest.mark.parametrize(("side", "coarsest"), [(128, 2), (160, 3)])
def test_both_published_sizes_pass(side, coarsest):
    image = torch.randn(2, 3, side, side)
    assert Segmentor(3, 1, width=1)(image).shape == (2, 1, side, side)
    assert Critic(3, width=1)(image)[-1].shape[2:] == (coarsest, coarsest)


@pytest.mark.parametrize(("side", "elements"), [(128, 550_912), (160, 862_208)])
def test_critic_pyramid_has_the_published_number_of_elements(side, elements):
    with torch.device("meta"):
        pyramid = Critic(3)(torch.zeros(2, 3, side, side))
    assert sum(layer[0].numel() for layer in pyramid) == elements


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="divisible by 32 and at least 64"):
        Segmentor(1, 1, width=1)(torch.zeros(2, 1, 32, 32))


def test_decoder_reads_the_encoder_then_the_coarser_decoder_enlarged():
    network = Segmentor(1, 1, width=2)
    seen = {}
    network.enc5.register_forward_hook(lambda *args: seen.update(encoder=args[-1]))
    network.dec5.register_forward_hook(lambda *args: seen.update(decoder=args[-1]))
    network.dec4.register_forward_pre_hook(lambda _, args: seen.update(joint=args[0]))
    network(torch.randn(2, 1, 64, 64))
    joint = torch.cat([seen["encoder"], seen["decoder"]], 1)
    torch.testing.assert_close(seen["joint"], interpolate(joint, scale_factor=2, mode="bilinear", align_corners=False))


def test_output_is_a_logit_without_bias():
    torch.manual_seed(0)
    network = Segmentor(1, 1, width=2)
    assert network.output.bias is None
    assert network(torch.randn(2, 1, 64, 64)).min() < 0


def test_batch_norm_weights_start_around_one():
    torch.manual_seed(0)
    norms = [module for module in Critic(1, width=16).modules() if isinstance(module, nn.BatchNorm2d)]
    weights = torch.cat([norm.weight.detach() for norm in norms])
    assert weights.mean().item() == pytest.approx(1, abs=0.01)
    assert weights.std().item() == pytest.approx(0.02, rel=0.2)
