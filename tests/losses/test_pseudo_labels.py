"""Pseudo-labels against SciPy, torch.distributions and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.distributions import Bernoulli, Categorical

from segan_pl.losses.pseudo_labels import (
    confidence,
    entropy,
    hard_labels,
    largest_components,
    largest_entropy,
    mean_where,
)


def test_the_likeliest_label_is_decided_for_and_of_equal_ones_the_first() -> None:
    probability = torch.tensor([[0.2, 0.5, 0.4], [0.7, 0.5, 0.3], [0.1, 0.0, 0.3]])[None]  # (1, 3 labels, 3 voxels)
    expected = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])[None]
    assert torch.equal(hard_labels(probability, "softmax"), expected)
    torch.testing.assert_close(confidence(probability, "softmax"), torch.tensor([[[0.7, 0.5, 0.4]]]))


def test_each_region_is_a_decision_of_its_own() -> None:
    probability = torch.tensor([[0.2, 0.9], [0.7, 0.5]])[None]
    assert torch.equal(hard_labels(probability, "sigmoid"), torch.tensor([[0.0, 1.0], [1.0, 0.0]])[None])
    torch.testing.assert_close(confidence(probability, "sigmoid"), torch.tensor([[0.8, 0.9], [0.7, 0.5]])[None])


def test_entropies_are_those_of_the_distributions() -> None:
    logits = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    categorical = Categorical(logits=logits.movedim(1, -1)).entropy()[:, None]
    torch.testing.assert_close(entropy(logits.softmax(1), "softmax"), categorical)
    torch.testing.assert_close(entropy(logits.sigmoid(), "sigmoid"), Bernoulli(logits=logits).entropy())


def test_entropy_lies_between_0_and_its_bound() -> None:
    for activation, channels in (("softmax", 4), ("sigmoid", 2)):
        unsure = torch.full((1, channels, 3), 1 / channels)
        bound = largest_entropy(channels, activation)  # type: ignore[arg-type]
        torch.testing.assert_close(entropy(unsure, activation).amax().item(), bound)  # type: ignore[arg-type]
        sure = torch.eye(channels)[None]
        assert not entropy(sure, activation).any()  # type: ignore[arg-type]
    assert largest_entropy(3, "sigmoid") == math.log(2)


def test_a_mean_is_over_the_chosen_elements_and_0_where_none_is() -> None:
    terms = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None].requires_grad_()
    of_voxels, of_each = torch.tensor([[[True, False]]]), torch.tensor([[[True, False], [False, True]]])
    assert mean_where(terms, of_voxels).item() == 2.0
    assert mean_where(terms, of_each).item() == 2.5
    nothing = mean_where(terms, torch.zeros(1, 1, 2, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0
    assert terms.grad is not None
    assert not terms.grad.any()


def test_a_voxel_that_is_not_chosen_may_hold_anything() -> None:
    assert mean_where(torch.tensor([[[1.0, math.nan]]]), torch.tensor([[[True, False]]])).item() == 1


@pytest.mark.parametrize("size", [(24, 24), (10, 12, 9)])
def test_the_largest_components_are_scipys(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(4)
    label = torch.randint(3, (2, *size), generator=generator) * (torch.rand(2, *size, generator=generator) > 0.6)
    labels = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    found = largest_components(labels, "softmax")
    assert torch.equal(found.sum(1), torch.ones(2, *size))
    for sample in range(2):
        for channel in (1, 2):
            mask = labels[sample, channel].numpy() > 0
            components, _ = ndimage.label(mask, ndimage.generate_binary_structure(len(size), len(size)))
            sizes = np.bincount(components.ravel())[1:]
            assert found[sample, channel].sum() == sizes.max() < mask.sum()
            assert (mask | (found[sample, channel].numpy() == 0)).all()


def test_regions_have_a_largest_component_each_and_an_empty_one_stays_empty() -> None:
    labels = torch.zeros(1, 2, 5, 5)
    labels[0, 0, 0, :2] = labels[0, 0, 3, 3] = 1
    found = largest_components(labels, "sigmoid")
    assert found[0, 0].nonzero().tolist() == [[0, 0], [0, 1]]
    assert not found[0, 1].any()
