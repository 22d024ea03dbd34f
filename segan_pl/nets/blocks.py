"""What networks share: initialisation, memory format, size check, and the strided and the upsampling block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod, sqrt

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Every layer with a convolution kernel."""
LEAKY_SLOPE = 0.01
"""Of nnU-Net's activation."""
MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""That with the channels last, by a tensor's number of axes."""


def initialise(network: nn.Module, *, norm_std: float = 0.0) -> None:
    """He initialisation by fan-out, in place: kernels from N(0, sqrt(2 / (k * k * out_channels))), biases 0.

    The SegAN code and the SegAN-CAT code agree on it. Batch norm keeps PyTorch's weight 1 and bias 0, unless its
    weights are drawn from N(1, norm_std), after all kernels.
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            nn.init.normal_(module.weight, 0.0, sqrt(2.0 / (prod(module.kernel_size) * module.out_channels)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # A loop of its own: another order of the draws would be another network for the same seed.
    for module in network.modules():
        if norm_std and isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, norm_std)


def to_channels_last(network: nn.Module) -> None:
    """Weights of 2-D and 3-D convolutions in the memory format whose channels come last, in place."""
    for parameter in network.parameters():
        if parameter.ndim in MEMORY_FORMATS:
            parameter.data = parameter.data.to(memory_format=MEMORY_FORMATS[parameter.ndim])


def require_widths(**widths: int) -> None:
    """Raise ValueError unless each number of channels, by its argument's name, is at least 1."""
    for name, width in widths.items():
        if width < 1:
            raise ValueError(f"{name} is {width}, expected at least 1 channel")


def require_divisible(image: Tensor, divisor: int, owner: str, *, minimum: int = 1, axes: int | None = None) -> None:
    """Check the spatial size of (B, C, *spatial).

    Raises:
        ValueError: A side is not divisible by `divisor` or smaller than `minimum`, in voxels; or there are not as many
            as `axes`.
    """
    size = tuple(image.shape[2:])
    if axes is not None and len(size) != axes:
        raise ValueError(
            f"{owner}: the image has {len(size)} axes, expected {axes}; give a --data.patch of {axes} numbers"
        )
    if any(side % divisor or side < minimum for side in size):
        least = f" and at least {minimum}" if minimum > divisor else ""
        raise ValueError(
            f"{owner}: the image is {size} voxels, each side must be divisible by {divisor}{least}; crop or pad it"
        )


def supervision_heads(channels: Sequence[int], out_channels: int, spatial_dims: int) -> nn.ModuleList:
    """1x1 convolutions from feature maps to logits, He-initialised as nnU-Net's: the heads of deep supervision.

    Args:
        channels: Of each feature map, the highest resolution first.
        out_channels: Label channels C.
        spatial_dims: 2 or 3.
    """
    convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    heads = nn.ModuleList(convolution(width, out_channels, 1) for width in channels)
    for head in heads:
        nn.init.kaiming_normal_(head.weight, a=LEAKY_SLOPE)  # type: ignore[arg-type]
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return heads


def require_deep_supervision(lower: int, levels: int, owner: str) -> None:
    """Raise ValueError unless so many lower resolutions of a decoder of these levels can have a head.

    The decoder ends above the lowest level of the encoder, so it has levels - 2 resolutions below the image's own.
    """
    if not 0 <= lower <= levels - 2:
        raise ValueError(
            f"deep_supervision is {lower}, expected 0 (none) to {levels - 2} lower resolutions for {owner} of {levels} "
            f"levels; nnU-Net has levels - 3"
        )


def stage(conv: nn.Module, norm: nn.Module | None, activation: nn.Module) -> nn.Sequential:
    """Convolution, normalisation (None for without) and activation, under these names."""
    layers = OrderedDict(conv=conv, norm=norm, activation=activation)
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


def halve(
    in_channels: int, out_channels: int, *, normalise: bool, leaky_slope: float, bn_momentum: float, bn_eps: float
) -> nn.Sequential:
    """SegAN-CAT's encoder block, (B, in, H, W) to (B, out, H / 2, W / 2): strided 4x4 convolution and LeakyReLU.

    With batch norm there is no bias, without (first layer) there is one.
    """
    return stage(
        nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=not normalise),
        nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum) if normalise else None,
        nn.LeakyReLU(leaky_slope, inplace=True),
    )


def double(in_channels: int, out_channels: int, *, bn_momentum: float, bn_eps: float) -> nn.Sequential:
    """SegAN-CAT's decoder block, (B, in, H, W) to (B, out, 2H, 2W): bilinear, 3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        OrderedDict(
            upsample=nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv=nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum),
            activation=nn.ReLU(inplace=True),
        )
    )
