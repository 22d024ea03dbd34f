from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from segan_pl.data.labels import label_scheme
from segan_pl.evaluation.volumes import as_written, centre, threshold


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


@pytest.mark.parametrize("convention", ["brats2015", "brats2017", "brats2023", "brats2024", "msd"])
@pytest.mark.parametrize("target", ["regions", "whole_tumour", "labels"])
def test_what_is_scored_is_what_a_file_of_labels_holds(target: str, convention: str) -> None:
    scheme = label_scheme(target, convention)
    channels = len(scheme.channels)
    masks = np.array(list(itertools.product([False, True], repeat=channels))).T  # every combination of channels
    if scheme.activation == "softmax":
        masks = np.eye(channels, dtype=bool)
    expected = scheme.encode(scheme.decode(masks)).astype(bool)
    found = as_written(torch.from_numpy(masks), scheme)
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_core_outside_the_whole_tumour_is_scored_as_part_of_it() -> None:
    mask = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]]).bool().view(3, 1, 1, 4)  # WT, TC, ET
    found = as_written(mask, label_scheme("regions")).view(3, 4).int()
    assert found.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]]
