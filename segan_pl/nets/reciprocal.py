"""Segmentor and critic of reciprocal adversarial learning (Peiris et al. 2022, arXiv 2201.03777), both in 3-D."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool3d

from segan_pl.errors import require_choice
from segan_pl.nets.blocks import require_divisible

Norm = Literal["group", "instance"]
LastLayer = Literal["bare", "activated"]


class Segmentor(nn.Module):
    """Four encoder blocks, a dilated bottom and three decoder blocks (the paper, section 4.1, as its authors coded it).

    Three poolings, since the bottom works at the fourth encoder's resolution; skips are concatenated before what comes
    up, and upsampling is trilinear with aligned corners. 19,167,819 parameters with 4 modalities, 3 channels and width
    48, with either norm; 8,520,755 at width 32. No layer keeps batch statistics, so an extra forward pass (virtual
    adversarial training) changes nothing.

    The norm's kind is part of the parameters' names: weights trained with one do not load into the other, which in the
    authors' code they did, silently.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels C.
        width: Channels of the first block, even; 48 in the paper, 32 by default in the authors' training script.
        norm: "group" in the paper, "instance" (with weight and bias) by default in the authors' training script.

    Raises:
        ValueError: The width or the norm is out of range.
    """

    divisor = 8

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 48, norm: Norm = "group") -> None:
        super().__init__()
        require_choice("norm", norm, Norm)
        if width < 2 or width % 2:
            raise ValueError(f"width is {width}, expected an even number of at least 2: the first convolution has half")
        w = width
        self.encoder1 = double_convolution(in_channels, w // 2, w, norm)
        self.encoder2 = double_convolution(w, w, 2 * w, norm)
        self.encoder3 = double_convolution(2 * w, 2 * w, 4 * w, norm)
        self.encoder4 = double_convolution(4 * w, 4 * w, 8 * w, norm)
        self.bottom = double_convolution(8 * w, 8 * w, 8 * w, norm, dilation=2)
        self.bottom_2 = convolution(16 * w, 4 * w, norm)
        self.decoder3 = double_convolution(8 * w, 4 * w, 2 * w, norm)
        self.decoder2 = double_convolution(4 * w, 2 * w, w, norm)
        self.decoder1 = double_convolution(2 * w, w, w // 2, norm)
        self.output = nn.Conv3d(w // 2, out_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # the authors' code

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, D, H, W) to logits (B, C, D, H, W).

        Raises:
            ValueError: The image is not 3-D, or a side is not divisible by 8.
        """
        require_divisible(image, self.divisor, "reciprocal.Segmentor", axes=3)
        down1 = self.encoder1(image)  # (B, w, D, H, W)
        down2 = self.encoder2(max_pool3d(down1, 2))
        down3 = self.encoder3(max_pool3d(down2, 2))
        down4 = self.encoder4(max_pool3d(down3, 2))  # (B, 8 w, D / 8, H / 8, W / 8)
        x = self.bottom_2(torch.cat([down4, self.bottom(down4)], 1))
        x = self.decoder3(torch.cat([down3, upsample(x)], 1))
        x = self.decoder2(torch.cat([down2, upsample(x)], 1))
        x = self.decoder1(torch.cat([down1, upsample(x)], 1))
        logits: Tensor = self.output(x)
        return logits


class Critic(nn.Module):
    """Four convolutions that end in a map of logits: where the mask looks real.

    The paper's text: kernel 3 and stride 1, a map a voxel (75,827 parameters for 3 channels; 75,830 with the last layer
    of the authors' code). The authors' code: kernel 1 and last "activated" (3,030 parameters): no voxel sees its
    neighbour. Ours: kernel 3 and stride 2, a PatchGAN whose map is 8 times coarser and sees 31 voxels.

    Batch norm in the last layer gives the maps of reference and prediction the same mean, since they pass apart, and
    so takes away what a critic should tell them apart by: "bare" is ours for every critic that is to learn.

    The stride is part of the convolutions' names: with either the kernels have the same shapes, and weights trained
    with one do not load into the other.

    Args:
        in_channels: What the objective shows the critic: its `channels`.
        maps: Of logits; None for as many as the input has channels (the authors' code).
        width: Channels of the first block; 16 in the authors' code, and doubled twice.
        kernel: 3 or 1.
        stride: Of the first three convolutions, 1 or 2.
        last: The last convolution "bare", with a bias; or "activated", with batch norm and LeakyReLU like the others.
        leaky_slope: 0.2 in the authors' code.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        maps: int | None = None,
        width: int = 16,
        kernel: int = 3,
        stride: int = 1,
        last: LastLayer = "bare",
        leaky_slope: float = 0.2,
    ) -> None:
        super().__init__()
        if kernel not in (1, 3) or stride not in (1, 2) or kernel < stride:
            raise ValueError(
                f"kernel {kernel} and stride {stride}: expected kernel 1 or 3, and stride 2 with kernel 3 only"
            )
        require_choice("last", last, LastLayer)

        def layer(channels: int, out: int, step: int = stride) -> nn.Sequential:
            convolve = nn.Conv3d(channels, out, kernel, stride=step, padding=kernel // 2, bias=False)
            after = {"norm": nn.BatchNorm3d(out), "activation": nn.LeakyReLU(leaky_slope, inplace=True)}
            return nn.Sequential(OrderedDict({f"stride{step}_conv": convolve, **after}))

        maps = in_channels if maps is None else maps
        self.divisor = stride**3
        self.layer1 = layer(in_channels, width)
        self.layer2 = layer(width, 2 * width)
        self.layer3 = layer(2 * width, 4 * width)
        bare = nn.Conv3d(4 * width, maps, kernel, padding=kernel // 2)
        self.output: nn.Module = layer(4 * width, maps, 1) if last == "activated" else bare

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, D, H, W) to its pyramid: x itself, three feature maps, and the map of logits last.

        Raises:
            ValueError: x is not 3-D, or with stride 2 a side is not divisible by 8.
        """
        require_divisible(x, self.divisor, "reciprocal.Critic", axes=3)
        first = self.layer1(x)
        second = self.layer2(first)
        third = self.layer3(second)
        return [x, first, second, third, self.output(third)]


def convolution(in_channels: int, out_channels: int, norm: Norm, *, dilation: int = 1) -> nn.Sequential:
    """3x3x3 convolution without bias that keeps the size, norm (under its kind's name) and ReLU.

    Instance norm has a weight and a bias; group norm has the authors' groups.
    """
    instance, group = nn.InstanceNorm3d(out_channels, affine=True), nn.GroupNorm(groups(out_channels), out_channels)
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv3d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
        f"{norm}_norm": instance if norm == "instance" else group,
        "activation": nn.ReLU(inplace=True),
    }
    return nn.Sequential(OrderedDict(layers))


def double_convolution(
    in_channels: int, inner: int, out_channels: int, norm: Norm, *, dilation: int = 1
) -> nn.Sequential:
    """Two of them; (B, in, *spatial) to (B, out, *spatial)."""
    return nn.Sequential(
        OrderedDict(
            first=convolution(in_channels, inner, norm, dilation=dilation),
            second=convolution(inner, out_channels, norm, dilation=dilation),
        )
    )


def groups(channels: int) -> int:
    """The authors' number of groups: at most 16, and for 24 channels 3.

    16 where that divides the channels, and each its own group below 16; otherwise groups of the largest power of two
    that divides the channels.
    """
    if channels <= 16 or channels % 16 == 0:
        return min(channels, 16)
    size = next(power for power in (8, 4, 2, 1) if channels % power == 0)
    return channels // size


def upsample(x: Tensor) -> Tensor:
    """(B, C, D, H, W) to (B, C, 2D, 2H, 2W), trilinear with aligned corners (the authors' code)."""
    return interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
