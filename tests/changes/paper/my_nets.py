"""The two networks of my paper: a small U-Net, and a critic that judges patches (Isola et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def block(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, leaky ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1), nn.BatchNorm2d(out), nn.LeakyReLU(0.2))


class Segmentor(nn.Module):
    """Two levels down and up again, with a skip connection.

    Args:
        in_channels: Modalities M; the package fills it in from the data, and the next one too.
        out_channels: Label channels C.
        width: Channels of the first level.
    """

    divisor = 2  # of an image's sides; predict pads by it

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 16) -> None:
        super().__init__()
        self.fine = block(in_channels, width)
        self.coarse = nn.Sequential(block(width, 2 * width, 2), nn.Upsample(scale_factor=2, mode="bilinear"))
        self.output = nn.Conv2d(3 * width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, H, W) to logits (B, C, H, W)."""
        fine = self.fine(image)
        return self.output(torch.cat([fine, self.coarse(fine)], 1))


class Critic(nn.Module):
    """One verdict for each patch of the image: about 1 for a reference, about 0 for a prediction.

    Args:
        in_channels: What my objective shows it, by its `channels`.
        width: Channels of the first layer.
    """

    def __init__(self, in_channels: int, *, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2), block(width, 2 * width, 2)
        )
        self.output = nn.Conv2d(2 * width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to verdicts (B, 1, H / 4, W / 4)."""
        return self.output(self.layers(x))
