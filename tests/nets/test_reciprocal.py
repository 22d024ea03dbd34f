import re

import pytest
import torch
from torch import nn
from torch.nn.functional import conv3d, group_norm, instance_norm, interpolate, max_pool3d
from torch.utils.flop_counter import FlopCounterMode

from segan_pl.nets.reciprocal import Critic, Segmentor, groups
from segan_pl.training.checkpoint import CheckpointMismatchError, require_same_weights
from tests.contracts import CriticContract, SegmentorContract

AUTHORS = {"kernel": 1, "last": "activated"}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class TestSegmentorWithGroupNorm(SegmentorContract):
    size = (8, 16, 16)

    def build(self, in_channels, out_channels):
        return Segmentor(in_channels, out_channels, width=4)


class TestSegmentorWithInstanceNorm(SegmentorContract):
    size = (16, 16, 16)

    def build(self, in_channels, out_channels):
        return Segmentor(in_channels, out_channels, width=4, norm="instance")


class TestPatchCritic(CriticContract):
    size = (16, 16, 24)
    layers = 5

    def build(self, in_channels):
        return Critic(in_channels, width=4, stride=2)

    def test_pyramid_starts_with_the_input_and_coarsens(self):
        view = self.view(3)
        pyramid = self.build(3)(view)
        assert pyramid[0] is view
        assert [tuple(layer.shape[1:]) for layer in pyramid[1:]] == [
            (4, 8, 8, 12),
            (8, 4, 4, 6),
            (16, 2, 2, 3),
            (3, 2, 2, 3),
        ]


class TestPaperCritic(CriticContract):
    size = (5, 6, 7)
    layers = 5

    def build(self, in_channels):
        return Critic(in_channels, width=4)

    def test_pyramid_starts_with_the_input_and_coarsens(self):
        """Its own does not coarsen: a verdict a voxel."""
        view = self.view(3)
        pyramid = self.build(3)(view)
        assert pyramid[0] is view
        assert [layer.shape[1] for layer in pyramid] == [3, 4, 8, 16, 3]
        assert {tuple(layer.shape[2:]) for layer in pyramid} == {self.size}

    def test_size_off_the_divisor_is_refused_with_the_remedy(self):
        """Its divisor is 1, so that no size is off it."""
        network = self.build(1)
        assert network.divisor == 1
        assert network(torch.zeros(2, 1, 5, 6, 8))[-1].shape == (2, 1, 5, 6, 8)


class TestAuthorsCritic(TestPaperCritic):
    def build(self, in_channels):
        return Critic(in_channels, width=4, **AUTHORS)


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize(("width", "parameters"), [(48, 19_167_819), (32, 8_520_755)])
def test_segmentor_has_the_authors_number_of_parameters(norm, width, parameters):
    with torch.device("meta"):
        assert count(Segmentor(4, 3, width=width, norm=norm)) == parameters


def test_each_stage_has_the_authors_number_of_parameters():
    with torch.device("meta"):
        stages = {name: count(stage) for name, stage in Segmentor(4, 3).named_children()}
    assert stages == {
        "encoder1": 33_840,
        "encoder2": 186_912,
        "encoder3": 747_072,
        "encoder4": 2_987_136,
        "bottom": 7_964_160,
        "bottom_2": 3_981_696,
        "decoder3": 2_488_896,
        "decoder2": 622_368,
        "decoder1": 155_664,
        "output": 75,
    }


@pytest.mark.parametrize(
    ("options", "parameters"),
    [(AUTHORS, 3_030), ({"last": "activated"}, 75_830), ({}, 75_827), ({"stride": 2}, 75_827)],
    ids=["code", "paper-activated", "paper", "patch"],
)
def test_critic_has_the_number_of_parameters_worked_by_hand(options, parameters):
    with torch.device("meta"):
        assert count(Critic(3, **options)) == parameters


@pytest.mark.parametrize(
    ("build", "channels", "giga"),
    [(lambda: Segmentor(4, 3), 4, 194.03), (lambda: Critic(3, **AUTHORS), 3, 1.468)],
    ids=["segmentor", "critic"],
)
def test_a_forward_of_64_voxels_cubed_costs_what_the_fact_sheet_measured(build, channels, giga):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build()(torch.zeros(1, channels, 64, 64, 64))
    assert counter.get_total_flops() / 1e9 == pytest.approx(giga, rel=1e-4)


@pytest.mark.parametrize(("channels", "expected"), [(24, 3), (48, 16), (96, 16), (16, 16), (4, 4), (40, 5), (17, 17)])
def test_groups_are_the_authors(channels, expected):
    assert groups(channels) == expected


def test_paper_width_has_three_groups_for_24_channels_and_sixteen_elsewhere():
    with torch.device("meta"):
        norms = [module for module in Segmentor(4, 3).modules() if isinstance(module, nn.GroupNorm)]
    assert {(norm.num_groups, norm.num_channels) for norm in norms} == {
        (3, 24), (16, 48), (16, 96), (16, 192), (16, 384),
    }  # fmt: skip


@pytest.mark.parametrize(("saved", "built"), [("instance", "group"), ("group", "instance")])
def test_weights_of_the_other_norm_are_refused_by_their_names(saved, built):
    weights = Segmentor(1, 1, width=4, norm=saved).state_dict()
    with pytest.raises(RuntimeError, match=rf"(?s)Missing key.*{built}_norm.*Unexpected key.*{saved}_norm"):
        Segmentor(1, 1, width=4, norm=built).load_state_dict(weights)


@pytest.mark.parametrize("last", ["bare", "activated"])
@pytest.mark.parametrize(("saved", "built"), [(1, 2), (2, 1)])
def test_weights_of_the_other_stride_are_refused_in_one_line_that_names_it(saved, built, last):
    weights = Critic(1, width=2, stride=saved, last=last).state_dict()
    critic = Critic(1, width=2, stride=built, last=last)
    with pytest.raises(RuntimeError, match=rf"(?s)Missing key.*stride{built}_conv.*Unexpected key.*stride{saved}_conv"):
        critic.load_state_dict(weights)
    with pytest.raises(CheckpointMismatchError) as caught:  # what --ckpt_path and --finetuning.init_from ask
        require_same_weights(critic, weights)
    first = r"layer1.stride1_conv.weight \(checkpoint .*, model .*\); layer1.stride2_conv.weight \(checkpoint "
    assert re.search(first, str(caught.value))
    assert "\n" not in str(caught.value)


def by_hand(weights, image, norm):
    """The network of the fact sheet, written out over its weights, without modules."""

    def conv(name, x, dilation=1):
        x = conv3d(x, weights[f"{name}.conv.weight"], padding=dilation, dilation=dilation)
        scale, shift = weights[f"{name}.{norm}_norm.weight"], weights[f"{name}.{norm}_norm.bias"]
        if norm == "instance":
            return instance_norm(x, weight=scale, bias=shift).relu()
        return group_norm(x, min(16, x.shape[1]), scale, shift).relu()

    def block(name, x, dilation=1):
        return conv(f"{name}.second", conv(f"{name}.first", x, dilation), dilation)

    def up(x):
        return interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)

    down1 = block("encoder1", image)
    down2 = block("encoder2", max_pool3d(down1, 2))
    down3 = block("encoder3", max_pool3d(down2, 2))
    down4 = block("encoder4", max_pool3d(down3, 2))
    x = conv("bottom_2", torch.cat([down4, block("bottom", down4, 2)], 1))
    for name, skip in (("decoder3", down3), ("decoder2", down2), ("decoder1", down1)):
        x = block(name, torch.cat([skip, up(x)], 1))
    return conv3d(x, weights["output.weight"], weights["output.bias"])


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_forward_is_the_fact_sheets(norm):
    torch.manual_seed(0)
    network = Segmentor(2, 3, width=4, norm=norm)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # norms with a weight and bias that matter
    image = torch.randn(2, 2, 16, 16, 24)
    torch.testing.assert_close(network(image), by_hand(network.state_dict(), image, norm))


def test_kernels_start_with_the_fan_out_deviation_and_norms_at_rest():
    torch.manual_seed(0)
    network = Segmentor(4, 3, width=16)
    assert network.encoder4.first.conv.weight.std().item() == pytest.approx((2 / (27 * 64)) ** 0.5, rel=0.02)
    for name, parameter in network.named_parameters():
        if "_norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name


def test_evaluation_and_an_extra_forward_change_nothing():
    network = Segmentor(2, 1, width=4)
    image = torch.randn(1, 2, 16, 16, 16)
    first = network(image)
    network(torch.randn_like(image))
    assert not list(network.buffers())
    assert torch.equal(network.eval()(image), first)


def reach(critic, size):
    """Voxels an axis on which the middle of the last map depends."""
    image = torch.zeros(1, 1, size, size, size, requires_grad=True)
    last = critic.eval()(image)[-1]
    middle = last.shape[2] // 2
    last[0, 0, middle, middle, middle].backward()
    return int((image.grad[0, 0].abs().sum((1, 2)) > 0).sum())


@pytest.mark.parametrize(("options", "size", "voxels"), [(AUTHORS, 5, 1), ({}, 13, 9), ({"stride": 2}, 64, 31)])
def test_a_verdict_of_the_authors_critic_sees_one_voxel_and_ours_a_patch(options, size, voxels):
    torch.manual_seed(0)
    assert reach(Critic(1, width=4, **options), size) == voxels


def test_the_number_of_maps_is_an_option():
    assert Critic(7, width=4, maps=1)(torch.randn(2, 7, 5, 6, 7))[-1].shape == (2, 1, 5, 6, 7)


def test_an_activated_last_layer_gives_every_input_the_same_mean_verdict_and_a_bare_one_does_not():
    torch.manual_seed(0)
    views = torch.rand(2, 1, 8, 8, 8), (torch.rand(2, 1, 8, 8, 8) > 0.9).float()
    for last, same in (("activated", True), ("bare", False)):
        critic = Critic(1, width=4, last=last)
        means = []
        layer = critic.output.norm if last == "activated" else critic.output
        layer.register_forward_hook(lambda _, __, out, means=means: means.append(out.mean().item()))
        for view in views:
            critic(view)
        assert (abs(means[0] - means[1]) < 1e-6) == same


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Segmentor(1, 1, norm="batch"), "group"),
        (lambda: Segmentor(1, 1, width=5), "even"),
        (lambda: Segmentor(1, 1, width=0), "at least 2"),
        (lambda: Critic(1, kernel=2), "kernel 1 or 3"),
        (lambda: Critic(1, kernel=1, stride=2), "stride 2 with kernel 3"),
        (lambda: Critic(1, last="none"), "bare"),
        (
            lambda: Segmentor(1, 1, width=2)(torch.zeros(1, 1, 16, 16)),
            "Segmentor: the image has 2 axes, expected 3; give a --data.patch of 3 numbers",
        ),
        (lambda: Critic(1)(torch.zeros(1, 1, 16, 16)), "Critic: the image has 2 axes, expected 3"),
        (lambda: Segmentor(1, 1, width=2, norm="instance")(torch.zeros(1, 1, 8, 8, 8)), "more than 1 spatial"),
    ],
)
def test_bad_arguments_and_inputs_are_refused(build, text):
    with pytest.raises(ValueError, match=text):
        build()


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_bfloat16_runs_and_stays_near_float32(norm):
    torch.manual_seed(0)
    network, image = Segmentor(2, 1, width=4, norm=norm), torch.randn(1, 2, 16, 16, 16)
    exact = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(image)
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).abs().mean() < 0.05 * exact.std()


def test_channels_last_gives_the_same_logits():
    torch.manual_seed(0)
    network, image = Segmentor(2, 1, width=4), torch.randn(1, 2, 16, 16, 16)
    expected = network(image)
    network = network.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(network(image.to(memory_format=torch.channels_last_3d)), expected, rtol=1e-4, atol=1e-4)
