from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback

from segan_pl.evaluation.volumes import PreviewSlice
from segan_pl.training.callbacks.preview import Preview, draw
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = QUIET


def a_slice(name: str = "case_1", reference: int | None = None) -> PreviewSlice:
    """A bright disc on noise; the reference is the disc, or constant."""
    y, x = np.mgrid[-1:1:48j, -1:1:40j]
    disc = (x**2 + y**2 < 0.2).astype(np.uint8)
    image = (disc + np.random.default_rng(0).normal(0, 0.1, disc.shape)).astype(np.float32)
    mask = disc if reference is None else np.full_like(disc, reference)
    return PreviewSlice(name, 31, image, mask, (0.9 * disc).astype(np.float32))


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


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_reference_is_drawn_without_an_outline_or_a_warning(constant: int) -> None:
    figure = draw([a_slice(reference=constant)], "epoch 0")
    figure.canvas.draw()
    assert not figure.axes[1].collections


def test_pyplot_is_not_needed() -> None:
    source = Path(sys.modules[Preview.__module__].__file__ or "").read_text(encoding="utf-8")
    assert "import matplotlib.pyplot" not in source
