"""UCL-TIG's cascade of anisotropic networks (Wang et al. 2017, arXiv 1709.00382): whole, core, enhancing tumour."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from torch import Tensor, nn
from torch.nn import functional

from segan_pl.nets.blocks import require_divisible, require_widths

CERTAIN = 27.6
"""A logit's size where nothing can be: the logarithm of 1e-12."""


class Anisotropic(nn.Module):
    """One network of the cascade: 1x3x3 kernels in residual units, few 3x1x1 kernels between slices (WNet, TNet, ENet).

    Ten residual units at three stages, with dilations 1, 2, 3 and 3, 2, 1 in the last two; predictions of three depths
    are enlarged, joined, and read by one more layer. Depth is padded with zeros and kept; the authors' code cuts a
    slice off at each layer between slices. Units are MONAI's, activated after each convolution; theirs before it.

    Args:
        in_channels: Modalities M.
        width: Channels; 32 in the authors' code.
        halvings: Of the plane's sides; 2 of WNet and TNet, 1 of ENet.
    """

    def __init__(self, in_channels: int, *, width: int, halvings: int) -> None:
        super().__init__()
        self.first = nn.Sequential(unit(in_channels, width), unit(width, width), between(width))
        self.to_half = in_plane(width, 2) if halvings == 2 else nn.Identity()
        self.second = nn.Sequential(unit(width, width), unit(width, width), between(width))
        self.to_quarter = in_plane(width, 2)
        self.third = nn.Sequential(*(unit(width, width, rate) for rate in (1, 2, 3)), between(width))
        self.fourth = nn.Sequential(*(unit(width, width, rate) for rate in (3, 2, 1)), between(width))
        self.of_second = enlarged(width, 2, halvings - 1)
        self.of_third = enlarged(width, 4, halvings)
        self.of_fourth = enlarged(width, 8, halvings)
        self.output = nn.Conv3d(14, 1, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, D, H, W) to logits (B, 1, D, H, W)."""
        second = self.second(self.to_half(self.first(image)))
        third = self.third(self.to_quarter(second))
        found = [self.of_second(second), self.of_third(third), self.of_fourth(self.fourth(third))]
        logits: Tensor = self.output(torch.cat(found, 1))
        return logits


class Cascade(nn.Module):
    """Three networks, each inside the box of what the one before it found (Wang et al. 2017, section 2).

    In training all three see the whole patch, so that one run trains them (ours; the authors train each alone, the
    later two on boxes around the true labels). In evaluation the core is looked for in the whole tumour's box with a
    margin, the enhancing tumour in the core's, and beyond a box there is certainly none.

    Args:
        in_channels: Modalities M.
        out_channels: 3: whole tumour, core, enhancing tumour.
        width: Channels of each network; 32 in the authors' code.
        margin: Voxels around a box; 5 in the authors' code.

    Raises:
        ValueError: Another number of channels, or a value out of range.
    """

    divisor = 4
    depth_divisor = 1

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 32, margin: int = 5) -> None:
        super().__init__()
        require_widths(width=width)
        if out_channels != 3:
            raise ValueError(
                f"the cascade has 3 regions inside one another, not {out_channels} channels; give --data.labels regions"
            )
        if margin < 0:
            raise ValueError(f"margin is {margin}, expected 0 or more voxels")
        self.margin = margin
        self.whole = Anisotropic(in_channels, width=width, halvings=2)
        self.core = Anisotropic(in_channels, width=width, halvings=2)
        self.enhancing = Anisotropic(in_channels, width=width, halvings=1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, D, H, W) to logits (B, 3, D, H, W).

        Raises:
            ValueError: H or W is not divisible by 4, or the image has other axes.
        """
        volume = image.ndim == 5  # whose depth may be any
        plane = image[:, :, 0] if volume else image
        require_divisible(plane, self.divisor, "anisotropic.Cascade", axes=2 if volume else 3)
        found = [self.whole(image)]
        for network in (self.core, self.enhancing):
            if self.training:
                found.append(network(image))
                continue
            box = box_of(found[-1] > 0, self.margin)
            # intensities beyond a box are the background of z-scores, 0
            found.append(torch.where(box, network(image * box), -CERTAIN))
        return torch.cat(found, 1)


def box_of(mask: Tensor, margin: int) -> Tensor:
    """The smallest box of each sample around what is true, with a margin; nothing where nothing is.

    Args:
        mask: (B, 1, D, H, W) bool.
        margin: Voxels.

    Returns:
        The same shape, bool.
    """
    box = torch.ones_like(mask)
    for axis in (2, 3, 4):
        line = mask.float().amax([other for other in (2, 3, 4) if other != axis], keepdim=True)
        along = [margin if axis == other else 0 for other in (2, 3, 4)]
        # in three dimensions, since torch.export takes the length of max_pool1d's input for a constant
        line = functional.max_pool3d(line, [2 * size + 1 for size in along], 1, along)
        # from the first to the last that is true
        box = box & (line.cumsum(axis) > 0) & (line.flip(axis).cumsum(axis).flip(axis) > 0)
    return box


def unit(in_channels: int, width: int, dilation: int = 1) -> nn.Module:
    """Two 1x3x3 convolutions in the plane with batch norm and PReLU, and a residual connection."""
    made: nn.Module = ResidualUnit(
        3, in_channels, width, kernel_size=(1, 3, 3), dilation=(1, dilation, dilation), adn_ordering="NA", norm="BATCH"
    )
    return made


def between(width: int) -> nn.Module:
    """A 3x1x1 convolution, through which neighbouring slices meet."""
    return block(width, width, kernel_size=(3, 1, 1))


def in_plane(width: int, stride: int) -> nn.Module:
    """A 1x3x3 convolution that divides the sides of the plane."""
    return block(width, width, kernel_size=(1, 3, 3), strides=(1, stride, stride))


def enlarged(width: int, channels: int, doublings: int) -> nn.Module:
    """A prediction of few channels at the image's own size."""
    if doublings == 0:
        return nn.Conv3d(width, channels, (1, 3, 3), padding=(0, 1, 1))
    layers = [
        nn.Sequential(
            nn.ConvTranspose3d(width if number == 0 else channels, channels, (1, 2, 2), (1, 2, 2)),
            nn.BatchNorm3d(channels),
            nn.PReLU(),
        )
        for number in range(doublings)
    ]
    return nn.Sequential(*layers)


def block(in_channels: int, out_channels: int, **options: Any) -> nn.Module:
    """MONAI's convolution with batch norm and PReLU."""
    made: nn.Module = Convolution(3, in_channels, out_channels, adn_ordering="NA", norm="BATCH", **options)
    return made
