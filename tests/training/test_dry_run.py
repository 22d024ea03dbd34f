"""Networks are shown a batch without values before anything is prepared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segan_pl.errors import UsageError
from segan_pl.inference.inferer import Windows
from segan_pl.nets import albunet, few_shot, reciprocal, segan
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.training.dry_run import dry_run, require_sizes, suspicious


def show(network: nn.Module, patch: tuple[int, ...], *, low: bool = False, channels: int = 2) -> None:
    dry_run({"segmentor": network}, {"segmentor": channels}, patch, low_on_cpu=low)


@pytest.mark.parametrize(
    ("network", "patch", "said"),
    [
        (
            segan.Segmentor(2, 1, width=2),
            (16, 16, 16),
            r"--data.patch \[16, 16, 16\]: the segmentor, given 2 channels: segan.Segmentor: the image has 3 axes",
        ),
        (
            reciprocal.Segmentor(2, 1, width=2),
            (16, 16),
            "expected 3; give a --data.patch of 3 numbers",
        ),
        (MonaiSegmentor(2, 1, width=2, levels=3), (4, 4, 4), "more than 1 spatial element"),
    ],
)
def test_a_patch_that_a_network_does_not_take_is_refused(network: nn.Module, patch: tuple[int, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        show(network, patch)


def test_a_network_that_is_built_for_one_patch_refuses_another_before_anything_is_prepared() -> None:
    networks = {"segmentor": few_shot.Segmentor(1, 4, width=1), "generator": few_shot.Generator(1, width=1)}
    require_sizes(networks, {"segmentor": 1}, (32, 32, 32), Windows(), low_on_cpu=False)
    said = r"--data.patch \[16, 32, 32\]: the generator is built for patches of \[32, 32, 32\]; give --model.networks."
    with pytest.raises(UsageError, match=said + r"generator.init_args.patch the same numbers"):
        require_sizes(networks, {"segmentor": 1}, (16, 32, 32), Windows(), low_on_cpu=False)


def test_a_dry_run_draws_nothing_and_changes_nothing() -> None:
    network = albunet.AlbuNet(2, 1, width=8, filters=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    show(network, (3, 32, 32))
    torch.testing.assert_close(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_that_needs_values_is_left_to_the_first_batch() -> None:
    class Choosy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image if image.sum().item() > 0 else -image

    show(Choosy(), (8, 8, 8))


def test_bfloat16_on_the_cpu_is_refused_where_a_convolution_is_two_voxels_deep() -> None:
    network = reciprocal.Segmentor(2, 1, width=4)  # a quarter of the depth has 16 channels, an eighth 32
    show(network, (16, 16, 16))
    show(network, (24, 16, 16), low=True)
    with pytest.raises(UsageError, match=r"input is 2 voxels deep, as in the segmentor's encoder4.*precision 32-true"):
        show(network, (16, 16, 16), low=True)


def relative_error(convolution: nn.Conv3d, depth: int) -> float:
    """Of bfloat16's weight gradient on this CPU, against float32's."""
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        image = torch.randn(2, convolution.in_channels, depth, 8, 8)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = convolution(image).float()
        (gradient,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), convolution.weight)
        gradients.append(gradient)
    return float((gradients[1] - gradients[0]).norm() / gradients[0].norm())


CONVOLUTIONS = [
    nn.Conv3d(16, 16, 3, padding=1),
    nn.Conv3d(16, 16, 3, padding="same"),
    nn.Conv3d(16, 16, 3, padding=1, groups=2),
    nn.Conv3d(1, 32, 3, padding=1),
    nn.Conv3d(32, 1, 3, padding=1),
    nn.Conv3d(8, 8, 3, padding=1),
    nn.Conv3d(16, 16, 3, padding=2, dilation=2),
    nn.Conv3d(16, 16, 3, padding=1, stride=2),
    nn.Conv3d(16, 16, 3, padding=2),
    nn.Conv3d(16, 16, 1),
    nn.Conv3d(16, 16, (1, 3, 3), padding=(0, 1, 1)),
    nn.Conv3d(16, 16, (3, 1, 1), padding=(1, 0, 0)),
    nn.Conv3d(16, 16, (2, 3, 3), padding=(1, 1, 1)),
    nn.Conv3d(16, 16, (4, 3, 3), padding=(2, 1, 1)),
    nn.Conv3d(16, 16, (4, 3, 3), padding=(1, 1, 1), stride=(2, 1, 1)),
    nn.Conv3d(16, 16, (5, 3, 3), padding=(2, 1, 1)),
    nn.Conv3d(16, 16, (5, 3, 3), padding=(2, 1, 1), stride=(2, 1, 1)),
    nn.Conv3d(16, 16, (7, 3, 3), padding=(3, 1, 1)),
]


def trained(convolution: nn.Conv3d) -> list[int]:
    """The depths that it takes, and is not refused for."""
    padding = 1 if convolution.padding == "same" else int(convolution.padding[0])
    fitting = [depth for depth in range(1, 6) if depth + 2 * padding >= convolution.kernel_size[0]]
    return [depth for depth in fitting if not suspicious(convolution, depth)]


@pytest.mark.parametrize(
    ("convolution", "depth"),
    [(convolution, depth) for convolution in CONVOLUTIONS for depth in trained(convolution)],
    ids=lambda value: value.extra_repr() if isinstance(value, nn.Conv3d) else None,
)
def test_gradients_that_are_not_refused_are_right_on_this_machine(convolution: nn.Conv3d, depth: int) -> None:
    assert relative_error(convolution, depth) < 0.02


@pytest.mark.parametrize(
    ("convolution", "refused"),
    [
        (nn.Conv3d(16, 16, 3, padding=1), [2]),
        (nn.Conv3d(16, 16, 3, padding=2), [1, 2]),
        (nn.Conv3d(16, 16, (2, 3, 3), padding=1), [1]),
        (nn.Conv3d(16, 16, 5, padding=2), [2, 3, 4]),
        (nn.Conv3d(16, 16, 7, padding=3), [2, 3, 4, 5, 6]),
        (nn.Conv3d(16, 16, 3, padding=1, groups=16), []),
        (nn.Conv3d(8, 8, 3, padding=1), []),
    ],
)
def test_what_was_measured_wrong_is_refused(convolution: nn.Conv3d, refused: list[int]) -> None:
    """torch 2.13.0 on AVX-512 with bf16; a kernel of 7 over 4 voxels even ended the process."""
    assert [depth for depth in range(1, 9) if suspicious(convolution, depth)] == refused


class Converts(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image * float(np.asarray(image).mean())


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(2, 16, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(input=image)


def grown() -> nn.Module:
    """No leaf, so that it cannot be copied."""
    network = nn.Conv3d(2, 2, 3, padding=1)
    network.scaled = network.weight * 2
    return network


@pytest.mark.parametrize("network", [Converts(), Named(), grown()], ids=["NumPy", "by keyword", "not copied"])
def test_a_network_that_cannot_run_without_values_is_not_refused(network: nn.Module) -> None:
    show(network, (4, 8, 8), low=True)


def test_a_critic_with_other_channels_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"--data.patch \[8, 8, 8\]: the critic, given 3 channels: Invalid channel dimensions"
    ):
        dry_run({"critic": nn.Conv3d(2, 2, 3)}, {"critic": 3}, (8, 8, 8), low_on_cpu=False)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: MonaiSegmentor(2, 1, width=0), "width is 0, expected at least 1 channel"),
        (lambda: MonaiSegmentor(2, 1, width=-4), "width is -4, expected at least 1 channel"),
        (lambda: albunet.AlbuNet(2, 1, width=0), "width is 0, expected at least 1 channel"),
        (lambda: albunet.AlbuNet(2, 1, filters=0), "filters is 0, expected at least 1 channel"),
    ],
)
def test_networks_without_channels_are_refused(build: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build()


def test_only_wrong_sides_have_nearest_ones() -> None:
    network = MonaiSegmentor(2, 1, spatial_dims=2, neighbours=1, width=2, levels=3)
    with pytest.raises(UsageError, match=r"need multiples of \[1, 4, 4\]; nearest 16, 4 or 8, 8$"):
        require_sizes({"segmentor": network}, {"segmentor": 2}, (16, 6, 8), Windows(), low_on_cpu=False)
