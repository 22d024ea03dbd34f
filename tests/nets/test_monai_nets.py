"""MONAI's networks as segmentors, and which segmentor contexts against which critic in which game."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from monai.networks import nets
from torch import nn

from segan_pl.losses.overlap import SoftDice
from segan_pl.nets import albunet, reciprocal, segan, segan_isic
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from tests.contracts import SegmentorContract, descent, differ, parameters_of, take_phase, tiny_batch

NORMS = {"UNet": "instance", "SegResNet": "group", "DynUNet": "instance"}


def network(kind: str, dimensions: int, **more: object) -> Callable[[int, int], nn.Module]:
    width = 8 if kind == "SegResNet" else 4
    settings = {"kind": kind, "spatial_dims": dimensions, "width": width, "levels": 3, "norm": NORMS[kind], **more}
    return partial(MonaiSegmentor, **settings)  # type: ignore[arg-type]


class TestUNet(SegmentorContract):
    size = (16, 16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return network("UNet", 3)(in_channels, out_channels)


class TestSegResNet(SegmentorContract):
    size = (16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return network("SegResNet", 2)(in_channels, out_channels)


class TestDynUNet(SegmentorContract):
    size = (16, 16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return network("DynUNet", 3)(in_channels, out_channels)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_dynunet_is_monais_own_with_a_weight_and_bias_in_each_norm(dimensions: int) -> None:
    built = network("DynUNet", dimensions)(2, 1)
    own = nets.DynUNet(dimensions, 2, 1, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 16])
    both = built.get_submodule("network"), own
    shapes = [{name: value.shape for name, value in one.named_parameters()} for one in both]
    assert shapes[0] == shapes[1]
    assert sum("norm" in name for name in shapes[0]) == 2 * 2 * 5  # two norms in each of five blocks


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"kind": "VNet"}, "kind is 'VNet', expected one of"),
        ({"levels": 1}, "expected 2 or 3, and 2 to 8 levels"),
        ({"kind": "DynUNet", "residual_units": 2}, "does nothing in DynUNet"),
        ({"kind": "DynUNet", "levels": 2}, "DynUNet has at least 3"),
        ({"kind": "SegResNet"}, "norm is 'instance', expected group for SegResNet"),
        ({"kind": "UNet", "norm": "group"}, "norm is 'group', expected batch or instance for UNet"),
        ({"kind": "SegResNet", "norm": "group", "width": 12}, "SegResNet of width 12: expected a multiple of 8"),
        ({"kind": "SegResNet", "norm": "group", "width": 64}, "SegResNet of width 64 has 1024 channels, most is 320"),
        ({"neighbours": 2}, "neighbours 2 does nothing in 3 dimensions; leave it out or give spatial_dims 2"),
        ({"neighbours": -1, "spatial_dims": 2}, "neighbours is -1, expected 0 or more slices on either side"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        MonaiSegmentor(2, 1, **settings)  # type: ignore[arg-type]


def test_wrong_images_are_refused() -> None:
    built = network("UNet", 3)(2, 1)
    with pytest.raises(ValueError, match="image of 2 axes, expected 3"):
        built(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match=r"the image is \(6, 8, 8\) voxels.*divisible by 4"):
        built(torch.zeros(1, 2, 6, 8, 8))
    with pytest.raises(ValueError, match="more than 1 spatial element"):  # instance norm at the bottom
        built(torch.zeros(1, 2, 4, 4, 4))
    assert built(torch.zeros(1, 2, 4, 8, 8)).shape == (1, 1, 4, 8, 8)
    slabs = network("UNet", 2, neighbours=1)(2, 1)
    with pytest.raises(ValueError, match="image of 2 axes, expected 3"):
        slabs(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match=r"the image is \(8, 6\) voxels.*divisible by 4"):
        slabs(torch.zeros(1, 2, 3, 8, 6))


FLAT = {
    "segan": partial(segan.Segmentor, width=2),
    "segan_isic": partial(segan_isic.Segmentor, width=2),
    "albunet": partial(albunet.AlbuNet, width=8, filters=2),
    **{kind: network(kind, 2) for kind in NORMS},
}
DEEP = {
    "reciprocal": partial(reciprocal.Segmentor, width=4),
    "albunet": partial(albunet.AlbuNet, width=8, filters=2),
    **{kind: network(kind, 3) for kind in NORMS},
    **{f"2.5-D {kind}": network(kind, 2, neighbours=1) for kind in NORMS},
}
GAMES: dict[str, tuple[Callable[[], Objective], Callable[[int], nn.Module] | None, Callable[[int], nn.Module] | None]]
GAMES = {
    "supervised": (partial(Supervised, cross_entropy_weight=1.0, dice=SoftDice(reduction="batch")), None, None),
    "segan": (SegAN, partial(segan.Critic, width=2), partial(reciprocal.Critic, width=2)),
    "segan, patch critic": (SegAN, partial(segan.Critic, width=2), partial(reciprocal.Critic, width=2, stride=2)),
    "reciprocal": (Reciprocal, None, partial(reciprocal.Critic, width=2)),
}
PLAYED = [
    (f"{name} {game} {dimensions}-D", build, make, critic, dimensions)
    for dimensions, segmentors in ((2, FLAT), (3, DEEP))
    for name, build in segmentors.items()
    for game, (make, flat, deep) in GAMES.items()
    if (critic := flat if dimensions == 2 else deep) is not None or game == "supervised"
]


@pytest.mark.parametrize(
    ("build", "make", "critic", "dimensions"), [one[1:] for one in PLAYED], ids=[o[0] for o in PLAYED]
)
def test_any_segmentor_goes_with_any_objective_of_its_dimensions_and_every_network_moves(
    build: Callable[[int, int], nn.Module],
    make: Callable[[], Objective],
    critic: Callable[[int], nn.Module] | None,
    dimensions: int,
) -> None:
    torch.manual_seed(0)
    objective = make()
    networks = {"segmentor": build(2, 1)}
    if critic is not None:
        networks["critic"] = critic(objective.channels("critic", 2, 1)["in_channels"])
    batch = tiny_batch(2, 1, size=(64, 64) if dimensions == 2 else (16, 32, 32))
    before = {name: parameters_of(network) for name, network in networks.items()}
    optimisers = descent(networks)
    context = StepContext(networks, batch, "sigmoid")
    for phase in objective.phases():
        losses = take_phase(phase, context, optimisers)
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    for name, network in networks.items():
        assert differ(before[name], parameters_of(network)), name


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("kind", "norm"), [("UNet", "instance"), ("DynUNet", "instance"), ("SegResNet", "group")])
def test_the_bottleneck_is_the_lowest_level_and_features_are_all_levels_with_the_logits(kind, norm, spatial_dims):
    network = MonaiSegmentor(2, 4, kind=kind, spatial_dims=spatial_dims, width=8, levels=3, norm=norm).eval()
    image = torch.randn(2, 2, *[16] * spatial_dims)
    logits, layers = network.features(image)
    assert torch.equal(logits, network(image))
    lowest = max(layers, key=lambda layer: layer.shape[1])
    assert lowest.shape == (2, 32, *[4] * spatial_dims)
    assert torch.equal(network.bottleneck(image), lowest)
    assert len(layers) >= 4
    assert not any(module._forward_hooks for module in network.modules())


def test_slices_with_neighbours_show_no_features():
    network = MonaiSegmentor(1, 2, spatial_dims=2, neighbours=1, width=4, levels=2)
    with pytest.raises(ValueError, match=r"2\.5-D shows no features"):
        network.features(torch.randn(1, 1, 4, 8, 8))


@pytest.mark.parametrize("more", [{"spatial_dims": 2}, {"spatial_dims": 3}, {"spatial_dims": 2, "neighbours": 1}])
def test_deep_supervision_adds_heads_and_leaves_the_logits_as_they_are_to_the_bit(more: dict[str, int]) -> None:
    torch.manual_seed(0)
    plain = MonaiSegmentor(2, 3, kind="DynUNet", width=4, levels=4, **more)
    torch.manual_seed(0)
    deep = MonaiSegmentor(2, 3, kind="DynUNet", width=4, levels=4, deep_supervision=2, **more)
    image = torch.randn(2, 2, *(3, 32, 16) if "neighbours" in more else [32, 16, 16][: more["spatial_dims"]])
    logits = deep(image, deep=True)
    assert torch.equal(logits[0], plain(image))
    assert torch.equal(logits[0], deep(image))
    depth = [3, 3, 3] if "neighbours" in more else [32, 16, 8]
    assert [one.shape[2] for one in logits] == depth
    assert [one.shape[-1] for one in logits] == [16, 8, 4]
    assert all(one.shape[:2] == (2, 3) for one in logits)
    assert deep.resolutions == 3
    assert plain.resolutions == 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"kind": "UNet", "deep_supervision": 1}, "deep_supervision 1: UNet has none; leave it out or take DynUNet"),
        ({"kind": "DynUNet", "levels": 4, "deep_supervision": 3}, "deep_supervision is 3, expected 0 .* to 2 lower"),
        ({"kind": "DynUNet", "deep_supervision": -1}, "deep_supervision is -1, expected 0"),
    ],
)
def test_deep_supervision_without_a_resolution_is_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        MonaiSegmentor(2, 1, **settings)


@pytest.mark.parametrize(("spatial_dims", "most"), [(2, 512), (3, 320)])
def test_dynunet_is_nnunets_plain_network_but_for_biases(spatial_dims: Any, most: int) -> None:
    """Counted by the formula: two 3^d convolutions a level, 2^d transposed ones, two norms of 2 values a channel."""
    widths = [min(32 * 2**level, most) for level in range(6 if spatial_dims == 3 else 7)]
    kernel, up = 3**spatial_dims, 2**spatial_dims
    expected = sum(kernel * (one * two + two * two) + 4 * two for one, two in zip([1, *widths], widths, strict=False))
    expected += sum(
        up * low * high + kernel * (2 * high * high + high * high) + 4 * high for high, low in pairwise(widths)
    )
    heads = sum(width * 3 + 3 for width in widths[:-2])
    with torch.device("meta"):
        built = MonaiSegmentor(
            1,
            3,
            kind="DynUNet",
            spatial_dims=spatial_dims,
            most=most,
            levels=len(widths),
            deep_supervision=len(widths) - 3,
        )
    assert sum(parameter.numel() for parameter in built.parameters()) == expected + heads
    slopes = {one.negative_slope for one in built.modules() if isinstance(one, nn.LeakyReLU)}
    assert slopes == {0.01}
