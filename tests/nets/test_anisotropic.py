"""The cascade of anisotropic networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from segan_pl.nets.anisotropic import CERTAIN, Anisotropic, Cascade, box_of

KERNELS = {(1, 3, 3), (3, 1, 1), (1, 1, 1), (1, 2, 2)}


@pytest.mark.parametrize("halvings", [1, 2])
def test_a_slice_sees_four_neighbours_on_either_side_and_wide_planes(halvings: int) -> None:
    torch.manual_seed(0)
    network = Anisotropic(2, width=3, halvings=halvings).eval()
    assert {layer.kernel_size for layer in network.modules() if isinstance(layer, nn.Conv3d)} <= KERNELS
    image = torch.randn(1, 2, 15, 16, 16, requires_grad=True)
    logits = network(image)
    assert logits.shape == (1, 1, 15, 16, 16)
    logits[0, 0, 7].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1, 3, 4)) > 0
    assert seen.nonzero().flatten().tolist() == list(range(3, 12))  # four layers between slices


def test_a_network_has_ten_residual_units_with_the_authors_dilations() -> None:
    network = Anisotropic(4, width=4, halvings=2)
    units = [module for name, module in network.named_modules() if name.endswith("unit0")]
    rates = [unit.conv.dilation for unit in units]
    assert rates == [(1, n, n) for n in (1, 1, 1, 1, 1, 2, 3, 3, 2, 1)]


def test_a_box_is_numpys_with_its_margin() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros((3, 1, 6, 9, 8), bool)
        for sample in mask[:2, 0]:
            sample[tuple(generator.integers(0, sample.shape, (3, 3)).T)] = True
        found = box_of(torch.from_numpy(mask), 2).numpy()
        assert not found[2].any()
        for true, box in zip(mask[:2, 0], found[:2, 0], strict=True):
            expected = np.zeros_like(true)
            places = np.argwhere(true)
            low, high = np.maximum(places.min(0) - 2, 0), places.max(0) + 3
            expected[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
            np.testing.assert_array_equal(box, expected)


def test_a_graph_of_torch_export_has_the_same_boxes_at_any_size() -> None:
    class Boxes(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return box_of(image > 0, 2)

    sides = {axis: torch.export.Dim(name, min=2, max=999) for axis, name in ((2, "d"), (3, "h"), (4, "w"))}
    graph = torch.export.export(Boxes(), (torch.randn(2, 1, 4, 6, 8),), dynamic_shapes=(sides,)).module()
    for number, shape in enumerate([(2, 1, 4, 6, 8), (2, 1, 9, 12, 7)]):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(number)) - 3
        assert (image > 0).any()
        assert torch.equal(graph(image), box_of(image > 0, 2))


def test_each_network_looks_inside_the_box_of_the_one_before_it_and_only_in_evaluation() -> None:
    torch.manual_seed(0)
    cascade = Cascade(2, 3, width=2, margin=1).eval()
    image = torch.randn(1, 2, 6, 16, 16)
    bright = torch.zeros(1, 1, 6, 16, 16)
    bright[..., 2:4, 4:9, 6:12] = 1

    class Marked(nn.Module):
        """Finds what was marked."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return bright - 0.5

    cascade.whole = Marked()
    box = torch.zeros(1, 1, 6, 16, 16, dtype=torch.bool)
    box[..., 1:5, 3:10, 5:13] = True
    with torch.no_grad():
        logits = cascade(image)
        assert (logits[:, 1:2][~box] == -CERTAIN).all()
        assert torch.equal(logits[:, 1:2][box], cascade.core(image * box)[box])
        other = image.clone()
        other[~box.expand_as(image)] = 9  # beyond the box nothing counts
        assert torch.equal(cascade(other)[:, 1:], logits[:, 1:])
        cascade.train()
        assert (cascade(image)[:, 1:2] > -CERTAIN).all()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"out_channels": 4}, "3 regions inside one another, not 4 channels; give --data.labels regions"),
        ({"out_channels": 3, "width": 0}, "width is 0"),
        ({"out_channels": 3, "margin": -1}, "margin is -1"),
    ],
)
def test_what_it_cannot_be_is_refused(arguments: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Cascade(4, **arguments)


@pytest.mark.parametrize("shape", [(1, 2, 5, 18, 16), (1, 2, 16, 16)])
def test_sides_of_the_plane_are_divisible_by_four(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"anisotropic.Cascade"):
        Cascade(2, 3, width=2)(torch.zeros(shape))
