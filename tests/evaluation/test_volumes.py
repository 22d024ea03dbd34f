from __future__ import annotations

import numpy as np
import pytest
import torch

from segan_pl.evaluation.volumes import centre, gather, threshold


def test_a_region_is_where_its_probability_exceeds_a_half() -> None:
    logits = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(threshold(logits, "sigmoid"), logits.sigmoid() > 0.5)
    assert not threshold(torch.zeros(1, 1, 1, 1), "sigmoid").any()


def test_exclusive_labels_go_to_the_most_probable() -> None:
    logits = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    mask = threshold(logits, "softmax")
    assert mask.dtype == torch.bool
    assert torch.equal(mask.sum(0), torch.ones(3, 5, 6, dtype=torch.int64))
    np.testing.assert_array_equal(mask.int().argmax(0), logits.softmax(0).argmax(0))


@pytest.mark.parametrize(("size", "first"), [((128, 180, 180), (0, 10, 10)), ((7, 9, 8), (0, 0, 0))])
def test_the_centre_is_the_papers_crop_or_all_there_is(size: tuple[int, int, int], first: tuple[int, int, int]) -> None:
    place = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    found = centre(place, (128, 160, 160))
    assert found.shape == (3, *(min(n, w) for n, w in zip(size, (128, 160, 160), strict=True)))
    assert tuple(found[:, 0, 0, 0].tolist()) == first


def test_without_ranks_the_counts_are_this_processs() -> None:
    assert gather({3: [[1, 2, 3, 4]], 1: [[5, 6, 7, 8]]}) == [(3, [[1, 2, 3, 4]]), (1, [[5, 6, 7, 8]])]
