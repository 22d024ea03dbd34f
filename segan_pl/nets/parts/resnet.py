"""ResNet-34's convolutional trunk (He et al. 2015) under torchvision's key names, so that its ImageNet weights load."""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions without bias, each normalised, and a short cut; ReLU after their sum (He et al., figure 5).

    The short cut is a strided 1x1 convolution and batch norm where the shape changes, else the input itself. Of few
    channels the stride is taken first, which sums the same: on CPUs with AVX2 alone torch 2.13 (oneDNN) writes beyond
    its memory in a strided 1x1 convolution of fewer than 7 channels in channels-last memory, and the process dies. Not
    of more, where it is slower (by 10% of ResNet-34's step of 32 slices of 128 x 128).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.step = stride if in_channels < 8 else 1
        self.downsample: nn.Module = nn.Identity()  # no keys of its own
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride // self.step, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H / stride, W / stride), rounded up."""
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.step > 1:
            x = x[..., :: self.step, :: self.step]
        out: Tensor = self.relu(branch + self.downsample(x))
        return out


class ResNet34(nn.Module):
    """The trunk as AlbuNet has it: 2x2 pooling in place of ResNet's 3x3, and no classifier (AlbuNet, figure 2).

    21,284,672 parameters with 3 channels and width 64; the keys are torchvision's, but for "fc.weight" and "fc.bias".
    PyTorch's default initialisation (the AlbuNet authors' code).

    Args:
        in_channels: Of the image; 3 for ImageNet's weights as they are.
        width: Channels of the first stage; 64 in the paper, and for ImageNet's weights.

    Attributes:
        channels: Of the four feature maps that `forward` returns.
    """

    blocks = (3, 4, 6, 3)

    def __init__(self, in_channels: int = 3, *, width: int = 64) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 8 * width)
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(2)
        self.layer1 = _stage(width, self.channels[0], self.blocks[0], stride=1)
        self.layer2 = _stage(self.channels[0], self.channels[1], self.blocks[1], stride=2)
        self.layer3 = _stage(self.channels[1], self.channels[2], self.blocks[2], stride=2)
        self.layer4 = _stage(self.channels[2], self.channels[3], self.blocks[3], stride=2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, in, H, W) to the four stages' features, (B, channels[i], H / s, W / s) for s = 4, 8, 16, 32."""
        features = [self.maxpool(self.relu(self.bn1(self.conv1(image))))]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            features.append(layer(features[-1]))
        return features[1:]


def _stage(in_channels: int, out_channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Blocks of one resolution; the first changes the shape."""
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)))
