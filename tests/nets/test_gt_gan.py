from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm, one_hot

from segan_pl.nets.gt_gan import Generator, GTLayer
from tests.contracts import assert_finite_gradients, assert_same_by_seed


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def inputs(patch: tuple[int, ...], modalities: int = 2, classes: int = 4, noise: int = 200) -> tuple[Tensor, ...]:
    """Image, labels and noise of three samples; the labels are blocks of 4 voxels."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randint(0, classes, (3, *(side // 4 for side in patch)), generator=generator)
    for axis in range(1, coarse.ndim):
        coarse = coarse.repeat_interleave(4, axis)
    image = torch.rand(3, modalities, *patch, generator=generator) * 2 - 1
    return image, one_hot(coarse, classes).movedim(-1, 1).float(), torch.rand(3, noise, generator=generator)


@pytest.mark.parametrize("mode", ["tissue", "vector"])
@pytest.mark.parametrize("boundary", ["given", "found", None])
@pytest.mark.parametrize(("modalities", "patch"), [(1, (16, 16, 16)), (2, (16, 24, 32)), (3, (16, 32))])
def test_an_image_labels_and_noise_become_an_image(
    modalities: int, patch: tuple[int, ...], mode: Any, boundary: Any
) -> None:
    network = Generator(4, modalities, patch=patch, width=2, mode=mode, boundary=boundary)
    image, labels, noise = inputs(patch, modalities)
    made = network(image, labels, noise, torch.rand_like(image[:, :1]) if boundary == "given" else None)
    assert made.shape == image.shape
    assert made.abs().max() <= 1
    made.square().mean().backward()
    assert_finite_gradients(network)


def test_the_generator_has_the_sizes_of_the_fact_sheet() -> None:
    with torch.device("meta"):
        network, literal = Generator(4, 2), Generator(4, 2, mode="vector")
        finding = Generator(4, 2, boundary="found")
    assert network.boundary is None
    assert finding.boundary is not None
    assert count(network.image_encoder) == 2_375_616  # 2.4 M
    labels = count(network.label_encoder) + count(network.label_code)
    assert network.embedding is not None
    assert labels + network.embedding.numel() == 75_376  # 0.08 M
    assert count(finding.boundary) == 7_825  # 8 k
    decoder = [network.first, network.layers, network.gt_layers, network.output]
    assert sum(count(part) for part in decoder) == 8_879_704  # 8.9 M
    assert count(network) == 11_330_696
    assert count(finding) == count(network) + 7_825
    assert count(literal) == count(network) - 4 * 64


def test_the_same_seed_gives_the_same_generator() -> None:
    assert_same_by_seed(lambda: Generator(3, 1, patch=(16, 16), width=2))


@pytest.mark.parametrize("layout", [True, False])
def test_a_gt_layer_that_maps_to_zero_is_instance_norm(layout: bool) -> None:
    x, codes = torch.randn(2, 5, 8, 8), torch.randn(2, 4, 6) if layout else torch.randn(2, 6)
    where = torch.rand(2, 4, 8, 8) if layout else None
    layer = GTLayer(5, 6, width=7)
    nn.init.zeros_(layer.mapping[-1].weight)  # type: ignore[arg-type]
    assert torch.equal(layer(x, codes, where), instance_norm(x, eps=1e-5))


def test_a_gt_layer_is_equation_1_with_its_brackets_repaired() -> None:
    """Worked by hand: two labels of scale 3 and 1, shift 5 and -1; features 0 and 2, of mean and deviation 1."""
    layer = GTLayer(1, 2, width=2)
    layer.mapping = nn.Linear(2, 2, bias=False)
    layer.mapping.weight.data = torch.tensor([[2.0, 0.0], [5.0, -1.0]])
    x = torch.tensor([[[[0.0, 2.0, 0.0, 2.0]]]])
    codes = torch.eye(2)[None]
    labels = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])[None, :, None]
    expected = torch.tensor([[[[3 * -1 + 5, 3 * 1 + 5, 1 * -1 - 1, 1 * 1 - 1]]]]).float()
    torch.testing.assert_close(layer(x, codes, labels), expected, rtol=0, atol=1e-4)
    everywhere = layer(x, codes[:, 0])
    torch.testing.assert_close(everywhere, torch.tensor([[[[2.0, 8, 2, 8]]]]), rtol=0, atol=1e-4)


def modulation(network: Generator, level: int, labels: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    """What a GT layer makes of features of noise alone, of which every voxel is told from the others by it alone."""
    seen: list[Tensor] = []

    def shift(layer: GTLayer, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.zeros_like(arguments[0]), *arguments[1:])

    layer = network.gt_layers[level]
    hooks = [layer.register_forward_pre_hook(shift), layer.register_forward_hook(lambda *a: seen.append(a[-1]))]
    network(given[0], labels, given[2], torch.zeros_like(given[0][:, :1]))
    for hook in hooks:
        hook.remove()
    return seen[0]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_vector_is_the_same_everywhere_and_tissues_are_where_the_labels_have_them(level: int) -> None:
    patch = (16, 32)
    image, labels, noise = inputs(patch)
    given = (image, labels, noise)
    for mode in ("vector", "tissue"):
        torch.manual_seed(0)
        network = Generator(4, 2, patch=patch, width=4, mode=mode)  # type: ignore[arg-type]
        shift = modulation(network, level, labels, given)
        varies = (shift.flatten(2).std(2) > 1e-5).any()
        assert varies == (mode == "tissue")
        moved = modulation(network, level, labels.roll(1, 1), given)
        assert not torch.allclose(shift, moved)
    # Where the labels are mirrored, so is the modulation, as the codes are those of the tissues.
    flat = torch.zeros_like(labels)
    flat[:, 1, :, :16], flat[:, 2, :, 16:] = 1, 1
    shift = modulation(network, level, flat, given)
    assert (shift[..., 0] - shift[..., -1]).abs().max() > 1e-4
    torch.testing.assert_close(shift[..., 0], shift[..., 1], rtol=0, atol=1e-6)


def test_a_tissue_without_a_voxel_has_a_code_and_voxels_without_a_label_are_normalised_alone() -> None:
    network = Generator(3, 1, patch=(16, 16), width=2)
    image, labels, noise = inputs((16, 16), 1, 3)
    labels[:, 2] = 0
    codes = network.codes(labels)
    assert network.embedding is not None
    torch.testing.assert_close(codes[0, 2], network.label_code.bias + network.embedding[2])
    shift = modulation(network, 3, torch.zeros_like(labels), (image, labels, noise))
    assert not shift.any()


@pytest.mark.parametrize("mode", ["tissue", "vector"])
@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 16)])
def test_the_scale_of_an_image_matters_about_as_much_as_which_image_it_is(patch: tuple[int, ...], mode: Any) -> None:
    """With instance norm in its encoder an image of half the contrast made the same image, but for rounding."""
    torch.manual_seed(0)
    network = Generator(4, 2, patch=patch, width=4, mode=mode)
    image, labels, noise = inputs(patch)
    edges = torch.zeros_like(image[:, :1])
    made, of_half, of_other = (network(x, labels, noise, edges) for x in (image, image / 2, image.roll(1, 0)))
    assert (made - of_half).abs().mean() > 0.25 * (made - of_other).abs().mean() > 1e-4


def test_a_given_boundary_replaces_the_networks_own() -> None:
    network = Generator(3, 1, patch=(16, 16), width=2, boundary="found")
    image, labels, noise = inputs((16, 16), 1, 3)
    own = network(image, labels, noise)
    assert torch.equal(network(image, labels, noise, network.boundaries(image).sigmoid()), own)
    assert not torch.equal(network(image, labels, noise, torch.zeros_like(image)), own)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Generator(4, 1, mode="voxel"), "mode is 'voxel'"),  # type: ignore[arg-type]
        (lambda: Generator(4, 1, width=3), "width is 3, expected an even number"),
        (lambda: Generator(4, 1, patch=(8, 16, 16)), r"patch is \[8, 16, 16\], .*divisible by 8 and at least 16"),
        (lambda: Generator(4, 1, patch=(16, 16), boundary="net"), "boundary is 'net'"),  # type: ignore[arg-type]
        (lambda: Generator(4, 1, patch=(16, 16)).boundaries(torch.zeros(1)), "it has no boundary network; give it"),
        (lambda: Generator(4, 1, patch=(16, 16))(*inputs((16, 16), 1)), "no boundary network; give it"),
        (
            lambda: Generator(4, 1, patch=(16, 16), width=2)(*inputs((16, 24), 1)),
            r"the image is \(16, 24\) voxels, its patch \(16, 16\); give the network the data's patch",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
