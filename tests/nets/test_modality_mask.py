"""Planes of 0 and 1 behind the image: what they hold, who sees them, and that nobody pays for them unasked."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.nets import reciprocal, segan
from segan_pl.nets.modality_mask import (
    hide_missing,
    segmentor_channels,
    with_mask_channels,
    with_modality_mask,
    with_modality_mask_on_volumes,
)
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import PlainSegmentor
from tests.contracts import descent, take_phase, tiny_batch

PRESENT = torch.tensor([[True, False], [False, True]])


def partly(size: tuple[int, ...] = (32, 32)) -> Batch:
    """Two samples of two modalities, each with another one missing."""
    batch = tiny_batch(size=size)
    return batch._replace(image=batch.image * PRESENT.reshape(2, 2, *[1] * len(size)), modality_mask=PRESENT)


def inputs(network: nn.Module) -> list[Tensor]:
    """What a network is called with from now on."""
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach().clone()))
    return seen


@pytest.mark.parametrize("spatial", [(4, 6), (2, 4, 6)])
def test_mask_channels_follow_the_image_and_say_what_is_there(spatial: tuple[int, ...]) -> None:
    image = torch.randn(2, 2, *spatial).half()
    found = with_mask_channels(image, PRESENT)
    assert found.dtype == torch.float16
    assert torch.equal(found[:, :2], image)
    for sample, modality in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert (found[sample, 2 + modality] == float(PRESENT[sample, modality])).all()


def test_one_answer_serves_all_samples_alike() -> None:
    image = torch.randn(3, 2, 4, 4)
    alike = torch.tensor([[True, False]] * 3)
    assert torch.equal(with_mask_channels(image, torch.tensor([True, False])), with_mask_channels(image, alike))


@pytest.mark.parametrize(
    ("shape", "memory"), [((4, 6), torch.channels_last), ((3, 4, 6), torch.channels_last_3d)], ids=["2-D", "3-D"]
)
def test_mask_channels_keep_the_memory_format(shape: tuple[int, ...], memory: torch.memory_format) -> None:
    image = torch.randn(2, 2, *shape)
    assert with_mask_channels(image, PRESENT).is_contiguous()
    assert with_mask_channels(image.contiguous(memory_format=memory), PRESENT).is_contiguous(memory_format=memory)
    assert with_mask_channels(image.contiguous(), PRESENT).is_contiguous()


def test_without_mask_channels_the_network_is_called_as_it_is() -> None:
    network = PlainSegmentor(2, 1)
    assert with_modality_mask(network, PRESENT, "zeros") is network
    assert (segmentor_channels(4, "zeros"), segmentor_channels(4, "channels")) == (4, 8)


@pytest.mark.parametrize("spatial", [(4, 5), (3, 4, 5)])
def test_only_what_is_there_stays_whatever_the_rest_holds(spatial: tuple[int, ...]) -> None:
    image = torch.randn(3, 2, *spatial)
    image[:, 0, 0] = float("nan")
    found = hide_missing(image, torch.tensor([False, True]))
    assert not found[:, 0].any()
    assert torch.equal(found[:, 1], image[:, 1])


def test_a_whole_case_costs_nothing_more() -> None:
    network = PlainSegmentor(2, 1)
    assert with_modality_mask_on_volumes(network, torch.tensor([True, True]), "zeros") is network


@pytest.mark.parametrize("modality_mask", ["zeros", "channels"])
def test_an_absent_modality_is_zeros_to_the_border_where_padding_is_not(modality_mask: Any) -> None:
    told = system(modality_mask=modality_mask, slices=4).eval()
    seen = inputs(told.segmentor)
    told.trained_background = -1.0
    told.predict_volume(torch.rand(2, 3, 20, 30), torch.tensor([False, True]))
    (part,) = seen
    assert part.shape[-2:] == (32, 32)
    assert not part[:, 0].any()
    assert (part[:, 1, 20:] == -1).all()


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_the_segmentor_gets_the_mask_channels_and_the_critic_only_the_image(update: Any) -> None:
    objective, batch = SegAN(update=update), partly()
    networks = {"segmentor": segan.Segmentor(4, 1, width=2), "critic": segan.Critic(3, width=2)}
    to_segmentor, to_critic = inputs(networks["segmentor"]), inputs(networks["critic"])
    context = StepContext(networks, batch, "sigmoid", "channels")
    for phase in objective.phases():
        take_phase(phase, context, descent(networks))
    (image,) = to_segmentor
    assert torch.equal(image, with_mask_channels(batch.image, PRESENT))
    assert to_critic
    assert all(torch.equal(seen[:, :2], batch.image) and seen.shape[1] == 3 for seen in to_critic)


def test_a_changed_image_comes_with_the_same_mask() -> None:
    objective, batch = Reciprocal(), partly((16, 16, 16))
    networks = {"segmentor": reciprocal.Segmentor(4, 1, width=4), "critic": reciprocal.Critic(1, width=4)}
    seen = inputs(networks["segmentor"])
    objective.segmentor_loss(StepContext(networks, batch, "sigmoid", "channels"))
    mask_channels = with_mask_channels(batch.image, PRESENT)[:, 2:]
    assert len(seen) == 3
    assert all(torch.equal(image[:, 2:], mask_channels) for image in seen)


def system(**settings: Any) -> AdversarialSegmentation:
    torch.manual_seed(0)
    return AdversarialSegmentation(
        {"segmentor": partial(segan.Segmentor, width=2), "critic": partial(segan.Critic, width=2)},
        SegAN(),
        modalities=["t1", "flair"],
        labels="whole_tumour",
        **settings,
    )


def test_a_segmentor_with_mask_channels_reads_twice_as_many_channels_and_its_critic_does_not() -> None:
    plain, told = system(), system(modality_mask="channels")
    shapes = [{name: tuple(p.shape) for name, p in one.named_parameters()} for one in (plain, told)]
    differing = {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    (first,) = differing
    assert first.startswith("networks.segmentor.")
    assert (shapes[0][first][1], shapes[1][first][1]) == (2, 4)


def test_the_forward_pass_of_a_volume_tells_the_network_what_is_there() -> None:
    told = system(modality_mask="channels", slices=2).eval()
    seen = inputs(told.segmentor)
    image = torch.randn(2, 3, 20, 30)
    told.predict_volume(image, torch.tensor([False, True]))
    assert [tuple(part.shape) for part in seen] == [(2, 4, 32, 32), (1, 4, 32, 32)]
    assert all(not part[:, 2].any() and (part[:, 3] == 1).all() for part in seen)
    seen.clear()
    told.predict_volume(image)
    assert all((part[:, 2:] == 1).all() for part in seen)


def test_an_unknown_way_of_telling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"modality_mask is 'mask_channels', expected one of \('zeros', 'channels'\)"):
        system(modality_mask="mask_channels")
