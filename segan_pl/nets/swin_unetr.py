"""Swin UNETR (Hatamizadeh et al. 2022), whose encoder is attention in shifted windows, as MONAI has it; 2-D and 3-D."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from segan_pl.nets.blocks import require_divisible, require_widths


class SwinUNETRSegmentor(nn.Module):
    """MONAI's SwinUNETR, built for M modalities and C label channels: windows of 7, two blocks a level.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels C.
        spatial_dims: 2 for slices, 3 for volumes.
        width: Features of the first level, which double at each, a multiple of 12, as MONAI
            asks for; 48 in the paper.
        residual: A residual convolution before each level's attention: SwinUNETR-V2 (He et al. 2023).
        checkpointing: Compute the encoder's features again in the backward pass in place of keeping them: less
            memory, more time, the same result.

    Attributes:
        definition: MONAI's class and arguments of the network.

    Raises:
        ValueError: An argument is out of range.
    """

    divisor, longest = 32, 64

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        spatial_dims: Literal[2, 3] = 3,
        width: int = 48,
        residual: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        require_widths(width=width)
        if spatial_dims not in (2, 3) or width % 12:
            raise ValueError(f"spatial_dims {spatial_dims}, width {width}: expected 2 or 3, and a multiple of 12")
        from monai.networks.nets.swin_unetr import SwinUNETR  # MONAI takes long to import

        self.axes = spatial_dims
        arguments: dict[str, Any] = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "feature_size": width,
            "spatial_dims": spatial_dims,
            "use_v2": residual,
        }
        self.definition = {"_target_": "SwinUNETR", **arguments}
        self.network = SwinUNETR(**arguments, use_checkpoint=checkpointing)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, *spatial) to logits (B, C, *spatial).

        Raises:
            ValueError: A side is not divisible by 32, the image has other axes, or no side has 64: instance norm has no
                deviation over the one voxel that is left on the lowest level.
        """
        require_divisible(image, self.divisor, "SwinUNETR", axes=self.axes)
        if max(image.shape[2:]) < self.longest:
            raise ValueError(
                f"SwinUNETR: the image is {tuple(image.shape[2:])} voxels, at least one side must have {self.longest}; "
                f"pad it, or give a larger --data.patch"
            )
        logits: Tensor = self.network(image)
        return logits
