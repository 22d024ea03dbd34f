from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import one_hot

from segan_pl.losses.boundary import boundary_loss, label_boundary


@pytest.mark.parametrize("axes", [2, 3])
def test_the_boundary_is_the_morphological_gradient_of_the_labels(axes: int) -> None:
    labels = torch.randint(0, 3, (2, *[3] * axes), generator=torch.Generator().manual_seed(0))
    for axis in range(1, axes + 1):
        labels = labels.repeat_interleave(4, axis)
    found = label_boundary(one_hot(labels, 3).movedim(-1, 1).float())
    assert found.shape == (2, 1, *[12] * axes)
    for one, own in zip(labels.numpy(), found[:, 0].numpy(), strict=True):
        expected = ndimage.morphological_gradient(one, size=3, mode="nearest") > 0
        assert np.array_equal(own, expected)
        assert 0 < expected.mean() < 1


def test_one_border_has_a_voxel_on_each_side_and_one_label_has_none() -> None:
    target = torch.zeros(1, 2, 1, 6)
    target[:, 0, :, :3], target[:, 1, :, 3:] = 1, 1
    assert label_boundary(target).flatten().tolist() == [0, 0, 1, 1, 0, 0]
    assert not label_boundary(torch.ones(1, 1, 4, 4)).any()


def test_the_loss_falls_towards_the_boundary_and_does_not_see_masked_voxels() -> None:
    boundary = torch.tensor([0.0, 0, 1, 1, 0, 0]).reshape(1, 1, 1, 6)
    right, wrong = 20 * (boundary - 0.5), -20 * (boundary - 0.5)
    assert boundary_loss(right, boundary).item() == pytest.approx(0, abs=1e-3)
    assert boundary_loss(wrong, boundary) > 10
    mask = torch.tensor([True, True, True, False, True, True]).reshape(1, 1, 1, 6)
    spoilt = right.clone()
    spoilt[..., 3] = -1e3
    assert boundary_loss(spoilt, boundary, mask=mask) == boundary_loss(right, boundary, mask=mask)
