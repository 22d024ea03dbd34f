"""MONAI's U-Net, SegResNet and DynUNet as segmentors: plain baselines for every game, in 2-D, 2.5-D and 3-D."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from segan_pl.errors import require_choice
from segan_pl.nets.blocks import require_divisible, require_widths
from segan_pl.nets.neighbours import NeighbouringSlices

Kind = Literal["UNet", "SegResNet", "DynUNet"]


class MonaiSegmentor(nn.Module):
    """One of MONAI's networks, built for M modalities and C label channels.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels C.
        kind: "UNet" (residual units on request), "SegResNet" (Myronenko 2018, without the variational branch) or
            "DynUNet" (nnU-Net's network, without deep supervision).
        spatial_dims: 2 for slices, 3 for volumes.
        neighbours: Of a 2-D network on 3-D patches of any depth above twice this number (2.5-D): each slice is
            segmented with as many slices on either side as further channels. None for slices or volumes as they are.
        width: Channels of the first level; they double at each level, up to `most`.
        levels: Resolutions, the first included; each halves every side, in 2.5-D those of the plane.
        most: Most channels a level; SegResNet always doubles, so that it must stay below.
        residual_units: Of each level of the U-Net; for the others ignored by MONAI and refused here unless 0.
        norm: MONAI's name, e.g. "batch", "instance"; for SegResNet "group" of 8 is MONAI's own and the only one.
            Instance norm has a weight and a bias a channel in DynUNet, none in UNet: MONAI's defaults (and nnU-Net's).

    Raises:
        ValueError: An argument is out of range or does nothing for this kind.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kind: Kind = "UNet",
        spatial_dims: Literal[2, 3] = 3,
        neighbours: int | None = None,
        width: int = 32,
        levels: int = 5,
        most: int = 320,
        residual_units: int = 0,
        norm: Literal["batch", "instance", "group"] = "instance",
    ) -> None:
        super().__init__()
        require_widths(width=width, most=most)
        _require(kind, spatial_dims, levels, residual_units, norm, neighbours)
        if kind == "SegResNet" and width * 2 ** (levels - 1) > most:
            raise ValueError(f"SegResNet of width {width} has {width * 2 ** (levels - 1)} channels, most is {most}")
        if kind == "SegResNet" and width % 8:
            raise ValueError(f"SegResNet of width {width}: expected a multiple of 8, its groups")
        self.divisor = 2 ** (levels - 1)
        self.depth_divisor = self.divisor if neighbours is None else 1
        self.kind, self.axes = kind, spatial_dims if neighbours is None else 3
        channels = [min(width * 2**level, most) for level in range(levels)]
        common: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels * (1 + 2 * (neighbours or 0)),
            "out_channels": out_channels,
        }
        network = _network(kind, common, channels, residual_units, norm)
        self.network = network if neighbours is None else NeighbouringSlices(network, neighbours)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, *spatial) to logits (B, C, *spatial).

        Raises:
            ValueError: A side is not divisible by 2 ** (levels - 1) or too small, or the image has other axes; in 2.5-D
                the depth may be any number above twice the neighbours.
        """
        if image.ndim != self.axes + 2:
            raise ValueError(f"{self.kind}: image of {image.ndim - 2} axes, expected {self.axes}")
        halved = image[:, :, 0] if isinstance(self.network, NeighbouringSlices) else image
        require_divisible(halved, self.divisor, self.kind)
        logits: Tensor = self.network(image)
        return logits

    def bottleneck(self, image: Tensor) -> Tensor:
        """(B, C, *spatial / divisor): what the lowest level gives; what lies behind it does not run.

        With `features` it is what a GAN whose discriminator is the segmentor asks of a segmentor (`objectives.gan`).

        Raises:
            ValueError: As `features`.
        """
        *before, last = self._levels()
        for block in before:
            image = block(image)
        found: Tensor = last(image)
        return found

    def features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and what each level gives on the way down and up, input first: (B, C, *spatial / s) each.

        Raises:
            ValueError: As `forward`; or 2.5-D, whose slices are samples of their own.
        """
        found: list[Tensor] = []

        def keep(_: nn.Module, __: object, result: Tensor) -> None:
            found.append(result)

        hooks = [block.register_forward_hook(keep) for block in (*self._levels(), *self._upward())]
        try:
            logits = self(image)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, found

    def _levels(self) -> list[nn.Module]:
        """The blocks on the way down, the lowest last."""
        network: Any = self.network
        if isinstance(network, NeighbouringSlices):
            raise ValueError("neighbours: 2.5-D shows no features, since its slices are samples of their own")
        if self.kind == "DynUNet":
            return [network.input_block, *network.downsamples, network.bottleneck]
        if self.kind == "SegResNet":
            return [network.convInit, *network.down_layers]
        levels, level = [], network.model
        while isinstance(level, nn.Sequential) and len(level) == 3:
            levels.append(level[0])
            level = level[1].submodule
        return [*levels, level]

    def _upward(self) -> list[nn.Module]:
        """The blocks on the way up, those before the logits."""
        network: Any = self.network
        if self.kind == "DynUNet":
            return list(network.upsamples)
        if self.kind == "SegResNet":
            return list(network.up_layers)
        found, level = [], network.model[1].submodule
        while isinstance(level, nn.Sequential) and len(level) == 3:
            found.append(level[2])
            level = level[1].submodule
        return found[::-1]


def _network(kind: Kind, common: dict[str, Any], channels: list[int], residual_units: int, norm: str) -> nn.Module:
    """Build it; MONAI is imported here, as it takes long."""
    from monai.networks import nets

    halvings = [2] * (len(channels) - 1)
    if kind == "UNet":
        return nets.UNet(**common, channels=channels, strides=halvings, num_res_units=residual_units, norm=norm)
    if kind == "SegResNet":
        blocks = (1, 2, 2, 4, 4, 4, 4, 4)[: len(channels)]
        return nets.SegResNet(**common, init_filters=channels[0], blocks_down=blocks, blocks_up=(1,) * len(halvings))
    return nets.DynUNet(
        **common,
        kernel_size=[3] * len(channels),
        strides=[1, *halvings],
        upsample_kernel_size=halvings,
        filters=channels,
        norm_name=("instance", {"affine": True}) if norm == "instance" else norm,  # nnU-Net's and MONAI's default
    )


def _require(kind: str, spatial_dims: int, levels: int, residual_units: int, norm: str, neighbours: int | None) -> None:
    require_choice("kind", kind, Kind)
    if spatial_dims not in (2, 3) or not 2 <= levels <= 8:
        raise ValueError(f"spatial_dims {spatial_dims}, levels {levels}: expected 2 or 3, and 2 to 8 levels")
    if kind == "DynUNet" and levels < 3:
        raise ValueError(f"levels is {levels}, DynUNet has at least 3")
    if residual_units and kind != "UNet":
        raise ValueError(f"residual_units {residual_units} does nothing in {kind}; leave it out")
    if (kind == "SegResNet") != (norm == "group"):
        allowed = "group" if kind == "SegResNet" else "batch or instance"
        raise ValueError(f"norm is {norm!r}, expected {allowed} for {kind}")
    if neighbours is None:
        return
    if spatial_dims != 2:
        raise ValueError(f"neighbours {neighbours} does nothing in 3 dimensions; leave it out or give spatial_dims 2")
    if neighbours < 0:
        raise ValueError(f"neighbours is {neighbours}, expected 0 or more slices on either side")
