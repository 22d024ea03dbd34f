from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, conv3d, conv_transpose3d, leaky_relu, pad

from segan_pl.nets.few_shot import Encoder, Generator, Segmentor
from tests.contracts import SegmentorContract, assert_finite_gradients, assert_same_by_seed, assert_state_round_trip


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class TestSegmentor(SegmentorContract):
    size = (8, 16, 16)

    def build(self, in_channels: int, out_channels: int) -> Segmentor:
        return Segmentor(in_channels, out_channels, width=2)


class TestSegmentorOfSlices(SegmentorContract):
    size = (16, 24)

    def build(self, in_channels: int, out_channels: int) -> Segmentor:
        return Segmentor(in_channels, out_channels, width=2, spatial_dims=2)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_the_networks_have_the_published_sizes(modalities: int) -> None:
    """6.53 M and 2.2 M in the fact sheet; the encoder's 20.7 M there lack the padding, so its last layer is 64 times
    as long."""
    with torch.device("meta"):
        segmentor, generator, encoder = Segmentor(modalities, 4), Generator(modalities), Encoder(modalities)
    assert count(segmentor) == 6_530_760 + (modalities - 2) * 27 * 32
    assert count(generator) == 2_202_948 + (modalities - 2) * (8 * 64 + 2)
    assert count(encoder) == 33_622_688 + (modalities - 2) * 125 * 128
    assert count(encoder) - 63 * 512 * 400 - 400 == 20_719_888 + (modalities - 2) * 125 * 128


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("patch", [(32, 32, 32), (16, 32, 48), (32, 16)])
def test_noise_becomes_a_patch_and_a_patch_a_distribution_of_noise(modalities: int, patch: tuple[int, ...]) -> None:
    generator = Generator(modalities, patch=patch, width=2, noise=7)
    image = generator(torch.rand(3, 7) * 2 - 1)
    assert image.shape == (3, modalities, *patch)
    assert image.abs().max() <= 1
    mean, log_sigma = Encoder(modalities, patch=patch, width=2, noise=7)(image)
    assert mean.shape == log_sigma.shape == (3, 7)


def test_an_unbounded_generator_leaves_the_interval() -> None:
    torch.manual_seed(0)
    generator = Generator(2, patch=(16, 16), width=2, bounded=False)
    nn.init.constant_(generator.layers.output.bias, 5.0)  # type: ignore[union-attr,arg-type]
    assert generator(torch.rand(2, 200)).min() > 1


def test_features_are_those_that_the_logits_are_made_of() -> None:
    network = Segmentor(2, 4, width=2)
    image = torch.randn(2, 2, 16, 16, 16)
    logits, layers = network.features(image)
    assert torch.equal(network(image), logits)
    assert [tuple(layer.shape[1:3]) for layer in layers] == [
        *((2, 16), (2, 16), (4, 8), (4, 8), (8, 4), (8, 4), (16, 2), (16, 2)),
        *((8, 4), (8, 4), (4, 8), (4, 8), (2, 16), (2, 16)),
    ]
    assert torch.equal(network.output(layers[-1]), logits)
    assert torch.equal(network.bottleneck(image), layers[6])


def test_the_bottleneck_runs_nothing_behind_it() -> None:
    network = Segmentor(1, 4, width=2)
    for module in [network.encoder[7], *network.up, *network.decoder, network.output]:
        module.register_forward_hook(lambda *_: pytest.fail("it ran"))
    assert network.bottleneck(torch.randn(1, 1, 16, 16, 16)).shape == (1, 16, 2, 2, 2)


def test_it_is_the_authors_graph_layer_by_layer() -> None:
    """As their `discriminator` is written: skips from the second convolution of a level, in front of what comes up."""
    torch.manual_seed(0)
    network = Segmentor(2, 3, width=2).double()
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    image = torch.randn(1, 2, 16, 16, 16, dtype=torch.float64)

    def layer(block: nn.Module, x: Tensor) -> Tensor:
        return leaky_relu(conv3d(x, block.conv.weight, block.conv.bias, padding=1), 0.2)  # type: ignore[union-attr,arg-type]

    def up(conv: nn.Module, x: Tensor) -> Tensor:
        return conv_transpose3d(x, conv.weight, conv.bias, stride=2)  # type: ignore[arg-type]

    down, back = list(network.encoder), list(network.decoder)
    h1 = layer(down[1], layer(down[0], image))
    h3 = layer(down[3], layer(down[2], avg_pool3d(h1, 2)))
    h5 = layer(down[5], layer(down[4], avg_pool3d(h3, 2)))
    h7 = layer(down[7], layer(down[6], avg_pool3d(h5, 2)))
    h9 = layer(back[1], layer(back[0], torch.cat([h5, up(network.up[0], h7)], 1)))
    h11 = layer(back[3], layer(back[2], torch.cat([h3, up(network.up[1], h9)], 1)))
    h13 = layer(back[5], layer(back[4], torch.cat([h1, up(network.up[2], h11)], 1)))
    expected = conv3d(h13, network.output.weight, network.output.bias, padding=1)  # type: ignore[arg-type]
    torch.testing.assert_close(network(image), expected, rtol=1e-12, atol=1e-12)


def test_weight_norm_gives_every_output_channel_the_length_of_its_scale_and_that_can_be_trained() -> None:
    network = Segmentor(2, 4, width=2)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)]
    assert len(layers) == 14 + 3 + 1
    for layer in layers:
        out = 1 if isinstance(layer, nn.ConvTranspose3d) else 0
        lengths = layer.weight.movedim(out, 0).flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones(layer.out_channels))
        scale = layer.get_parameter("parametrizations.weight.original0")
        assert scale.numel() == layer.out_channels
        assert scale.requires_grad
        with torch.no_grad():
            scale.copy_(torch.arange(1.0, layer.out_channels + 1).reshape(scale.shape))
        lengths = layer.weight.movedim(out, 0).flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, torch.arange(1.0, layer.out_channels + 1))


def test_the_encoder_pads_one_voxel_before_and_two_behind() -> None:
    network = Encoder(1, patch=(16, 16, 16), width=1, noise=2)
    image = torch.randn(2, 1, 16, 16, 16)
    seen: list[Tensor] = []
    network.convolutions[0].register_forward_hook(lambda *given: seen.append(given[-1].detach()))
    network(image)
    first = network.convolutions[0]
    whole = conv3d(pad(image, (1, 2) * 3), first.get_parameter("weight"), first.get_parameter("bias"))
    torch.testing.assert_close(seen[0], whole[:, :, ::2, ::2, ::2])
    assert seen[0].shape[2:] == (8, 8, 8)


def test_generator_and_encoder_are_made_by_seed_saved_and_trained() -> None:
    noise = torch.rand(2, 3)
    assert_same_by_seed(lambda: Generator(1, patch=(16, 32), width=2, noise=3))
    assert_state_round_trip(lambda: Generator(1, patch=(16, 32), width=2, noise=3), noise)
    generator, encoder = Generator(1, patch=(16, 32), width=2, noise=3), Encoder(1, patch=(16, 32), width=2, noise=3)
    torch.stack(encoder(generator(noise))).square().mean().backward()
    assert_finite_gradients(encoder)
    # A constant before batch norm is taken away again.
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Segmentor(1, 4, spatial_dims=4), "spatial_dims is 4, expected 2 or 3"),  # type: ignore[arg-type]
        (lambda: Segmentor(1, 4, width=0), "width is 0"),
        (lambda: Generator(1, patch=(24, 32, 32)), r"patch is \[24, 32, 32\], expected .*each divisible by 16"),
        (lambda: Generator(1, patch=(32,)), r"patch is \[32\], expected \(H, W\) or \(D, H, W\)"),
        (lambda: Encoder(1, patch=(4, 8)), "each divisible by 8"),
        (lambda: Encoder(1, patch=(16, 16), width=1)(torch.zeros(1, 1, 16, 24)), r"image is \(16, 24\) voxels"),
        (lambda: Segmentor(1, 4, width=1)(torch.zeros(1, 1, 16, 16)), "expected 3; give a --data.patch of 3 numbers"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_the_generators_first_size_is_a_sixteenth() -> None:
    assert Generator(1, patch=(32, 48, 16), width=1).size == (8, 2, 3, 1)
    assert prod(Generator(1).size) == 512 * 8
