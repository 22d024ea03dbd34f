"""The networks of SegAN's public code (Xue et al., the ISIC-2017 variant) without the parameters that it never uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from segan_pl.nets.blocks import initialise, require_divisible, stage

SLOPE = 0.2  # LeakyReLU, SegAN code


class GlobalConv(nn.Module):
    """A k x k field from two separable paths: k x 1 then 1 x k, plus 1 x k then k x 1, all with bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        tall, wide = (kernel, 1), (1, kernel)
        self.left = nn.Sequential(same(in_channels, out_channels, tall), same(out_channels, out_channels, wide))
        self.right = nn.Sequential(same(in_channels, out_channels, wide), same(out_channels, out_channels, tall))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H, W)."""
        field: Tensor = self.left(x) + self.right(x)
        return field


def same(in_channels: int, out_channels: int, kernel: tuple[int, int]) -> nn.Conv2d:
    """Convolution with bias that keeps the size; odd kernels."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2))


class Residual(nn.Module):
    """Input plus a branch; same shape."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        out: Tensor = x + self.branch(x)
        return out


def bottleneck(channels: int, slope: float) -> Residual:
    """1x1, 3x3, 1x1 over doubled channels, each activated; the public code declares batch norms here and skips them."""
    inner = 2 * channels
    return Residual(
        nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            activation(slope),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            activation(slope),
            nn.Conv2d(inner, channels, 1, bias=False),
            activation(slope),
        )
    )


def pointwise(channels: int, slope: float) -> Residual:
    """Input plus 1x1 convolution, batch norm and activation of it."""
    return Residual(normalised(nn.Conv2d(channels, channels, 1, bias=False), channels, slope))


def activation(slope: float) -> nn.Module:
    """LeakyReLU, or ReLU for slope 0."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


def normalised(conv: nn.Module, channels: int, slope: float) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    return stage(conv, nn.BatchNorm2d(channels), activation(slope))


def shrink(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """(B, in, H, W) to (B, out, H / 2, W / 2), rounded up for odd kernels: convolution, batch norm, LeakyReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=2, padding=(kernel - 1) // 2, bias=False)
    return normalised(conv, out_channels, SLOPE)


def widen(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """A decoder's convolution, batch norm and ReLU: 3x3, or a global convolution for larger kernels."""
    if kernel > 3:
        return normalised(GlobalConv(in_channels, out_channels, kernel), out_channels, 0.0)
    return normalised(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), out_channels, 0.0)


class Segmentor(nn.Module):
    """Eight stages down, eight up, skips concatenated before the upsampling (SegAN code, NetS).

    156,238,400 parameters with 4 modalities, 1 channel and width 64: 30,080 fewer than the public code, whose residual
    blocks hold unused batch norms. Bilinear upsampling to the next finer encoder output, without aligned corners (the
    public code was written when aligned corners were the default). The output convolution has no bias.

    A decoder block has the number of the encoder stage whose resolution it returns to; `dec0` returns to the image's.

    Args:
        in_channels: Modalities M; 3 in the public code.
        out_channels: Label channels C.
        width: Channels of the first stage; 64 in the public code.
    """

    divisor = 32
    minimum = 64

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 64) -> None:
        super().__init__()
        w = width
        first = nn.Conv2d(in_channels, w, 7, stride=2, padding=3, bias=False)
        self.input = nn.Sequential(stage(first, None, activation(SLOPE)), bottleneck(w, SLOPE))
        self.enc2 = nn.Sequential(shrink(w, 2 * w, 5), bottleneck(2 * w, SLOPE))
        self.enc3 = nn.Sequential(shrink(2 * w, 4 * w, 5), bottleneck(4 * w, SLOPE))
        self.enc4 = nn.Sequential(shrink(4 * w, 8 * w, 5), bottleneck(8 * w, SLOPE))
        self.enc5 = nn.Sequential(shrink(8 * w, 8 * w, 5), bottleneck(8 * w, SLOPE))
        self.enc6 = nn.Sequential(shrink(8 * w, 16 * w, 4), pointwise(16 * w, SLOPE))
        self.enc7 = shrink(16 * w, 32 * w, 3)
        self.enc8 = normalised(nn.Conv2d(32 * w, 8 * w, 1, bias=False), 8 * w, SLOPE)
        self.dec7 = normalised(nn.ConvTranspose2d(8 * w, 32 * w, 1, bias=False), 32 * w, 0.0)
        self.dec6 = nn.Sequential(widen(64 * w, 16 * w), pointwise(16 * w, 0.0))
        self.dec5 = nn.Sequential(widen(32 * w, 8 * w), bottleneck(8 * w, 0.0))
        self.dec4 = nn.Sequential(widen(16 * w, 8 * w, 7), bottleneck(8 * w, 0.0))
        self.dec3 = nn.Sequential(widen(16 * w, 4 * w, 7), bottleneck(4 * w, 0.0))
        self.dec2 = nn.Sequential(widen(8 * w, 2 * w, 9), bottleneck(2 * w, 0.0))
        self.dec1 = nn.Sequential(widen(4 * w, w, 9), bottleneck(w, 0.0))
        self.dec0 = nn.Sequential(widen(2 * w, w, 11), bottleneck(w, 0.0))
        self.output = nn.Conv2d(w, out_channels, 5, padding=2, bias=False)
        initialise(self, norm_std=0.02)  # the public code

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, H, W) to logits (B, C, H, W).

        Raises:
            ValueError: H or W is not divisible by 32 or below 64; or, from batch norm, a training batch of one whose
                coarsest feature map is a single voxel (sides of 64 to 160).
        """
        require_divisible(image, self.divisor, "segan_isic.Segmentor", minimum=self.minimum, axes=2)
        features = [image]
        for encoder in (self.input, self.enc2, self.enc3, self.enc4, self.enc5, self.enc6, self.enc7):
            features.append(encoder(features[-1]))
        x = self.dec7(self.enc8(features[-1]))  # (B, 32 width, 1, 1) for sides of 64 to 160
        for decoder in (self.dec6, self.dec5, self.dec4, self.dec3, self.dec2, self.dec1, self.dec0):
            x = torch.cat([features.pop(), x], 1)
            x = decoder(interpolate(x, size=features[-1].shape[2:], mode="bilinear", align_corners=False))
        logits: Tensor = self.output(x)
        return logits


class Critic(nn.Module):
    """Six strided blocks (SegAN code, NetC as executed: its global convolutions are built but never called).

    9,396,224 parameters for 4 input channels at width 64. The public code weights the seven layers of its feature
    vector 1, 1, 2, 2, 2, 2, 4: give these to the loss as `layer_weights`.

    Args:
        in_channels: What the objective shows the critic: its `channels`.
        width: Channels of the first block; 64 in the public code.
    """

    divisor = 32

    def __init__(self, in_channels: int, *, width: int = 64) -> None:
        super().__init__()
        first = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.input = stage(first, None, activation(SLOPE))
        self.enc2 = shrink(width, 2 * width, 5)
        self.enc3 = shrink(2 * width, 4 * width, 4)
        self.enc4 = shrink(4 * width, 8 * width, 4)
        self.enc5 = shrink(8 * width, 8 * width, 4)
        self.enc6 = shrink(8 * width, 8 * width, 3)
        initialise(self, norm_std=0.02)  # the public code

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) to its pyramid of seven: x itself, then strides 2, 4, 8, 16, 32, 64 (rounded up).

        Raises:
            ValueError: H or W is not divisible by 32.
        """
        require_divisible(x, self.divisor, "segan_isic.Critic", axes=2)
        features = [x]
        for encoder in (self.input, self.enc2, self.enc3, self.enc4, self.enc5, self.enc6):
            features.append(encoder(features[-1]))
        return features
