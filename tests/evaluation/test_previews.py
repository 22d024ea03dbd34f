"""Which slice is looked at, and what is seen in it."""

from __future__ import annotations

import numpy as np
import torch

from segan_pl.data.labels import label_scheme
from segan_pl.evaluation.previews import preview_slice


def test_a_small_region_counts_as_much_as_a_large_one() -> None:
    """All 4 voxels of CSF lie in slice 2, and less white matter than in slice 0."""
    scheme = label_scheme("labels", "iseg")
    label = np.zeros((3, 10, 10), np.uint8)
    label[0, :8], label[2, 5:], label[2, 0, :4] = 250, 250, 10
    target = torch.from_numpy(scheme.encode(label).copy())
    shown = preview_slice("a", torch.arange(300.0).reshape(3, 10, 10), target, target.float(), scheme, aspect=1.6)
    assert (shown.case, shown.z, shown.aspect) == ("a", 2, 1.6)
    assert shown.regions == ("csf", "gm", "wm")
    numbers = np.select([label[2] == 10, label[2] == 250], [1, 3])
    np.testing.assert_array_equal(shown.reference, numbers)
    np.testing.assert_array_equal(shown.prediction, numbers)
    np.testing.assert_array_equal(shown.image, np.arange(200.0, 300).reshape(10, 10))
    assert shown.probability is None
    assert shown.ignored is None


def test_of_overlapping_regions_the_last_is_seen_and_what_is_not_judged_is_in_none() -> None:
    scheme = label_scheme("regions")
    target = torch.zeros(3, 1, 2, 4, dtype=torch.int8)  # wt, tc, et
    target[0, 0, 0, :3], target[1, 0, 0, :2], target[2, 0, 0, 0] = 1, 1, 1
    target[:, 0, 1, 0] = -1
    logits = torch.full((3, 1, 2, 4), -1.0)
    logits[0, 0, 1], logits[2, 0, 1, 3] = 1, 1
    shown = preview_slice("a", torch.zeros(1, 2, 4), target, logits, scheme, ignored=target[0] < 0)
    assert shown.reference.tolist() == [[3, 2, 1, 0], [0, 0, 0, 0]]
    assert shown.prediction.tolist() == [[0, 0, 0, 0], [1, 1, 1, 3]]
    assert shown.ignored is not None
    assert shown.ignored.sum() == 1


def test_of_one_region_the_probability_is_kept_and_a_case_without_it_has_its_first_slice() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    shown = preview_slice("a", torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4), logits, label_scheme("whole_tumour"))
    assert (shown.z, shown.regions) == (0, ("wt",))
    assert shown.probability is not None
    np.testing.assert_allclose(shown.probability, logits[0, 0].sigmoid().numpy())
    np.testing.assert_array_equal(shown.prediction, logits[0, 0] > 0)
