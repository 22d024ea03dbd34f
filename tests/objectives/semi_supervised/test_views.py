"""Changed views and boxes: drawn from the seeds alone, on their scale, and nothing where a modality is missing."""

from __future__ import annotations

import pytest
import torch

from segan_pl.objectives.semi_supervised.views import StrongView, boxes
from tests.objectives.semi_supervised.contract import partly_labelled

SIZES = [(20, 26), (10, 12, 14)]


@pytest.mark.parametrize("size", SIZES)
def test_a_view_follows_from_the_seed_of_each_sample(size: tuple[int, ...]) -> None:
    batch, view = partly_labelled(size=size), StrongView()
    changed = view(batch)
    assert torch.equal(view(batch), changed)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = view(type(batch)(*(field[order] for field in batch)))
    torch.testing.assert_close(shuffled, changed[order])
    other = view(batch._replace(seed=batch.seed + 1))
    assert not any(torch.equal(one, two) for one, two in zip(other, changed, strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_a_view_has_the_scale_of_its_image(size: tuple[int, ...]) -> None:
    batch, view = partly_labelled(size=size, dtype=torch.float64), StrongView()
    scaled = view(batch._replace(image=100 * batch.image - 7))
    torch.testing.assert_close(scaled, 100 * view(batch) - 7)


def test_each_change_alone_does_what_it_says() -> None:
    batch = partly_labelled(size=(30, 30), dtype=torch.float64)
    image = batch.image
    none = {"brightness": 0.0, "contrast": (1.0, 1.0), "gamma": (1.0, 1.0), "noise": 0.0, "cutout": 0.0}
    torch.testing.assert_close(StrongView(**none)(batch), image)
    shift = StrongView(**{**none, "brightness": 0.5})(batch) - image
    deviation = image.std((2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift))
    assert (shift.abs() <= 0.5 * deviation + 1e-12).all()
    contrasted = StrongView(**{**none, "contrast": (0.5, 1.5)})(batch)
    torch.testing.assert_close(contrasted.mean((2, 3)), image.mean((2, 3)))
    factor = contrasted.std((2, 3)) / image.std((2, 3))
    assert ((factor >= 0.5) & (factor <= 1.5)).all()
    assert factor.unique().numel() == factor.numel()
    bent = StrongView(**{**none, "gamma": (0.5, 2.0)})(batch)
    for extreme in ("amin", "amax"):
        torch.testing.assert_close(getattr(bent, extreme)((2, 3)), getattr(image, extreme)((2, 3)))
    assert torch.equal(bent.flatten(2).argsort(2), image.flatten(2).argsort(2))
    noise = (StrongView(**{**none, "noise": 0.2})(batch) - image) / deviation
    assert (noise.std((2, 3)) < 0.22).all()
    cut = StrongView(**{**none, "cutout": 1 / 3})(batch) - image
    assert ((cut.abs() > 1e-9).flatten(2).sum(2) == 100).all()


def test_a_missing_modality_stays_missing() -> None:
    batch = partly_labelled(size=(20, 20))
    batch.modality_mask[1, 0] = False
    batch.image[1, 0] = 0
    changed = StrongView()(batch)
    assert not changed[1, 0].any()
    assert changed[1, 1].any()


def test_an_even_patch_stays_finite() -> None:
    batch = partly_labelled(size=(20, 20))
    assert StrongView()(batch._replace(image=torch.zeros_like(batch.image))).isfinite().all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [1 / 3, 2 / 3])
def test_a_box_has_its_share_of_each_side_and_lies_anywhere(size: tuple[int, ...], share: float) -> None:
    seeds = torch.arange(400) * 104729
    inside = boxes(seeds, 1, size, share)
    assert inside.shape == (400, 1, *size)
    for axis, side in enumerate(size):
        others = [2 + other for other in range(len(size)) if other != axis]
        along = inside.any(1).amax([dim - 1 for dim in others])  # (400, side)
        assert (along.sum(1) == int(side * share)).all()
        first = along.int().argmax(1)
        assert set(first.tolist()) == set(range(side - int(side * share) + 1))
    sides = torch.tensor([int(side * share) for side in size])
    assert (inside.flatten(1).sum(1) == sides.prod()).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"brightness": -1.0}, "brightness is -1.0, expected a number of standard deviations"),
        ({"noise": float("inf")}, "noise is inf"),
        ({"contrast": (1.5, 0.5)}, r"contrast is \[1.5, 0.5\], expected two numbers above 0"),
        ({"gamma": (0.0, 2.0)}, "gamma"),
        ({"cutout": 1.0}, "cutout is 1.0, expected a share"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        StrongView(**options)  # type: ignore[arg-type]
