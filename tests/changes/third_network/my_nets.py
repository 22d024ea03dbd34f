"""The two networks that train a segmentor from cases without labels; the segmentor itself is one of the package."""

from __future__ import annotations

from torch import Tensor, nn


class Generator(nn.Module):
    """Paints an image for a mask, the segmentor's inverse.

    Args:
        in_channels: Label channels C.
        out_channels: Modalities M.
        width: Channels of its layers.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)),
            *(nn.ReLU(), nn.Conv2d(width, out_channels, 3, padding=1)),
        )

    def forward(self, mask: Tensor) -> Tensor:
        """Mask (B, C, H, W) to image (B, M, H, W)."""
        return self.layers(mask)


class Critic(nn.Module):
    """One verdict for each patch of an image: about 1 for a real one, about 0 for a painted one.

    Args:
        in_channels: Modalities M.
        width: Channels of the first layer.
    """

    def __init__(self, in_channels: int, *, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 4, 2, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, H, W) to verdicts (B, 1, H / 4, W / 4)."""
        return self.layers(image)
