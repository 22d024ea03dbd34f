"""MONAI's U-Net, SegResNet and DynUNet as segmentors: plain baselines for every game, in 2-D, 2.5-D and 3-D."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from segan_pl.errors import require_choice
from segan_pl.nets.blocks import require_deep_supervision, require_divisible, require_widths, supervision_heads
from segan_pl.nets.parts.neighbours import NeighbouringSlices, of_patches, with_neighbours

Kind = Literal["UNet", "SegResNet", "DynUNet"]


class MonaiSegmentor(nn.Module):
    """One of MONAI's networks, built for M modalities and C label channels.

    Args:
        in_channels: Modalities M.
        out_channels: Label channels C.
        kind: "UNet" (residual units on request), "SegResNet" (Myronenko 2018, without the variational branch) or
            "DynUNet" (nnU-Net's plain network: two convolutions a level, strided ones on the way down and transposed
            ones up, leaky ReLU of slope 0.01, He initialisation. nnU-Net's convolutions have a bias, these have none:
            instance norm takes it away again).
        spatial_dims: 2 for slices, 3 for volumes.
        neighbours: Of a 2-D network on 3-D patches of any depth above twice this number (2.5-D): each slice is
            segmented with as many slices on either side as further channels. None for slices or volumes as they are.
        width: Channels of the first level; they double at each level, up to `most`.
        levels: Resolutions, the first included; each halves every side, in 2.5-D those of the plane.
        most: Most channels a level, 512 of nnU-Net in 2-D and 320 in 3-D; SegResNet always doubles, so that it must
            stay below.
        residual_units: Of each level of the U-Net; for the others ignored by MONAI and refused here unless 0.
        norm: MONAI's name, e.g. "batch", "instance"; for SegResNet "group" of 8 is MONAI's own and the only one.
            Instance norm has a weight and a bias a channel in DynUNet, none in UNet: MONAI's defaults (and nnU-Net's).
        deep_supervision: Lower resolutions at which DynUNet gives logits, too, while it trains, at most levels - 2;
            nnU-Net has levels - 3. A loss of labels is then a mean over resolutions
            (`objectives.base.over_resolutions`). Prediction and validation run none of these heads.

    Attributes:
        definition: MONAI's class and arguments of the network, of 2.5-D of that of its slices.
        resolutions: At which there are logits, the image's own included.

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
        deep_supervision: int = 0,
    ) -> None:
        super().__init__()
        require_widths(width=width, most=most)
        _require(kind, spatial_dims, levels, residual_units, norm, neighbours)
        if kind == "SegResNet" and width * 2 ** (levels - 1) > most:
            raise ValueError(f"SegResNet of width {width} has {width * 2 ** (levels - 1)} channels, most is {most}")
        if kind == "SegResNet" and width % 8:
            raise ValueError(f"SegResNet of width {width}: expected a multiple of 8, its groups")
        if deep_supervision and kind != "DynUNet":
            raise ValueError(f"deep_supervision {deep_supervision}: {kind} has none; leave it out or take DynUNet")
        require_deep_supervision(deep_supervision, levels, kind)
        self.divisor = 2 ** (levels - 1)
        self.depth_divisor = self.divisor if neighbours is None else 1
        self.kind, self.axes = kind, spatial_dims if neighbours is None else 3
        channels = [min(width * 2**level, most) for level in range(levels)]
        common: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels * (1 + 2 * (neighbours or 0)),
            "out_channels": out_channels,
        }
        self.definition = _definition(kind, common, channels, residual_units, norm)
        network = _network(self.definition)
        self.network = network if neighbours is None else NeighbouringSlices(network, neighbours)
        self.resolutions = 1 + deep_supervision
        self.heads = supervision_heads(channels[1 : self.resolutions], out_channels, spatial_dims)

    def forward(self, image: Tensor, *, deep: bool = False) -> Tensor | list[Tensor]:
        """Image (B, M, *spatial) to logits (B, C, *spatial); deep, also those of lower resolutions, highest first.

        Raises:
            ValueError: A side is not divisible by 2 ** (levels - 1) or too small, or the image has other axes; in 2.5-D
                the depth may be any number above twice the neighbours.
        """
        if image.ndim != self.axes + 2:
            raise ValueError(f"{self.kind}: image of {image.ndim - 2} axes, expected {self.axes}")
        halved = image[:, :, 0] if isinstance(self.network, NeighbouringSlices) else image
        require_divisible(halved, self.divisor, self.kind)
        if deep:
            return self._deep_logits(image)
        logits: Tensor = self.network(image)
        return logits

    def _deep_logits(self, image: Tensor) -> list[Tensor]:
        """DynUNet's forward pass with its heads; MONAI's own would enlarge their logits and stack them."""
        network: Any = self.network
        sliced = isinstance(network, NeighbouringSlices)
        value = image
        if sliced:
            value, network = with_neighbours(image, network.context), network.network
        skips, maps = [], []
        for block in (network.input_block, *network.downsamples):
            value = block(value)
            skips.append(value)
        value = network.bottleneck(value)
        for block in network.upsamples:
            value = block(value, skips.pop())
            maps.append(value)
        logits = [network.output_block(maps.pop()), *(head(maps.pop()) for head in self.heads)]
        return [of_patches(one, image.shape[2]) for one in logits] if sliced else logits

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


def _definition(
    kind: Kind, common: dict[str, Any], channels: list[int], residual_units: int, norm: str
) -> dict[str, Any]:
    """MONAI's class ("_target_") and its arguments, as a bundle states them."""
    halvings = [2] * (len(channels) - 1)
    made: dict[str, Any] = {"_target_": kind, **common}
    if kind == "UNet":
        return {**made, "channels": channels, "strides": halvings, "num_res_units": residual_units, "norm": norm}
    if kind == "SegResNet":
        blocks = [1, 2, 2, 4, 4, 4, 4, 4][: len(channels)]
        return {**made, "init_filters": channels[0], "blocks_down": blocks, "blocks_up": [1] * len(halvings)}
    return {
        **made,
        "kernel_size": [3] * len(channels),
        "strides": [1, *halvings],
        "upsample_kernel_size": halvings,
        "filters": channels,
        "norm_name": ["instance", {"affine": True}] if norm == "instance" else norm,  # nnU-Net's and MONAI's default
    }


def _network(definition: dict[str, Any]) -> nn.Module:
    """Build it; MONAI is imported here, as it takes long."""
    from monai.networks import nets

    arguments = {name: value for name, value in definition.items() if name != "_target_"}
    made: nn.Module = getattr(nets, definition["_target_"])(**arguments)
    return made


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
