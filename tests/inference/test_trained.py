from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from segan_pl.data.labels import label_scheme
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference import Average
from segan_pl.inference.inferer import Windows, over_volume
from segan_pl.inference.native_labels import decide, vote
from segan_pl.inference.trained import TrainedSegmentor, probabilities
from segan_pl.losses.activation import Activation, activate


class Ramp(nn.Module):
    """Adds a ramp along the last axis, so that mirroring matters."""

    divisor = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        """(B, M, *spatial) to (B, 1, *spatial)."""
        self.sizes.append(tuple(image.shape))
        return self.weight * image.sum(1, keepdim=True) + torch.arange(image.shape[-1], dtype=image.dtype) / 10


def segmentor(network: nn.Module, patch: tuple[int, ...] = (16, 16), slices: int = 3) -> TrainedSegmentor:
    scheme = label_scheme("whole_tumour")
    modalities = ("t1", "flair")
    return TrainedSegmentor(
        network, modalities, scheme, Preparation(), patch, slices, False, torch.float32, Path("x"), ""
    )


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 5, 10, 13, generator=torch.Generator().manual_seed(0))


def test_slices_give_the_probability_of_each_voxel(image: Tensor) -> None:
    network = Ramp()
    found = probabilities(segmentor(network), image.half())
    expected = (image.half().float().sum(0) + torch.arange(13) / 10).sigmoid()
    torch.testing.assert_close(found, expected[None])
    assert network.sizes == [(3, 2, 12, 16), (2, 2, 12, 16)]


def test_mirroring_is_the_mean_over_all_combinations_flipped_back(image: Tensor) -> None:
    found = probabilities(segmentor(Ramp()), image[..., :12], mirror=(1, 2))
    ramp = torch.arange(12) / 10
    total = image[..., :12].sum(0)
    expected = ((total + ramp).sigmoid() + (total + ramp.flip(0)).sigmoid()) / 2  # y does not matter to a ramp along x
    torch.testing.assert_close(found, expected[None])


def test_a_3d_network_walks_in_monais_windows_to_the_border(image: Tensor) -> None:
    network = Ramp()
    found = probabilities(segmentor(network, patch=(4, 8, 8)), image, windows=Windows(0.25, "constant", 2))
    reference = sliding_window_inference(image[None], (4, 8, 8), 2, Ramp(), overlap=0.25, mode="constant")
    torch.testing.assert_close(found, torch.as_tensor(reference)[0].sigmoid())
    assert {size[2:] for size in network.sizes} == {(4, 8, 8)}


def test_a_volume_smaller_than_the_window_is_padded(image: Tensor) -> None:
    assert probabilities(segmentor(Ramp(), patch=(8, 16, 16)), image).shape == (1, 5, 10, 13)


def test_what_lies_around_a_small_volume_in_a_window_is_the_background(image: Tensor) -> None:
    def summing(window: Tensor) -> Tensor:
        return torch.zeros_like(window[:, :1]) + window[:, :1].sum()

    more = {"windows": Windows(blend="constant"), "activation": "sigmoid", "channels": 1, "background": -1.0}
    found = over_volume(summing, image, patch=(8, 12, 16), **more)
    added = 8 * 12 * 16 - 5 * 10 * 13
    torch.testing.assert_close(found, (image[:1].sum() - added).expand(1, 5, 10, 13))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_logits_of_averaged_probabilities_give_these_again(image: Tensor, activation: Activation) -> None:
    """Validation thresholds logits, so of a mean of probabilities it needs the log odds, or the logarithms."""

    def network(window: Tensor) -> Tensor:
        return torch.cat([Ramp()(window), -window.sum(1, keepdim=True)], 1)

    more = {"patch": (4, 8, 8), "windows": Windows(average="probabilities"), "activation": activation, "channels": 2}
    with torch.no_grad():
        mean, logits = (over_volume(network, image, wanted=wanted, **more) for wanted in ("probabilities", "logits"))
    torch.testing.assert_close(activate(logits[None], activation)[0], mean, rtol=1e-4, atol=1e-5)
    assert float((logits - mean).abs().max()) > 1
    if activation == "sigmoid":
        torch.testing.assert_close(logits > 0, mean > 0.5)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_a_whole_volume_is_padded_at_its_end_and_seen_once(image: Tensor, average: Average) -> None:
    network = Ramp()
    windows = Windows(whole=8, average=average)
    found = probabilities(segmentor(network, patch=(4, 8, 8)), image, windows=windows)
    torch.testing.assert_close(found, (image.sum(0) + torch.arange(13) / 10).sigmoid()[None])
    assert network.sizes == [(1, 2, 8, 16, 16)]


@pytest.mark.parametrize(("patch", "size"), [((4, 8, 8), (5, 16, 16)), ((7, 8, 8), (7, 16, 16))])
def test_a_network_of_any_depth_sees_a_whole_volumes_own_depth_or_the_patchs(
    image: Tensor, patch: tuple[int, ...], size: tuple[int, ...]
) -> None:
    network = Ramp()
    network.depth_divisor = 1
    found = probabilities(segmentor(network, patch=patch), image, windows=Windows(whole=8))
    torch.testing.assert_close(found, (image.sum(0) + torch.arange(13) / 10).sigmoid()[None])
    assert network.sizes == [(1, 2, *size)]


def test_what_lies_behind_a_whole_volume_is_the_background(image: Tensor) -> None:
    class Summing(torch.nn.Module):
        def forward(self, padded: Tensor) -> Tensor:
            return torch.zeros_like(padded[:, :1]) + padded[:, :1].sum()

    more = {"windows": Windows(whole=4), "activation": "sigmoid", "channels": 1, "background": -1.0}
    found = over_volume(Summing(), image, patch=(4, 8, 8), **more)
    added = 8 * 12 * 16 - 5 * 10 * 13
    torch.testing.assert_close(found, (image[:1].sum() - added).expand(1, 5, 10, 13))


def test_sigmoid_decides_above_a_half_and_softmax_for_the_first_of_equals() -> None:
    probability = torch.tensor([[0.5, 0.51, 0.2], [0.5, 0.2, 0.2]])
    np.testing.assert_array_equal(decide(probability, "sigmoid"), [[False, True, False], [False, False, False]])
    np.testing.assert_array_equal(decide(probability, "softmax"), [[True, True, True], [False, False, False]])


def test_three_equal_voters_decide_by_majority_whatever_their_confidence() -> None:
    sure, doubtful = torch.tensor([[0.99, 0.01]]), torch.tensor([[0.45, 0.55]])
    np.testing.assert_array_equal(vote([sure, doubtful, doubtful], [1, 1, 1], "sigmoid"), [[False, True]])


def test_weights_decide_as_the_authors_quarter_and_half_votes_do() -> None:
    yes, no = torch.tensor([[0.6]]), torch.tensor([[0.4]])
    assert vote([yes, yes, no, yes], [0.25, 0.25, 0.5, 0.5], "sigmoid").item()  # 1.0 of 1.5
    assert not vote([yes, no, no, yes], [0.25, 0.25, 0.5, 0.25], "sigmoid").item()  # 0.5 of 1.25


def test_a_tie_goes_to_the_larger_mean_probability_and_then_to_background() -> None:
    def tied(high: float, low: float) -> bool:
        return bool(vote([torch.tensor([[high]]), torch.tensor([[low]])], [0.5, 0.5], "sigmoid").item())

    assert tied(0.9, 0.4)
    assert not tied(0.6, 0.1)
    assert not tied(0.6, 0.4)


def test_labels_are_voted_for_and_a_tie_goes_to_the_larger_mean() -> None:
    a = torch.tensor([[0.5], [0.3], [0.2]])
    b = torch.tensor([[0.1], [0.8], [0.1]])
    c = torch.tensor([[0.45], [0.0], [0.55]])
    np.testing.assert_array_equal(vote([a, b], [1, 1], "softmax").squeeze(1), [False, True, False])
    np.testing.assert_array_equal(vote([a, a, b, c], [1, 1, 1, 1], "softmax").squeeze(1), [True, False, False])


@pytest.mark.parametrize("margin", [1e-2, 1e-3, 1e-4, 1e-6])
def test_a_tie_of_unequal_weights_is_one_in_any_order(margin: float) -> None:
    a = torch.tensor([[0.6], [0.4]])
    b = torch.tensor([[0.4 - margin], [0.6 + margin]])  # 0.1 + 0.2 votes of a against 0.3 of b
    for proposals, weights in (([a, a, b], [0.1, 0.2, 0.3]), ([b, a, a], [0.3, 0.2, 0.1])):
        np.testing.assert_array_equal(vote(proposals, weights, "softmax").squeeze(1), [False, True])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"overlap": 1.0}, r"the windows' overlap 1\.0: expected a share from 0 and below 1"),
        ({"overlap": -0.5}, "overlap -0.5"),
        ({"overlap": float("nan")}, "overlap nan"),
        ({"batch": 0}, "the windows' batch 0: expected at least 1 window"),
        ({"whole": 0}, "the windows' whole 0: expected the multiple that volumes are padded to"),
        ({"whole": 16, "step": (1, 2, 3)}, "have a step, and whole says that there are none"),
    ],
)
def test_windows_that_cannot_be_walked_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Windows(**given)


def by_hand(image: Tensor, patch: tuple[int, ...], starts: list[list[int]], early: bool) -> Tensor:
    """Every window's logits or probabilities, summed where they lie and divided by how many lie there."""
    total, number = torch.zeros(1, *image.shape[1:]), torch.zeros(image.shape[1:])
    for corner in product(*starts):
        box = tuple(slice(start, start + side) for start, side in zip(corner, patch, strict=True))
        logits = Ramp()(image[None, :, *box])[0].detach()
        total[:, *box] += logits.sigmoid() if early else logits
        number[box] += 1
    return total / number if early else (total / number).sigmoid()


@pytest.mark.parametrize(("average", "early"), [("probabilities", True), ("logits", False)])
def test_windows_at_steps_of_voxels_are_averaged_as_asked_and_the_last_lies_at_the_border(
    image: Tensor, average: Literal["logits", "probabilities"], early: bool
) -> None:
    windows = Windows(blend="constant", batch=3, step=(2, 3, 4), average=average)
    found = probabilities(segmentor(Ramp(), patch=(2, 8, 8)), image, windows=windows)
    starts = [[0, 2, 3], [0, 2], [0, 4, 5]]  # of 5 x 10 x 13 voxels; no voxel is left out, which AlbuNet's code did
    torch.testing.assert_close(found, by_hand(image, (2, 8, 8), starts, early))
    assert not torch.allclose(found, by_hand(image, (2, 8, 8), starts, not early), atol=1e-3)


@pytest.mark.parametrize("patch", [24, 25, 96, 97, 128])
def test_every_step_up_to_the_patch_is_walked_to_the_voxel(patch: int) -> None:
    for step in range(1, patch + 1):
        assert int(patch * (1 - Windows(step=(step,)).overlaps((patch,))[0])) == step


@pytest.mark.parametrize("step", [(24, 32), (0, 32, 32), (25, 32, 32)])
def test_a_step_that_does_not_fit_the_patch_is_refused(step: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"step is \(.*\), expected 1 up to the patch \(24, 128, 128\) an axis"):
        Windows(step=step).overlaps((24, 128, 128))
