"""Networks of few-shot segmentation by a GAN (Mondal, Dolz, Desrosiers 2018, arXiv 1810.12241), in 2-D and 3-D.

The segmentor is the discriminator, too: an image is real where its logits are large (losses/gan.py). Layers and first
values are those of the authors' TensorFlow code, whose weight norm has a trainable scale; their PyTorch code keeps it
at 1, and its transposed convolutions normalise along a wrong axis.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm

from segan_pl.nets.blocks import require_divisible, require_widths

CONVOLUTION: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLING: dict[int, Any] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
# The authors' code: standard deviation of all first weights.
SPREAD = 0.05


class Segmentor(nn.Module):
    """A U-Net with weight norm and average pooling that is the discriminator, too (the authors' `discriminator`).

    Two convolutions at each of four levels, of `width` to 8 `width` channels; transposed convolutions keep the number
    of channels. 6,530,760 parameters in 3-D with 2 modalities, 4 labels and width 32. No layer keeps batch statistics,
    so that images may pass it together or apart.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels K, of labels that exclude each other.
        width: Channels of the first level; 32 in the code.
        leaky_slope: 0.2 in the code.
        spatial_dims: 3 in the paper; 2 for slices (ours).

    Raises:
        ValueError: An argument is out of range.
    """

    divisor = 8

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        leaky_slope: float = 0.2,
        spatial_dims: Literal[2, 3] = 3,
    ) -> None:
        super().__init__()
        require_widths(width=width)
        if spatial_dims not in CONVOLUTION:
            raise ValueError(f"spatial_dims is {spatial_dims}, expected 2 or 3")
        self.axes = spatial_dims
        w = [width, 2 * width, 4 * width, 8 * width]

        def block(channels: int, out: int) -> nn.Sequential:
            layers = {"conv": convolution(channels, out, spatial_dims), "activation": nn.LeakyReLU(leaky_slope, True)}
            return nn.Sequential(OrderedDict(layers))

        down = zip([in_channels, *w], w, strict=False)
        self.encoder = nn.ModuleList(part for before, now in down for part in (block(before, now), block(now, now)))
        self.pool = POOLING[spatial_dims](2)
        self.up = nn.ModuleList(enlarging(now, now, spatial_dims) for now in w[:0:-1])
        up = zip(w[:0:-1], w[2::-1], strict=True)
        self.decoder = nn.ModuleList(part for below, now in up for part in (block(now + below, now), block(now, now)))
        self.output = convolution(width, out_channels, spatial_dims)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, *spatial) to logits (B, K, *spatial).

        Raises:
            ValueError: The image has other axes, or a side is not divisible by 8.
        """
        logits = image
        for layer in self._layers(image):
            logits = layer
        return logits

    def features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and what the 14 convolutions before them give, activated, input first: (B, C, *spatial / s) each."""
        *layers, logits = self._layers(image)
        return logits, layers

    def bottleneck(self, image: Tensor) -> Tensor:
        """(B, 8 width, *spatial / 8), the seventh of `features`: the first at the lowest level.

        It is what the authors match; what lies behind it does not run.
        """
        return next(islice(self._layers(image), 6, None))

    def _layers(self, image: Tensor) -> Iterator[Tensor]:
        """One after the other; only those that a skip needs later are held."""
        require_divisible(image, self.divisor, "few_shot.Segmentor", axes=self.axes)
        x, skips = image, []
        for number, block in enumerate(self.encoder):
            x = block(x)
            yield x
            if number in (1, 3, 5):
                skips.append(x)
                x = self.pool(x)
        for number, block in enumerate(self.decoder):
            if number % 2 == 0:
                x = torch.cat([skips.pop(), self.up[number // 2](x)], 1)
            x = block(x)
            yield x
        yield self.output(x)


class Generator(nn.Module):
    """Noise to an image: a linear layer and four transposed convolutions (the authors' `generator`, a DCGAN in 3-D).

    2,202,948 parameters for 2 modalities and patches of 32^3.

    Args:
        out_channels: Modalities M.
        patch: (H, W) or (D, H, W) of the images that it makes, each divisible by 16; those of training.
        width: Channels before the last layer; 64 in the code.
        noise: Numbers that an image is made of; 200 in the code.
        bounded: End in tanh, for images prepared to [-1, 1] (the code); without, for any other (ours).

    Raises:
        ValueError: An argument is out of range.
    """

    divisor = 16

    def __init__(
        self,
        out_channels: int,
        *,
        patch: Sequence[int] = (32, 32, 32),
        width: int = 64,
        noise: int = 200,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        require_widths(width=width, noise=noise)
        self.patch = require_patch(patch, self.divisor)
        self.noise = noise
        axes = len(self.patch)
        channels = [8 * width, 4 * width, 2 * width, width]
        self.size = (channels[0], *(side // self.divisor for side in self.patch))
        self.first = nn.Linear(noise, prod(self.size))
        layers: dict[str, nn.Module] = {"norm1": BATCH_NORM[axes](channels[0]), "activation1": nn.ReLU(True)}
        for number, (before, now) in enumerate(pairwise(channels), start=2):
            layers[f"conv{number}"] = TRANSPOSED[axes](before, now, 2, stride=2)
            layers[f"norm{number}"], layers[f"activation{number}"] = BATCH_NORM[axes](now), nn.ReLU(True)
        layers["output"] = enlarging(width, out_channels, axes)
        self.layers = nn.Sequential(OrderedDict(layers))
        self.bound: nn.Module = nn.Tanh() if bounded else nn.Identity()
        for module in [self.first, *self.layers]:
            if isinstance(module, nn.Linear | TRANSPOSED[axes]) and module is not self.layers.output:
                nn.init.normal_(module.weight, std=SPREAD)
                nn.init.zeros_(module.bias)

    def forward(self, noise: Tensor) -> Tensor:
        """Noise (B, `noise`) to images (B, M, *patch)."""
        image: Tensor = self.bound(self.layers(self.first(noise).unflatten(1, self.size)))
        return image


class Encoder(nn.Module):
    """A generated image back to its noise, as a normal distribution (bad-GAN's `encoder`, Dai et al. 2017).

    Padded like TensorFlow's SAME, one voxel before and two behind; the authors' PyTorch code does not pad, which leaves
    one voxel of 32, and reads 2 modalities only. 33,622,688 parameters for 2 modalities and patches of 32^3.

    Args:
        in_channels: Modalities M.
        patch: (H, W) or (D, H, W) of training, each divisible by 8.
        width: Channels of the first layer; 128 in the code.
        noise: The generator's; 200 in the code.

    Raises:
        ValueError: An argument is out of range.
    """

    divisor = 8

    def __init__(
        self, in_channels: int, *, patch: Sequence[int] = (32, 32, 32), width: int = 128, noise: int = 200
    ) -> None:
        super().__init__()
        require_widths(width=width, noise=noise)
        self.patch = require_patch(patch, self.divisor)
        axes = len(self.patch)
        channels = [in_channels, width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            CONVOLUTION[axes](before, now, 5, stride=2) for before, now in pairwise(channels)
        )
        self.norms = nn.ModuleList(BATCH_NORM[axes](now) for now in channels[1:])
        self.output = normalised(nn.Linear(channels[-1] * prod(side // self.divisor for side in self.patch), 2 * noise))
        for convolve in self.convolutions:
            nn.init.trunc_normal_(convolve.get_parameter("weight"), std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
            nn.init.zeros_(convolve.get_parameter("bias"))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, M, *patch) to the mean and the logarithm of the standard deviation of its noise, (B, `noise`) each.

        Raises:
            ValueError: The image is not of the patch's size.
        """
        require_size(image, self.patch, "few_shot.Encoder")
        x = image
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(convolve(pad(x, (1, 2) * len(self.patch)))).relu_()
        mean, log_sigma = self.output(x.flatten(1)).chunk(2, 1)
        return mean, log_sigma


def convolution(in_channels: int, out_channels: int, axes: int) -> nn.Module:
    """3x3x3 (in 2-D 3x3) with weight norm, that keeps the size."""
    return normalised(CONVOLUTION[axes](in_channels, out_channels, 3, padding=1))


def enlarging(in_channels: int, out_channels: int, axes: int) -> nn.Module:
    """Transposed 2x2x2 (in 2-D 2x2) with weight norm, that doubles every side."""
    # The kernel of a transposed convolution has its output channels second.
    return normalised(TRANSPOSED[axes](in_channels, out_channels, 2, stride=2), dim=1)


def normalised(layer: nn.Module, dim: int = 0) -> nn.Module:
    """Weight norm with the authors' first values: directions of N(0, 0.05), length 1 for each output channel, bias 0.

    Args:
        layer: Linear or a convolution; it is changed in place.
        dim: The kernel's axis of output channels.
    """
    nn.init.normal_(layer.get_parameter("weight"), std=SPREAD)
    nn.init.zeros_(layer.get_parameter("bias"))
    weight_norm(layer, dim=dim)
    nn.init.ones_(layer.get_parameter("parametrizations.weight.original0"))
    return layer


def require_patch(patch: Sequence[int], divisor: int, *, least: int = 1) -> tuple[int, ...]:
    """The patch of a network that makes or reads one size alone.

    Raises:
        ValueError: It has not 2 or 3 sides, or one is not divisible or smaller than `least`, in voxels.
    """
    sides = tuple(int(side) for side in patch)
    if len(sides) not in (2, 3) or any(side < max(divisor, least) or side % divisor for side in sides):
        wanted = f"divisible by {divisor}" + (f" and at least {least}" if least > divisor else "")
        raise ValueError(f"patch is {list(sides)}, expected (H, W) or (D, H, W), each {wanted}")
    return sides


def require_size(image: Tensor, patch: tuple[int, ...], owner: str) -> None:
    """Raise ValueError unless (B, C, *spatial) has the patch's sides."""
    if (size := tuple(image.shape[2:])) != patch:
        raise ValueError(f"{owner}: the image is {size} voxels, its patch {patch}; give the network the data's patch")
