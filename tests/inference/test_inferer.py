from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segan_pl.inference.inferer import pad_to_multiple, predict_slices
from segan_pl.nets.segan import Segmentor

VOLUME = torch.rand(2, 7, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> Segmentor:
    torch.manual_seed(0)
    return Segmentor(2, 3, width=2).eval()


@pytest.mark.parametrize("batch", [1, 3, 7, 32])
@torch.no_grad()
def test_slice_batches_give_what_one_batch_of_all_slices_gives(network: Segmentor, batch: int) -> None:
    whole = network(VOLUME.movedim(1, 0)).movedim(0, 1)
    torch.testing.assert_close(predict_slices(network, VOLUME, divisor=16, batch=batch), whole)


@torch.no_grad()
def test_slices_keep_their_order_and_place() -> None:
    found = predict_slices(lambda image: image[:, :1] - image[:, 1:], VOLUME, divisor=5, batch=2)
    assert torch.equal(found, VOLUME[:1] - VOLUME[1:])


@torch.no_grad()
def test_a_slice_is_padded_for_the_network_and_cropped_back(network: Segmentor) -> None:
    odd = VOLUME[:, :, :27, :33]
    padded = torch.zeros(2, 7, 32, 48)
    padded[..., :27, :33] = odd
    expected = network(padded.movedim(1, 0)).movedim(0, 1)[..., :27, :33]
    torch.testing.assert_close(predict_slices(network, odd, divisor=16), expected)


def test_padding_reaches_the_next_multiple_at_the_end() -> None:
    padded = pad_to_multiple(torch.ones(1, 17, 32), 16)
    assert padded.shape == (1, 32, 32)
    assert padded[:, :17].all()
    assert not padded[:, 17:].any()


@torch.no_grad()
def test_half_precision_volumes_reach_the_network_as_float32_in_its_memory_format() -> None:
    seen: list[Tensor] = []

    def look(image: Tensor) -> Tensor:
        seen.append(image)
        return image[:, :1]

    predict_slices(look, VOLUME.half(), divisor=1, batch=4, channels_last=True)
    predict_slices(look, VOLUME.half(), divisor=1, batch=4)
    assert [tuple(image.shape) for image in seen[:2]] == [(4, 2, 32, 48), (3, 2, 32, 48)]
    assert all(image.dtype == torch.float32 for image in seen)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[2].is_contiguous()
