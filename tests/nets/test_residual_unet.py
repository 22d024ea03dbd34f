"""nnU-Net's residual encoder: sizes, its parameters as published, its blocks by hand, and games with two networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, instance_norm, leaky_relu

from segan_pl.nets.mednext import MedNeXtSegmentor
from segan_pl.nets.residual_unet import ResidualBlock, ResidualUNet
from segan_pl.nets.segan import Critic
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from tests.contracts import SegmentorContract, descent, differ, parameters_of, take_phase, tiny_batch
from tests.objectives.semi_supervised.contract import partly_labelled, with_twins

small_residual = partial(ResidualUNet, spatial_dims=2, width=4, levels=3, deep_supervision=1)
small_mednext = partial(MedNeXtSegmentor, spatial_dims=2, variant="S", width=4, deep_supervision=2)


class TestResidualUNet(SegmentorContract):
    size = (16, 16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return ResidualUNet(in_channels, out_channels, width=4, levels=3)


class TestResidualUNetOfSlices(SegmentorContract):
    size = (16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return ResidualUNet(in_channels, out_channels, spatial_dims=2, width=4, levels=3, blocks=[1, 2, 1])


def test_resenc_l_has_102_million_parameters() -> None:
    """As Wald et al. 2025 count nnU-Net's ResEnc-L (six levels of 32 to 320 channels)."""
    with torch.device("meta"):
        built = ResidualUNet(1, 2)
    assert round(sum(parameter.numel() for parameter in built.parameters()) / 1e6) == 102


def test_a_block_is_resnet_ds_and_begins_as_its_shortcut() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(2, 3, 5, stride=2)
    image = torch.randn(2, 3, 8, 8)
    weights = dict(block.named_parameters())
    shortcut = instance_norm(conv2d(avg_pool2d(image, 2), weights["shortcut.1.conv.weight"]))
    torch.testing.assert_close(block(image), leaky_relu(shortcut, 0.01))
    nn.init.ones_(weights["second.adn.N.weight"])
    inner = leaky_relu(instance_norm(conv2d(image, weights["first.conv.weight"], stride=2, padding=1)), 0.01)
    inner = instance_norm(conv2d(inner, weights["second.conv.weight"], padding=1))
    torch.testing.assert_close(block(image), leaky_relu(inner + shortcut, 0.01))


def test_default_blocks_are_nnunets() -> None:
    with torch.device("meta"):
        built = ResidualUNet(1, 2)
    assert [len(level) for level in built.down] == [1, 3, 4, 6, 6, 6]
    assert len(built.merge) == 5


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"levels": 9}, "levels 9: expected 2 or 3, and 2 to 8 levels"),
        ({"blocks": [1, 2]}, r"blocks are \[1, 2\], expected 6 numbers of at least 1"),
        ({"deep_supervision": 5}, "deep_supervision is 5, expected 0 .* to 4 lower resolutions"),
        ({"width": 0}, "width is 0, expected at least 1 channel"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ResidualUNet(2, 1, **settings)


def test_an_image_of_other_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="the image has 3 axes, expected 2"):
        small_residual(1, 1)(torch.zeros(1, 1, 8, 8, 8))


@pytest.mark.parametrize("build", [small_residual, small_mednext], ids=["residual", "mednext"])
def test_the_logits_are_the_same_with_heads_and_without(build: Callable[[int, int], nn.Module]) -> None:
    network: Any = build(2, 3)
    image = torch.randn(2, 2, 32, 48)
    logits = network(image, deep=True)
    assert torch.equal(logits[0], network(image))
    assert [tuple(one.shape) for one in logits] == [(2, 3, 32 // s, 48 // s) for s in (1, 2, 4)[: network.resolutions]]


@pytest.mark.parametrize("build", [small_residual, small_mednext], ids=["residual", "mednext"])
@pytest.mark.parametrize("objective", [SegAN(), MeanTeacher(ramp_up=0), VirtualAdversarial(ramp_up=0)])
def test_they_play_every_kind_of_game(build: Callable[[int, int], nn.Module], objective: Objective) -> None:
    torch.manual_seed(0)
    networks = with_twins(objective, {"segmentor": build(2, 3)}, lambda: build(2, 3))
    if "critic" in objective.networks:
        networks["critic"] = Critic(objective.channels("critic", 2, 3)["in_channels"], width=2)
    batch = partly_labelled(2, 3) if objective.needs_unlabelled else tiny_batch(2, 3)
    context = StepContext(networks, batch, "sigmoid", step=1, steps=10)
    trained = {name: one for name, one in networks.items() if name not in objective.teachers}
    before = {name: parameters_of(network) for name, network in trained.items()}
    heads = parameters_of(networks["segmentor"].get_submodule("heads"))
    for phase in objective.phases():
        losses = take_phase(phase, context, descent(networks))
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    assert all(differ(before[name], parameters_of(network)) for name, network in trained.items())
    moved = parameters_of(networks["segmentor"].get_submodule("heads"))
    assert all(not torch.equal(old, new) for old, new in zip(heads, moved, strict=True))
