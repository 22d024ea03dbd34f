from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segan_pl.nets.parts.resnet import BasicBlock, ResNet34


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def monai_resnet34(width: int = 64) -> nn.Module:
    from monai.networks.nets import resnet34

    return resnet34(
        spatial_dims=2,
        n_input_channels=3,
        num_classes=5,
        conv1_t_size=7,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
        widen_factor=width / 64,
    )


def test_the_trunk_has_the_keys_and_shapes_of_monais_resnet34_without_its_classifier():
    with torch.device("meta"):
        ours, theirs = ResNet34().state_dict(), monai_resnet34().state_dict()
    expected = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == expected
    assert len(theirs) == 218


@pytest.mark.parametrize("training", [True, False])
def test_the_trunk_computes_what_monais_resnet34_does(training):
    torch.manual_seed(0)
    theirs = monai_resnet34(8)
    theirs.maxpool = nn.MaxPool2d(2)  # AlbuNet's change
    theirs(noise(4, 3, 64, 96))  # moves the running statistics
    ours = ResNet34(3, width=8)
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    ours.train(training)
    theirs.train(training)
    image = noise(2, 3, 96, 64, seed=1)
    with torch.no_grad():
        features = ours(image)
        assert (theirs.fc(features[-1].mean((2, 3))) - theirs(image)).abs().max() < 1e-6
    assert [tuple(feature.shape[1:]) for feature in features] == [(8, 24, 16), (16, 12, 8), (32, 6, 4), (64, 3, 2)]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_short_cut_of_few_channels_strides_before_it_convolves(stride):
    """torch 2.13 on AVX2 writes beyond its memory otherwise (see BasicBlock)."""
    block = BasicBlock(4, 8, stride)
    convolution, norm = block.downsample
    assert convolution.stride == (1, 1)
    image = torch.randn(2, 4, 9, 9).to(memory_format=torch.channels_last)
    short = norm(nn.functional.conv2d(image, convolution.weight, stride=stride))
    branch = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(image)))))
    torch.testing.assert_close(block(image), torch.relu(branch + short))
