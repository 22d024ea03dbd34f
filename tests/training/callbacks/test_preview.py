from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback
from matplotlib.colors import to_rgb

from segan_pl.evaluation.previews import PreviewSlice
from segan_pl.training.callbacks.preview import Preview, draw
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = QUIET


def a_slice(name: str = "case_1", reference: int | None = None) -> PreviewSlice:
    """A bright disc on noise; the reference is the disc, or constant."""
    y, x = np.mgrid[-1:1:48j, -1:1:40j]
    disc = (x**2 + y**2 < 0.2).astype(np.uint8)
    image = (disc + np.random.default_rng(0).normal(0, 0.1, disc.shape)).astype(np.float32)
    mask = disc if reference is None else np.full_like(disc, reference)
    return PreviewSlice(name, 31, image, mask, disc, ("wt",), (0.9 * disc).astype(np.float32))


class Previewed(Toy):
    """Leaves four slices at each validation."""

    def on_validation_epoch_end(self) -> None:
        self.previews.extend(a_slice(f"case_{number}") for number in range(4))


class Lengths(Callback):
    """Notes how many slices are left after each validation."""

    def __init__(self) -> None:
        self.left: list[int] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:  # type: ignore[no-untyped-def]
        self.left.append(len(pl_module.previews))


def test_each_validation_gets_a_picture_named_by_its_epoch_and_the_list_is_emptied(tmp_path: Path) -> None:
    lengths = Lengths()
    trainer(tmp_path, Preview(tmp_path), lengths, epochs=2).fit(Previewed(), loader(), loader(1))
    pictures = sorted((tmp_path / "previews").iterdir())
    assert [path.name for path in pictures] == ["epoch_0000.png", "epoch_0001.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert lengths.left == [0, 0]


def test_only_every_nth_validation_is_drawn_and_all_are_emptied(tmp_path: Path) -> None:
    lengths = Lengths()
    trainer(tmp_path, Preview(tmp_path, every=2), lengths, epochs=3).fit(Previewed(), loader(), loader(1))
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == ["epoch_0000.png", "epoch_0002.png"]
    assert lengths.left == [0, 0, 0]


def test_nothing_is_drawn_where_nothing_was_kept(tmp_path: Path) -> None:
    trainer(tmp_path, Preview(tmp_path), epochs=1).fit(Toy(), loader(), loader(1))
    assert not (tmp_path / "previews").exists()


def test_a_picture_has_three_panels_a_slice_and_a_colour_bar() -> None:
    figure = draw([a_slice("case_1"), a_slice("case_2")], "epoch 7")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [
        f"case_{n}\nslice 31" if i == 0 else t for n in (1, 2) for i, t in enumerate(("", "reference", "probability"))
    ]
    assert len(figure.axes) == 2 * 3 + 2
    assert len(figure.axes[1].collections) == 1, "the outline is missing"


def test_of_several_regions_each_has_its_colour_in_the_reference_and_in_the_prediction() -> None:
    reference, prediction = np.zeros((2, 48, 40), np.uint8)
    reference[4:9, 5:8], reference[20:24, 5:8], prediction[30:33, 9:12] = 1, 2, 3
    one = PreviewSlice("case_1", 3, np.zeros((48, 40), np.float32), reference, prediction, ("csf", "gm", "wm"))
    figure = draw([one], "epoch 1")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["case_1\nslice 3", "reference", "prediction"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["csf", "gm", "wm"]
    colours = [to_rgb(patch.get_facecolor()) for patch in legend.get_patches()]
    for axis, numbers in ((figure.axes[1], reference), (figure.axes[2], prediction)):
        _, *tints = (np.asarray(image.get_array()) for image in axis.get_images())
        for number, (tint, colour) in enumerate(zip(tints, colours, strict=True), 1):
            np.testing.assert_array_equal(tint[..., 3] > 0, numbers == number)
            assert not (numbers == number).any() or np.allclose(tint[numbers == number][:, :3], colour)


@pytest.mark.parametrize("regions", [1, 3])
def test_pixels_have_their_true_shape_in_every_panel(regions: int) -> None:
    probability = np.zeros((20, 10), np.float32) if regions == 1 else None
    names, mask = ("csf", "gm", "wm")[:regions], np.ones((20, 10), np.uint8)
    one = PreviewSlice("a", 0, np.zeros((20, 10), np.float32), mask, mask, names, probability, aspect=1.6)
    figure = draw([one], "epoch 1")
    figure.canvas.draw()
    panels = [axis for axis in figure.axes if axis.get_images() and axis.get_title()]
    assert len(panels) == 3
    for axis in panels:
        box = axis.get_window_extent()
        assert box.height / box.width == pytest.approx(20 * 1.6 / 10, rel=0.02)


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_reference_is_drawn_without_an_outline_or_a_warning(constant: int) -> None:
    figure = draw([a_slice(reference=constant)], "epoch 0")
    figure.canvas.draw()
    assert not figure.axes[1].collections


def test_pyplot_is_not_needed() -> None:
    source = Path(sys.modules[Preview.__module__].__file__ or "").read_text(encoding="utf-8")
    assert "import matplotlib.pyplot" not in source
