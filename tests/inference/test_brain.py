"""Windows of background alone, and predictions that stay in the brain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference import Average
from segan_pl.inference.brain import brain_of, clipped_note, kept_inside, nothing_found, require_predict_in
from segan_pl.inference.inferer import Windows, over_volume
from segan_pl.inference.prediction import Settings
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import probabilities
from segan_pl.losses.activation import Activation, activate
from tests.inference.segmentors import segmentor

BOX = (slice(5, 11), slice(6, 15), slice(12, 20))


class Counting:
    """Three channels that depend on place and image, and how many windows were seen."""

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, part: Tensor) -> Tensor:
        """(B, 1, *patch) to (B, 3, *patch)."""
        self.windows += len(part)
        ramp = torch.arange(part.shape[-1], dtype=part.dtype) / 7
        return torch.cat([part, ramp - part, part * ramp], 1)


def brain_in_air(background: float = 0.0) -> Tensor:
    """(1, 16, 24, 40), noise in a box of air."""
    image = torch.full((1, 16, 24, 40), background)
    generator = torch.Generator().manual_seed(0)
    image[0][BOX] = background + 1 + torch.rand(6, 9, 8, generator=generator)
    return image


@pytest.mark.parametrize("background", [0.0, -1.0, 0.1])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_skipping_changes_no_voxel_of_the_brain_and_leaves_background_where_nothing_ran(
    background: float, batch: int, average: Average, activation: Activation
) -> None:
    image, inside = brain_in_air(background), torch.zeros(16, 24, 40, dtype=torch.bool)
    inside[BOX] = True
    windows = Windows(batch=batch, average=average)
    more: dict[str, Any] = {"patch": (8, 8, 8), "activation": activation, "channels": 3, "background": background}
    every, some = Counting(), Counting()
    whole = over_volume(every, image, windows=windows, wanted="probabilities", **more)
    found = over_volume(some, image, windows=replace(windows, skip_empty=True), wanted="probabilities", **more)
    assert torch.equal(found[:, inside], whole[:, inside])
    # Windows at 0, 4, 8 (z), 0, 4, 8, 12, 16 (y), 0, 4, ..., 32 (x); 3 x 4 x 3 of them meet 5-10, 6-14, 12-19.
    assert (every.windows, some.windows) == (3 * 5 * 9, 3 * 4 * 3)
    nobody = torch.ones(16, 24, 40, dtype=torch.bool)
    nobody[0:16, 0:20, 8:24] = False
    certain = nothing_found(3, activation, logits=False)
    torch.testing.assert_close(found[:, nobody], certain[:, None].expand(3, int(nobody.sum())), rtol=0, atol=1e-6)


def test_windows_that_are_not_run_have_no_share_in_the_mean() -> None:
    """Against MONAI's mean over the windows that are run, one by one."""
    image, windows = brain_in_air(), Windows(overlap=0.5, blend="gaussian", skip_empty=True)
    found = over_volume(Counting(), image, patch=(8, 8, 8), windows=windows, activation="sigmoid", channels=3)

    def weighed(part: Tensor) -> Tensor:
        run = float(part.any())
        return torch.cat([Counting()(part) * run, torch.full_like(part, run)], 1)

    sums = sliding_window_inference(image[None], (8, 8, 8), 1, weighed, overlap=0.5, mode="gaussian")
    values, share = torch.as_tensor(sums)[0].split([3, 1])
    run = share[0] > 0
    torch.testing.assert_close(found[:, run], (values / share)[:, run])
    assert (found[:, ~run] < -20).all()


def test_an_image_of_background_alone_runs_no_window() -> None:
    network = Counting()
    more: dict[str, Any] = {"patch": (8, 8, 8), "activation": "softmax", "channels": 3, "background": -1.0}
    found = over_volume(network, torch.full((1, 4, 9, 9), -1.0), windows=Windows(skip_empty=True), **more)
    assert network.windows == 0
    assert found.shape == (3, 4, 9, 9)
    assert (found.argmax(0) == 0).all()


def test_the_brain_is_where_a_modality_that_is_there_is_not_background() -> None:
    image = torch.tensor([[0.1, 0.1, 0.5], [0.1, 0.7, 0.1]])
    stored = image.half().float()  # 0.1 is another number there
    assert brain_of(stored, 0.1).tolist() == [False, True, True]
    assert brain_of(stored.half(), 0.1, torch.tensor([True, False])).tolist() == [False, False, True]


def test_what_a_preparation_clips_of_the_brain_is_noted() -> None:
    note = clipped_note(Preparation(percentiles=(1, 99), statistics_mask="nonzero").as_dict())
    assert note is not None
    assert "leave out its darkest 1 %" in note
    assert "(percentiles [1, 99] of the nonzero voxels); -c tissue_preparation clips none" in note
    assert clipped_note(Preparation().as_dict()) is None


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_outside_the_brain_a_voxel_is_certainly_background_as_logits_and_as_probabilities(
    activation: Activation,
) -> None:
    logits, brain = torch.randn(3, 2, 4, 4), torch.rand(2, 4, 4) > 0.5
    found = kept_inside(logits, brain, activation, logits=True)
    of_probabilities = kept_inside(activate(logits[None], activation)[0], brain, activation, logits=False)
    torch.testing.assert_close(activate(found[None], activation)[0], of_probabilities, rtol=0, atol=1e-6)
    assert torch.equal(found[:, brain], logits[:, brain])
    assert of_probabilities[:, ~brain].unique().tolist() == ([0, 1] if activation == "softmax" else [0])
    assert kept_inside(logits, None, activation, logits=True) is logits


@pytest.mark.parametrize("patch", [(8, 8), (8, 8, 8)])
@pytest.mark.parametrize("mirror", [(), (0, 2)])
def test_a_segmentor_predicts_in_the_brain_where_it_was_validated_so_or_is_asked_to(
    patch: tuple[int, ...], mirror: tuple[int, ...]
) -> None:
    """One that finds tumour everywhere; what it is told to leave out is left out of the file's labels."""
    everywhere = segmentor("t1", logits=lambda image: 3 - image[:, :1], patch=patch)
    everywhere = replace(everywhere, preparation=Preparation(crop=None, scaling="zscore"))
    image = np.zeros((10, 16, 16), np.int16)
    image[2:7, 3:12, 4:9] = np.random.default_rng(0).integers(1, 99, (5, 9, 5))
    inside = replace(everywhere, predict_in="brain")
    for one, asked, expected in (
        (everywhere, None, np.ones_like(image, bool)),
        (everywhere, "brain", image != 0),
        (inside, None, image != 0),
        (inside, "anywhere", np.ones_like(image, bool)),
    ):
        settings = Settings(predict_in=asked, mirror=mirror)  # type: ignore[arg-type]
        found = Predictor([one], settings)({"t1": image}, spacing_mm=(1, 1, 1), probability=True)
        np.testing.assert_array_equal(found.label > 0, expected)
        assert found.probability is not None
        np.testing.assert_array_equal(found.probability[0] > 0, expected)


def test_mirrored_windows_of_air_are_skipped_too() -> None:
    seen: list[bool] = []

    def network(part: Tensor) -> Tensor:
        seen.append(bool(part.any()))
        return part[:, :1]

    one = replace(segmentor("t1", logits=network, patch=(8, 8, 8)), windows=Windows(skip_empty=True))
    with_mirror = probabilities(one, brain_in_air(), mirror=(2,))
    assert all(seen)
    torch.testing.assert_close(with_mirror[0][BOX], brain_in_air()[0][BOX].sigmoid())


def test_a_place_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"predict_in is 'skull', expected one of .*anywhere.*brain"):
        require_predict_in("skull")


def test_skipping_says_nothing_of_a_whole_volume_or_of_slices() -> None:
    with pytest.raises(UsageError, match=r"--model\.windows\.skip_empty True: means nothing with the windows' whole"):
        Windows(whole=16, skip_empty=True).require_sense((32, 32, 32))
    with pytest.raises(UsageError, match=r"--model\.windows\.skip_empty: of 3-D patches"):
        Windows(skip_empty=True).require_sense((32, 32))
