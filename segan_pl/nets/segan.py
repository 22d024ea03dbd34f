"""Segmentor and critic of SegAN-CAT (Giacomello et al. 2020) and of its "SegAN" baseline: only in_channels differ."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from segan_pl.nets.blocks import double, halve, initialise, require_divisible


class Segmentor(nn.Module):
    """Fully convolutional encoder and decoder with summed skips (SegAN-CAT, section III, as its authors coded it).

    Four strided blocks down, four bilinear blocks up. A skip is added after the decoder block's ReLU, and the sum is
    not activated again. 4,308,225 parameters with 4 modalities, 1 channel and width 64.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels C.
        width: Channels of the first block; 64 in the paper.
        leaky_slope: 0.3 in the paper, 0.2 in SegAN's code.
        bn_momentum: Weight of the new batch in the running statistics. The authors' Keras code ran with 0.9 in this
            meaning; 0.1 is the paper's number and PyTorch's default.
        bn_eps: 1e-5 in the paper.
    """

    divisor = 16

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        leaky_slope: float = 0.3,
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        down = partial(halve, normalise=True, leaky_slope=leaky_slope, bn_momentum=bn_momentum, bn_eps=bn_eps)
        self.input = down(in_channels, width, normalise=False)
        self.enc2 = down(width, 2 * width)
        self.enc3 = down(2 * width, 4 * width)
        self.enc4 = down(4 * width, 8 * width)
        up = partial(double, bn_momentum=bn_momentum, bn_eps=bn_eps)
        self.dec3 = up(8 * width, 4 * width)
        self.dec2 = up(4 * width, 2 * width)
        self.dec1 = up(2 * width, width)
        self.output = nn.Sequential(
            OrderedDict(
                upsample=nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                conv=nn.Conv2d(width, out_channels, 3, padding=1),
            )
        )
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, H, W) to logits (B, C, H, W).

        Raises:
            ValueError: H or W is not divisible by 16.
        """
        require_divisible(image, self.divisor, "segan.Segmentor", axes=2)
        enc1 = self.input(image)  # (B, width, H / 2, W / 2)
        enc2 = self.enc2(enc1)
        enc3 = self.enc3(enc2)
        x = self.enc4(enc3)  # (B, 8 width, H / 16, W / 16)
        x = self.dec3(x) + enc3
        x = self.dec2(x) + enc2
        x = self.dec1(x) + enc1
        logits: Tensor = self.output(x)
        return logits


class Critic(nn.Module):
    """Three strided blocks, all of whose features are compared (SegAN-CAT, section III, as its authors coded it).

    661,312 parameters for 4 modalities and 1 label channel at width 64.

    Args:
        in_channels: What the objective shows the critic: its `channels`.
        width: Channels of the first block; 64 in the paper.
        leaky_slope: 0.3 in the paper.
        bn_momentum: As for the segmentor.
        bn_eps: 1e-5 in the paper.
    """

    divisor = 8

    def __init__(
        self,
        in_channels: int,
        *,
        width: int = 64,
        leaky_slope: float = 0.3,
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        down = partial(halve, normalise=True, leaky_slope=leaky_slope, bn_momentum=bn_momentum, bn_eps=bn_eps)
        self.input = down(in_channels, width, normalise=False)
        self.enc2 = down(width, 2 * width)
        self.enc3 = down(2 * width, 4 * width)
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) to its pyramid: x itself, then a (B, k * width, H / s, W / s) for s = 2, 4, 8.

        Raises:
            ValueError: H or W is not divisible by 8.
        """
        require_divisible(x, self.divisor, "segan.Critic", axes=2)
        enc1 = self.input(x)
        enc2 = self.enc2(enc1)
        return [x, enc1, enc2, self.enc3(enc2)]
