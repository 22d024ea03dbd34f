"""The 2.5-D network against a loop over slices, and what of a patch's end it cannot know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segan_pl.inference.inferer import Windows, over_volume
from segan_pl.losses.overlap import SoftDice
from segan_pl.nets.blocks import to_channels_last
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.nets.parts.neighbours import NeighbouringSlices, with_neighbours
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.supervised import Supervised
from tests.contracts import SegmentorContract, tiny_batch


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unet(modalities: int = 2, channels: int = 3, *, neighbours: int = 2) -> MonaiSegmentor:
    """Small and seeded; in evaluation mode, as a dropout-free U-Net of instance norms it does the same in training."""
    torch.manual_seed(0)
    return MonaiSegmentor(modalities, channels, spatial_dims=2, neighbours=neighbours, width=4, levels=3).eval()


def slice_by_slice(network: nn.Module, image: Tensor, context: int) -> Tensor:
    """The same, written out: NumPy pads with the patch's end slices, and a loop gives the network one slice a time."""
    ends = ((0, 0), (0, 0), (context, context), (0, 0), (0, 0))
    padded = np.pad(image.numpy(), ends, mode="edge")
    logits = []
    for z in range(image.shape[2]):
        stack = [padded[:, :, z + context + offset] for offset in range(-context, context + 1)]  # M channels each
        logits.append(network(torch.from_numpy(np.concatenate(stack, axis=1))))
    return torch.stack(logits, 2)


class TestTwoNeighbours(SegmentorContract):
    size = (5, 16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return MonaiSegmentor(in_channels, out_channels, spatial_dims=2, neighbours=2, width=4, levels=3)


class TestWithoutNeighbours(SegmentorContract):
    size = (1, 16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return MonaiSegmentor(in_channels, out_channels, spatial_dims=2, neighbours=0, width=4, levels=3)


def test_channels_go_by_offset_and_within_it_by_modality() -> None:
    """A hand-worked patch: modality m of slice z of patch b is the number 100 b + 10 m + z."""
    image = torch.tensor([[[[100.0 * b + 10 * m + z]] for z in range(4)] for b in range(2) for m in range(2)])
    found = with_neighbours(image.reshape(2, 2, 4, 1, 1), 1)
    assert found.shape == (8, 6, 1, 1)
    assert found[:, :, 0, 0].tolist() == [
        [0, 10, 0, 10, 1, 11],
        [0, 10, 1, 11, 2, 12],
        [1, 11, 2, 12, 3, 13],
        [2, 12, 3, 13, 3, 13],
        [100, 110, 100, 110, 101, 111],
        [100, 110, 101, 111, 102, 112],
        [101, 111, 102, 112, 103, 113],
        [102, 112, 103, 113, 103, 113],
    ]


@pytest.mark.parametrize(("context", "depth"), [(0, 1), (0, 3), (1, 3), (2, 5), (2, 7), (3, 8)])
def test_a_loop_over_slices_with_numpy_padding_gives_the_same(context: int, depth: int) -> None:
    network = unet(neighbours=context)
    assert isinstance(network.network, NeighbouringSlices)
    image = noise(2, 2, depth, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(image), slice_by_slice(network.network.network, image, context))


def test_slices_in_the_middle_of_a_patch_agree_exactly_with_the_whole_volume_and_its_end_slices_do_not() -> None:
    network, volume = unet(), noise(1, 2, 15, 16, 16)
    with torch.no_grad():
        whole, part = network(volume), network(volume[:, :, 4:12])
    differs = [bool((whole[:, :, 4 + z] - part[:, :, z]).abs().max() > 1e-3) for z in range(8)]
    assert differs == [True, True, False, False, False, False, True, True]
    torch.testing.assert_close(part[:, :, 2:6], whole[:, :, 6:10], rtol=1e-5, atol=1e-6)


def test_whole_volumes_at_once_have_true_neighbours_everywhere_and_windows_do_not() -> None:
    network, volume = unet(), noise(2, 16, 16, 16)

    def predicted(windows: Windows) -> Tensor:
        with torch.no_grad():
            return over_volume(network, volume, patch=(8, 16, 16), windows=windows, activation="sigmoid", channels=1)

    assert isinstance(network.network, NeighbouringSlices)
    with torch.no_grad():
        expected = slice_by_slice(network.network.network, volume[None], 2)[0]
    torch.testing.assert_close(predicted(Windows(whole=16)), expected)
    differs = (predicted(Windows(overlap=0, blend="constant")) - expected).abs().amax((0, 2, 3)) > 1e-3
    assert differs.tolist() == [6 <= z < 10 for z in range(16)]  # two slices on either side of where windows meet


def test_the_gradient_of_a_slice_reaches_its_neighbours_and_no_further() -> None:
    image = noise(1, 2, 9, 16, 16).requires_grad_()
    unet()(image)[:, :, 4].square().sum().backward()
    assert image.grad is not None
    assert [bool(grey > 0) for grey in image.grad.abs().amax((0, 1, 3, 4))] == [2 <= z <= 6 for z in range(9)]


def test_a_repeated_end_slice_gathers_the_gradient_of_all_its_copies() -> None:
    image = torch.zeros(1, 1, 5, 1, 1, requires_grad=True)
    with_neighbours(image, 2).sum().backward()
    assert image.grad is not None
    assert image.grad.flatten().tolist() == [6, 4, 5, 4, 6]  # 5 each, moved outwards: 2 + 1 of them are repeated ends


def test_no_patch_sees_another_of_the_batch() -> None:
    network, image = unet(), noise(2, 2, 5, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(image)[1:], network(image[1:]))


def test_channels_last_changes_nothing_but_rounding() -> None:
    network, image = unet(), noise(2, 2, 5, 16, 16)
    with torch.no_grad():
        plain = network(image)
        to_channels_last(network)
        torch.testing.assert_close(network(image.contiguous(memory_format=torch.channels_last_3d)), plain)


def test_bfloat16_runs_and_stays_near_float32() -> None:
    network, image = unet(), noise(2, 2, 5, 16, 16)
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(image)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.1 * exact.std()


def test_without_neighbours_the_weights_and_the_work_are_the_2d_networks() -> None:
    torch.manual_seed(0)
    flat = MonaiSegmentor(2, 3, spatial_dims=2, width=4, levels=3)
    folded, image = unet(neighbours=0), noise(2, 2, 3, 16, 16)
    for mine, theirs in zip(folded.parameters(), flat.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    with torch.no_grad():
        torch.testing.assert_close(folded(image)[:, :, 1], flat(image[:, :, 1]))


@pytest.mark.parametrize(("neighbours", "parameters"), [(None, 1_976_139), (0, 1_976_139), (2, 1_980_747)])
def test_two_neighbours_cost_only_the_first_layers_wider_kernels(neighbours: int | None, parameters: int) -> None:
    with torch.device("meta"):
        network = MonaiSegmentor(4, 3, spatial_dims=2, neighbours=neighbours)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters  # 4 x 4 x 32 x 3 x 3 more


def test_only_neighbours_can_tell_apart_what_a_slice_does_not_show() -> None:
    """A label that is the slice above: 2.5-D learns it, every slice on its own stays at chance."""

    def learnt(neighbours: int) -> float:
        network = unet(1, 1, neighbours=neighbours).train()
        optimiser = torch.optim.Adam(network.parameters(), 1e-2)
        generator = torch.Generator().manual_seed(0)
        for _ in range(40):
            blocks = (torch.rand(4, 1, 8, 4, 4, generator=generator) > 0.5).float()
            image = blocks.repeat_interleave(4, 3).repeat_interleave(4, 4)  # (4, 1, 8, 16, 16)
            logits, target = network(image)[:, :, 1:], image[:, :, :-1]
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
            optimiser.step()
        return float(((logits > 0) == (target > 0.5)).float().mean())

    assert learnt(1) > 0.95
    assert learnt(0) < 0.65


def test_a_generated_case_is_overfitted() -> None:
    network, batch = unet(2, 1).train(), tiny_batch(size=(8, 32, 32))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    objective = Supervised(cross_entropy_weight=1.0, dice=SoftDice(reduction="batch"))
    for _ in range(40):
        context = StepContext({"segmentor": network}, batch, "sigmoid")
        optimiser.zero_grad()
        next(iter(objective.phases())).loss(context).total.backward()
        optimiser.step()
    found = context.probability > 0.5
    assert 2 * (found & (batch.target > 0)).sum() / (found.sum() + batch.target.sum()) > 0.9


def test_a_patch_in_which_no_slice_has_its_neighbours_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"the image is 4 slices deep, fewer than the 5 .* a --data.patch of depth 5"):
        unet()(noise(1, 2, 4, 16, 16))


def test_images_without_depth_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbouring slices: image of 2 axes, expected 3: depth, height, width"):
        NeighbouringSlices(nn.Identity(), 1)(noise(1, 2, 16, 16))


def test_a_negative_context_is_refused() -> None:
    with pytest.raises(ValueError, match="context is -1 neighbours, expected 0 or more"):
        NeighbouringSlices(nn.Identity(), -1)
