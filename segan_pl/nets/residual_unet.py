"""nnU-Net's residual-encoder U-Net (Isensee et al. 2024, "nnU-Net Revisited"), in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from segan_pl.nets.blocks import (
    CONVOLUTIONS,
    LEAKY_SLOPE,
    require_deep_supervision,
    require_divisible,
    require_widths,
    supervision_heads,
)

BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)
"""Of each level of the encoder, in nnU-Net's plans ResEncM, L and XL."""


class ResidualUNet(nn.Module):
    """Residual blocks on the way down, one convolution a level on the way up, instance norm, leaky ReLU of slope 0.01.

    A block is that of ResNet-D: its shortcut is averaged over 2 voxels a side where it halves, and then projected by a
    1x1 convolution where it widens. The last norm of a block begins with weight and bias 0, so that each block is its
    shortcut at first. nnU-Net's convolutions have a bias, these have none: instance norm takes it away again.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels C.
        spatial_dims: 2 for slices, 3 for volumes.
        width: Channels of the first level; they double at each level, up to `most`.
        levels: Resolutions, the first included; each halves every side.
        most: Most channels a level; 320 of nnU-Net in 3-D, 512 in 2-D.
        blocks: Residual blocks of each level; default nnU-Net's (`BLOCKS`).
        deep_supervision: Lower resolutions at which it gives logits, too, while it trains, at most levels - 2;
            nnU-Net has levels - 3 (`objectives.base.over_resolutions`). Prediction runs none of these heads.

    Attributes:
        resolutions: At which there are logits, the image's own included.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        spatial_dims: Literal[2, 3] = 3,
        width: int = 32,
        levels: int = 6,
        most: int = 320,
        blocks: Sequence[int] | None = None,
        deep_supervision: int = 0,
    ) -> None:
        super().__init__()
        require_widths(width=width, most=most)
        if spatial_dims not in (2, 3) or not 2 <= levels <= 8:
            raise ValueError(f"spatial_dims {spatial_dims}, levels {levels}: expected 2 or 3, and 2 to 8 levels")
        counts = BLOCKS[:levels] if blocks is None else tuple(blocks)
        if len(counts) != levels or min(counts) < 1:
            raise ValueError(f"blocks are {list(counts)}, expected {levels} numbers of at least 1, one for each level")
        require_deep_supervision(deep_supervision, levels, "a residual U-Net")
        self.divisor, self.axes, self.resolutions = 2 ** (levels - 1), spatial_dims, 1 + deep_supervision
        channels = [min(width * 2**level, most) for level in range(levels)]
        transposed = nn.ConvTranspose3d if spatial_dims == 3 else nn.ConvTranspose2d
        self.stem = convolution(spatial_dims, in_channels, channels[0])
        self.down = nn.ModuleList()
        for level, count in enumerate(counts):
            first = ResidualBlock(spatial_dims, channels[max(level - 1, 0)], channels[level], stride=1 + (level > 0))
            others = [ResidualBlock(spatial_dims, channels[level], channels[level]) for _ in range(count - 1)]
            self.down.append(nn.Sequential(first, *others))
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        for high, low in zip(channels[-2::-1], channels[:0:-1], strict=True):
            self.up.append(transposed(low, high, 2, stride=2, bias=False))
            self.merge.append(convolution(spatial_dims, 2 * high, high))
        for module in self.modules():
            if isinstance(module, CONVOLUTIONS):
                nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
        self.heads = supervision_heads(channels[: self.resolutions], out_channels, spatial_dims)

    def forward(self, image: Tensor, *, deep: bool = False) -> Tensor | list[Tensor]:
        """Image (B, M, *spatial) to logits (B, C, *spatial); deep, also those of lower resolutions, highest first.

        Raises:
            ValueError: A side is not divisible by 2 ** (levels - 1), or the image has other axes.
        """
        require_divisible(image, self.divisor, "residual U-Net", axes=self.axes)
        value, found = self.stem(image), []
        for level in self.down:
            value = level(value)
            found.append(value)
        value, maps = found.pop(), []
        for up, merge in zip(self.up, self.merge, strict=True):
            value = merge(torch.cat([up(value), found.pop()], 1))
            maps.append(value)
        if deep:
            return [head(maps.pop()) for head in self.heads]
        logits: Tensor = self.heads[0](value)
        return logits


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, (B, in, *spatial) to (B, out, *spatial / stride): nnU-Net's BasicBlockD."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(spatial_dims, in_channels, out_channels, stride=stride)
        self.second = convolution(spatial_dims, out_channels, out_channels, active=False)
        for parameter in self.second.get_submodule("adn.N").parameters():
            nn.init.zeros_(parameter)
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append((nn.AvgPool3d if spatial_dims == 3 else nn.AvgPool2d)(stride))
        if in_channels != out_channels:
            shortcut.append(convolution(spatial_dims, in_channels, out_channels, kernel=1, active=False))
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, value: Tensor) -> Tensor:
        """The activated sum of both ways."""
        result: Tensor = self.activation(self.second(self.first(value)) + self.shortcut(value))
        return result


def convolution(
    spatial_dims: int, in_channels: int, out_channels: int, *, stride: int = 1, kernel: int = 3, active: bool = True
) -> nn.Module:
    """MONAI's convolution, instance norm with weight and bias, and leaky ReLU; imported here, as MONAI takes long."""
    from monai.networks.blocks.convolutions import Convolution

    return Convolution(
        *(spatial_dims, in_channels, out_channels),
        strides=stride,
        kernel_size=kernel,
        adn_ordering="NA",
        act=("leakyrelu", {"negative_slope": LEAKY_SLOPE, "inplace": True}) if active else None,
        norm=("instance", {"affine": True}),
        bias=False,
    )
