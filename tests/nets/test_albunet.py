from __future__ import annotations

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.flop_counter import FlopCounterMode

from segan_pl.__main__ import main
from segan_pl.losses.overlap import SoftDice
from segan_pl.nets.albunet import AlbuNet, DepthLayer
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.supervised import Supervised
from tests.contracts import SegmentorContract, tiny_batch


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def tiny(in_channels: int = 3, out_channels: int = 4, **options) -> AlbuNet:
    return AlbuNet(in_channels, out_channels, width=8, filters=2, **options)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settled(network: AlbuNet) -> AlbuNet:
    """In evaluation mode with the statistics of some noise: fresh ones leave next to nothing of an image."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(noise(2, 3, 4, 64, 64, seed=9))
    return network.eval()


class TestSlices(SegmentorContract):
    size = (32, 64)

    def build(self, in_channels, out_channels):
        return tiny(in_channels, out_channels)


class TestVolumes(SegmentorContract):
    size = (3, 32, 64)

    def build(self, in_channels, out_channels):
        return tiny(in_channels, out_channels)


class TestWithoutDepthLayers(SegmentorContract):
    size = (2, 64, 32)

    def build(self, in_channels, out_channels):
        return tiny(in_channels, out_channels, depth_layers=False)


@pytest.mark.parametrize(
    ("channels", "depth_layers", "parameters"),
    [
        (4, True, 26_673_172),
        (4, False, 25_822_372),
        (3, True, 26_673_172 - 17),
        (3, False, 25_822_372 - 17),
    ],
)
def test_the_network_has_the_published_parameters_less_the_strays(channels, depth_layers, parameters):
    with torch.device("meta"):
        network = AlbuNet(3, channels, depth_layers=depth_layers)
    assert count(network) == parameters
    assert count(network.encoder) == 21_284_672


def test_every_stage_has_the_number_of_parameters_that_was_counted_in_the_authors_network():
    with torch.device("meta"):
        network = AlbuNet(3, 4)
    encoder = [getattr(network.encoder, name) for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")]
    bias = [64, 0, 6 * 64, 9 * 128, 13 * 256, 7 * 512]  # theirs, from turning ResNet's convolutions into 3-D ones
    assert [count(part) + extra for part, extra in zip(encoder, bias, strict=True)] == [
        9_600 - 128,
        128,
        222_336,
        1_117_568,
        6_825_728,
        13_117_952,
    ]
    assert sum(bias) == 8_512
    decoder = [network.center, network.dec5, network.dec4, network.dec3, network.dec2, network.dec1, network.dec0]
    assert [count(part) for part in decoder] == [590_208, 1_999_744, 1_409_920, 360_864, 121_088, 53_456, 2_352]
    assert [count(part) for part in network.depth.values()] == [787_968, 49_536, 12_480, 816]
    assert count(network.output) == 68


@pytest.mark.parametrize(("size", "gigaflops"), [((24, 128, 128), 90.66), ((1, 128, 128), 3.777)])
def test_the_network_does_the_work_that_was_counted_in_the_authors_network(size, gigaflops):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        AlbuNet(3, 4).eval()(torch.zeros(1, 3, *size))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, rel=2e-4)


@pytest.mark.parametrize("size", [(1, 32, 32), (2, 32, 96), (5, 64, 32), (7, 32, 32)])
def test_volumes_of_any_depth_pass(size):
    network = tiny().eval()
    assert network(noise(2, 3, *size)).shape == (2, 4, *size)


def test_depth_need_not_be_divisible_but_the_plane_must():
    with pytest.raises(ValueError, match=r"albunet.AlbuNet: the image is \(32, 33\) voxels.* by 32; crop or pad"):
        tiny()(noise(1, 3, 2, 32, 33))


@pytest.mark.parametrize("training", [True, False])
def test_without_depth_layers_a_volume_is_its_slices_in_one_batch(training):
    torch.manual_seed(0)
    network = settled(tiny(depth_layers=False)).train(training)
    volume = noise(2, 3, 5, 32, 64)
    slices = volume.movedim(2, 1).reshape(10, 3, 32, 64)
    expected = network(slices).reshape(2, 5, 4, 32, 64).movedim(1, 2)
    torch.testing.assert_close(network(volume), expected)


def test_without_depth_layers_no_slice_sees_another_and_with_them_the_neighbours_do():
    def reach(network: AlbuNet) -> list[bool]:
        settled(network)
        volume = noise(1, 3, 21, 32, 32)
        other = volume.clone()
        other[:, :, 10] = noise(3, 32, 32, seed=2)
        with torch.no_grad():
            change = (network(other) - network(volume)).abs().amax((0, 1, 3, 4))
        return [bool(value > 0) for value in change]

    torch.manual_seed(0)
    assert reach(tiny(depth_layers=False)) == [z == 10 for z in range(21)]
    found = reach(tiny())
    assert found[9:12] == [True] * 3
    assert not any(found[:6] + found[15:])  # four layers of 3 reach four slices


def test_a_slice_is_a_volume_of_depth_1():
    torch.manual_seed(0)
    network = settled(tiny())
    image = noise(2, 3, 32, 64)
    found = network(image)
    assert found.std() > 0.01
    torch.testing.assert_close(found, network(image[:, :, None])[:, :, 0])


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_depth_layer_is_a_3x1x1_convolution_and_batch_norm_over_the_volume(memory):
    torch.manual_seed(0)
    layer = DepthLayer(6)
    conv, norm = nn.Conv3d(6, 6, (3, 1, 1), padding=(1, 0, 0)), nn.BatchNorm3d(6)
    conv.load_state_dict({"weight": layer.conv.weight[..., None], "bias": layer.conv.bias})
    volume = noise(2, 6, 5, 4, 3)
    slices = volume.movedim(2, 1).reshape(10, 6, 4, 3).contiguous(memory_format=memory)
    found = layer(slices, 5).reshape(2, 5, 6, 4, 3).movedim(1, 2)
    torch.testing.assert_close(found, norm(conv(volume)).relu())
    torch.testing.assert_close(layer.norm.running_var, norm.running_var)


def test_a_depth_layer_sees_zeros_beyond_the_last_slice_not_the_next_volume():
    layer = DepthLayer(2).eval()
    with torch.no_grad():
        layer.norm.running_mean.fill_(-100.0)  # so that ReLU cuts nothing
    slices = noise(6, 2, 4, 4)
    other = slices.clone()
    other[3:] += 1  # the second volume of the batch
    torch.testing.assert_close(layer(slices, 3)[:3], layer(other, 3)[:3], rtol=0, atol=0)
    column = pad(slices[:3].movedim(0, -1), (1, 1))  # (C, H, W, D + 2)
    expected = torch.einsum("oit,ihwt->ohw", layer.conv.weight[..., 0], column[..., 2:5])
    bare = layer(slices, 3)[2] * (1 + 1e-5) ** 0.5 - 100 - layer.conv.bias[:, None, None]
    torch.testing.assert_close(bare, expected, rtol=1e-4, atol=1e-4)


def test_the_decoder_joins_the_decoder_then_the_encoder():
    network = tiny()
    seen = {}
    network.dec5.register_forward_hook(lambda *args: seen.update(decoder=args[-1]))
    network.encoder.layer3.register_forward_hook(lambda *args: seen.update(encoder=args[-1]))
    network.dec4.register_forward_pre_hook(lambda _, args: seen.update(joint=args[0]))
    network.depth["encoder"].register_forward_hook(lambda *args: seen.update(mixed=args[-1]))
    network.dec5.register_forward_pre_hook(lambda _, args: seen.update(deepest=args[0]))
    network(noise(2, 3, 2, 32, 64))
    torch.testing.assert_close(seen["joint"], torch.cat([seen["decoder"], seen["encoder"]], 1))
    torch.testing.assert_close(seen["deepest"][:, 16:], seen["mixed"])  # mixed features replace the encoder's below


def test_the_output_is_a_logit():
    torch.manual_seed(0)
    assert tiny()(noise(2, 3, 32, 64)).min() < 0


@pytest.mark.parametrize("shape", [(2, 3, 32, 64), (1, 3, 3, 32, 64)])
def test_channels_last_gives_the_same_logits(shape):
    torch.manual_seed(0)
    network, image = settled(tiny()), noise(*shape)
    expected = network(image)
    assert expected.std() > 0.01
    memory = torch.channels_last if image.ndim == 4 else torch.contiguous_format
    found = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=memory))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(2, 3, 32, 64), (1, 3, 3, 32, 64)])
def test_bfloat16_runs_forward_and_back_near_float32(shape):
    torch.manual_seed(0)
    network, image = settled(tiny()), noise(*shape)
    expected = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image)
        network.train()(image).float().square().mean().backward()
    assert found.dtype == torch.bfloat16
    assert expected.std() > 0.01
    assert (found.float() - expected).abs().mean() < 0.1 * expected.std()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_constructor_opens_no_file_for_pretrained_weights():
    torch.manual_seed(5)
    noted = tiny(pretrained="/nowhere/resnet34.pth")
    torch.manual_seed(5)
    bare = tiny()
    assert all(torch.equal(noted.state_dict()[key], value) for key, value in bare.state_dict().items())


def game(network: nn.Module) -> StepContext:
    """Two volumes of two slices, a bright box a modality, which is a label each."""
    batch = tiny_batch(3, 4, size=(2, 32, 32), activation="softmax")
    label = torch.zeros(2, 2, 32, 32, dtype=torch.long)
    for number in (1, 2, 3):
        label[:, :, 8 * number - 6 : 8 * number + 2, 3:20] = number
    target = nn.functional.one_hot(label, 4).movedim(-1, 1).float()
    batch = batch._replace(image=0.1 * noise(2, 3, 2, 32, 32) + target[:, 1:], target=target)
    return StepContext({"segmentor": network}, batch, "softmax")


DICE = {"form": "linear", "reduction": "batch", "epsilon": 1e-15}


def test_one_step_moves_every_parameter():
    torch.manual_seed(0)
    network = AlbuNet(3, 4, width=8, filters=4)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    Supervised(dice=SoftDice(**DICE), dice_background=False).loss(game(network)).total.backward()
    optimiser.step()
    still = {name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])}
    assert not still


def test_a_tiny_volume_is_overfitted():
    torch.manual_seed(0)
    network, objective = AlbuNet(3, 4, width=8, filters=8), Supervised(dice=SoftDice(**DICE), dice_background=False)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(50):
        context = game(network)
        optimiser.zero_grad()
        objective.loss(context).total.backward()
        optimiser.step()
    found = nn.functional.one_hot(context.probability.argmax(1), 4).movedim(-1, 1)
    for label in (1, 2, 3):
        pair = found[:, label], context.batch.target[:, label]
        assert 2 * (pair[0] * pair[1]).sum() / (pair[0].sum() + pair[1].sum()) > 0.9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "patch", "parameters"),
    [("albunet3d", [24, 128, 128], 26_673_172), ("albunet2d", [1, 128, 128], 25_822_372)],
)
def test_the_system_files_hold_the_papers_settings_under_names_that_exist(name, patch, parameters, capsys, tmp_path):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "-c", name, f"--root={tmp_path}", "--print_config"])
    settings = yaml.safe_load(capsys.readouterr().out)
    model, data = settings["model"], settings["data"]
    with torch.device("meta"):
        network = AlbuNet(len(data["modalities"]), 4, **model["networks"]["segmentor"]["init_args"])
    assert count(network) == parameters
    assert network.pretrained == "imagenet"
    # K = 4, as the authors' code that reached the numbers; the paper's K = 3 is albunet3d_paper
    objective = model["objective"]["init_args"]
    assert objective["dice"]["init_args"] == {**DICE, "over_ranks": False}
    assert objective["dice_background"] is True
    assert model["optimizers"]["default"]["init_args"]["lr"] == 1e-3
    assert data["patch"] == patch
    assert settings["trainer"]["max_epochs"] * data["sampling"]["batches"] == 5000
