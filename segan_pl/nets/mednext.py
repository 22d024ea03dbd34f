"""MedNeXt (Roy et al. 2023), a U-Net of ConvNeXt blocks, as MONAI has it; in 2-D and 3-D."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from segan_pl.errors import require_choice
from segan_pl.nets.blocks import require_deep_supervision, require_divisible, require_widths, supervision_heads

Variant = Literal["S", "B", "M", "L"]
# Of the four levels of the encoder; the bottleneck is as the last one, and the decoder mirrors them (paper, table 1).
EXPANSION = {"S": (2, 2, 2, 2), "B": (2, 3, 4, 4), "M": (2, 3, 4, 4), "L": (3, 4, 8, 8)}
BLOCKS = {"S": (2, 2, 2, 2), "B": (2, 2, 2, 2), "M": (3, 4, 4, 4), "L": (3, 4, 8, 8)}
LEVELS = 5


class MedNeXtSegmentor(nn.Module):
    """MONAI's MedNeXt, built for M modalities and C label channels; five levels.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels C.
        spatial_dims: 2 for slices, 3 for volumes.
        variant: The paper's size.
        kernel_size: Of the depthwise convolutions; 3 or 5 in the paper.
        width: Channels of the first level, which double at each; 32 in the paper.
        deep_supervision: Lower resolutions at which it gives logits, too, while it trains, at most 3
            (`objectives.base.over_resolutions`); the paper also supervises the bottleneck. Prediction runs none of
            these heads.

    Attributes:
        resolutions: At which there are logits, the image's own included.

    Raises:
        ValueError: An argument is out of range.
    """

    divisor = 2 ** (LEVELS - 1)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        spatial_dims: Literal[2, 3] = 3,
        variant: Variant = "B",
        kernel_size: int = 3,
        width: int = 32,
        deep_supervision: int = 0,
    ) -> None:
        super().__init__()
        require_choice("variant", variant, Variant)
        require_widths(width=width)
        if spatial_dims not in (2, 3) or kernel_size < 3 or not kernel_size % 2:
            raise ValueError(
                f"spatial_dims {spatial_dims}, kernel_size {kernel_size}: expected 2 or 3, and an odd number from 3 on"
            )
        require_deep_supervision(deep_supervision, LEVELS, "MedNeXt")
        from monai.networks.nets.mednext import MedNeXt  # MONAI takes long to import

        expansion, blocks = EXPANSION[variant], BLOCKS[variant]
        self.network = MedNeXt(
            spatial_dims=spatial_dims,
            init_filters=width,
            in_channels=in_channels,
            out_channels=out_channels,
            encoder_expansion_ratio=expansion,
            bottleneck_expansion_ratio=expansion[-1],
            decoder_expansion_ratio=expansion[::-1],
            kernel_size=kernel_size,
            use_residual_connection=True,
            blocks_down=blocks,
            blocks_bottleneck=blocks[-1],
            blocks_up=blocks[::-1],
        )
        self.axes, self.resolutions = spatial_dims, 1 + deep_supervision
        lower = [width * 2**level for level in range(1, self.resolutions)]
        self.heads = supervision_heads(lower, out_channels, spatial_dims)

    def forward(self, image: Tensor, *, deep: bool = False) -> Tensor | list[Tensor]:
        """Image (B, M, *spatial) to logits (B, C, *spatial); deep, also those of lower resolutions, highest first.

        Raises:
            ValueError: A side is not divisible by 16, or the image has other axes.
        """
        require_divisible(image, self.divisor, "MedNeXt", axes=self.axes)
        if not deep:
            logits: Tensor = self.network(image)
            return logits
        # MONAI's forward pass with our heads: its own change with the training mode and reach down to the bottleneck.
        network: Any = self.network
        value, skips, maps = network.stem(image), [], []
        for stage, down in zip(network.enc_stages, network.down_blocks, strict=True):
            skips.append(stage(value))
            value = down(skips[-1])
        value = network.bottleneck(value)
        for up, stage in zip(network.up_blocks, network.dec_stages, strict=True):
            value = stage(up(value) + skips.pop())
            maps.append(value)
        return [network.out_0(maps.pop()), *(head(maps.pop()) for head in self.heads)]
