"""AlbuNet2D and AlbuNet3D (Wacker, Ladeira, Nascimento 2019): a ResNet-34 over slices, and layers along depth."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from segan_pl.nets.blocks import require_divisible, require_widths, stage
from segan_pl.nets.parts.resnet import ResNet34


class AlbuNet(nn.Module):
    """A U-Net over a ResNet-34 whose slices meet only in 3x1x1 depth layers (AlbuNet, figure 2, as coded).

    Depth is folded into the batch: a 1x3x3 convolution and its batch norm over (B, D, H, W) are a 3x3 convolution and
    its batch norm over B * D slices, in training too. So one network takes slices and volumes of any depth, and
    ImageNet's weights load unmodified. A slice is a volume of depth 1: there a depth layer's middle tap alone sees
    data, which is how the authors ran AlbuNet2D; the paper's has no depth layers.

    With 3 modalities and 4 labels 26,673,172 parameters, without depth layers 25,822,372: the encoder has no bias, as
    ResNet has none; the authors' conversion to 3-D added 8,512, random next to pretrained kernels. PyTorch's default
    initialisation (the authors' code).

    Args:
        in_channels: Modalities M; 3 in the paper, taken for red, green and blue in their order.
        out_channels: Label channels C; 4 in the paper.
        depth_layers: Mix neighbouring slices at four levels; without, every slice is on its own.
        pretrained: What a new run loads into the encoder: "imagenet", a file, or null for nothing. The network only
            notes it: `segan_pl.training.finetuning.pretrained` loads when a fit begins, so a checkpoint is read without
            that file.
        width: Channels of the encoder's first stage; 64 in the paper, and for ImageNet's weights.
        filters: Channels of the output level, and unit of the decoder's; 16 in the authors' code.
    """

    divisor = 32
    depth_divisor = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        depth_layers: bool = True,
        pretrained: str | None = None,
        width: int = 64,
        filters: int = 16,
    ) -> None:
        super().__init__()
        require_widths(width=width, filters=filters)
        self.pretrained = pretrained
        self.encoder = ResNet34(in_channels, width=width)
        one, two, three, four = self.encoder.channels
        f = filters
        self.center = convolve(four, 8 * f)
        self.dec5 = enlarge(8 * f + four, 16 * f, 8 * f)
        self.dec4 = enlarge(8 * f + three, 16 * f, 8 * f)
        self.dec3 = enlarge(8 * f + two, 8 * f, 2 * f)
        self.dec2 = enlarge(2 * f + one, 4 * f, 4 * f)
        self.dec1 = enlarge(4 * f, 4 * f, f)
        self.dec0 = convolve(f, f)
        levels = {"encoder": four, "dec4": 8 * f, "dec2": 4 * f, "dec0": f} if depth_layers else {}
        self.depth = nn.ModuleDict({name: DepthLayer(channels) for name, channels in levels.items()})
        self.output = nn.Conv2d(f, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, D, H, W) to logits (B, C, D, H, W), or (B, M, H, W) to (B, C, H, W); any depth.

        Raises:
            ValueError: H or W is not divisible by 32; or, from batch norm, a training batch of a single 32 x 32 slice.
        """
        depth = image.shape[2] if image.ndim == 5 else 1
        slices = image.movedim(2, 1).flatten(0, 1) if image.ndim == 5 else image  # (B * D, M, H, W)
        require_divisible(slices, self.divisor, "albunet.AlbuNet")
        one, two, three, four = self.encoder(slices)
        four = self._mix("encoder", four, depth)  # (B * D, 512, H / 32, W / 32)
        x = self.dec5(torch.cat([self.center(four), four], 1))
        x = self._mix("dec4", self.dec4(torch.cat([x, three], 1)), depth)  # (B * D, 128, H / 8, W / 8)
        x = self.dec3(torch.cat([x, two], 1))
        x = self._mix("dec2", self.dec2(torch.cat([x, one], 1)), depth)  # (B * D, 64, H / 2, W / 2)
        x = self._mix("dec0", self.dec0(self.dec1(x)), depth)  # (B * D, 16, H, W)
        logits: Tensor = self.output(x)
        return logits.view(-1, depth, *logits.shape[1:]).movedim(1, 2) if image.ndim == 5 else logits

    def _mix(self, level: str, x: Tensor, depth: int) -> Tensor:
        return self.depth[level](x, depth) if level in self.depth else x


class DepthLayer(nn.Module):
    """3x1x1 convolution over neighbouring slices, batch norm and ReLU, on slices folded into the batch.

    Written as a 3x1 convolution over (B, C, D, H * W): the same sums, and with channels-last memory nothing is copied.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, depth: int) -> Tensor:
        """(B * D, C, H, W) to the same shape, zeros beyond the first and the last of a volume's D slices."""
        _, channels, height, width = x.shape
        columns = x.movedim(1, -1).reshape(-1, depth, height * width, channels).movedim(-1, 1)  # (B, C, D, H * W)
        mixed: Tensor = self.activation(self.norm(self.conv(columns)))
        return mixed.movedim(1, -1).reshape(-1, height, width, channels).movedim(-1, 1)


def convolve(in_channels: int, out_channels: int) -> nn.Sequential:
    """(B, in, H, W) to (B, out, H, W): 3x3 convolution with bias, batch norm, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return stage(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def enlarge(in_channels: int, mid_channels: int, out_channels: int) -> nn.Sequential:
    """(B, in, H, W) to (B, out, 2H, 2W): `convolve`, then a transposed 4x4 convolution and ReLU without batch norm."""
    return nn.Sequential(
        OrderedDict(
            convolve=convolve(in_channels, mid_channels),
            upsample=nn.ConvTranspose2d(mid_channels, out_channels, 4, stride=2, padding=1),
            activation=nn.ReLU(inplace=True),
        )
    )
