"""Pictures of a few fixed slices, one file a validation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from segan_pl.evaluation.kept import validation_name
from segan_pl.evaluation.previews import PreviewSlice
from segan_pl.files import write_whole
from segan_pl.training.callbacks.readings import batch_in_epoch, moment

# of PNG: a quarter more bytes in a third of the time
FAST = {"compress_level": 1}
# Okabe and Ito's, without black: told apart by people who do not see red and green as different.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#0072b2")


class Preview(Callback):
    """Draws what the module left in its `previews` list as <directory>/previews/epoch_0007.png, and empties the list.

    Args:
        directory: The run's.
        cases: Rows of a picture at most.
        every: Validations between two pictures.
    """

    def __init__(self, directory: str | Path, *, cases: int = 3, every: int = 1) -> None:
        self.directory = Path(directory) / "previews"
        self.cases = cases
        self.every = every
        self._validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw on rank 0; every rank empties its list."""
        slices: list[PreviewSlice] | None = getattr(pl_module, "previews", None)
        if slices is None:
            return
        chosen = slices[: self.cases]
        slices.clear()
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        due = self._validations % self.every == 0
        self._validations += 1
        if due and chosen and trainer.is_global_zero:
            epoch, batch = trainer.current_epoch, batch_in_epoch(trainer)
            picture = io.BytesIO()
            draw(chosen, moment(epoch, batch)).savefig(picture, format="png", pil_kwargs=FAST)
            write_whole(self.directory / f"{validation_name(epoch, batch)}.png", picture.getvalue())


def draw(slices: Sequence[PreviewSlice], title: str) -> Figure:
    """One row a slice, in pixels of their true shape.

    Of one region the image, the image with the reference's outline, and the probability with its colour bar; of several
    the image, and over it every region of the reference and of the prediction in its colour.
    """
    figure = Figure(figsize=(9.5, 3.1 * len(slices) + 0.4), dpi=110, layout="constrained")
    # no pyplot: no window, no state shared with anyone
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    rows = figure.subplots(len(slices), 3, squeeze=False)
    for axes, one in zip(rows, slices, strict=True):
        judged = one.ignored is None or not one.ignored.any()
        names = f"{one.case}\nslice {one.z}", "reference" if judged else "reference (blue: not judged)"
        third = "prediction" if one.probability is None else "probability"
        for axis, name in zip(axes, (*names, third), strict=True):
            axis.imshow(one.image, cmap="gray", aspect=one.aspect)
            axis.set_title(name, fontsize=9)
            axis.set(xticks=[], yticks=[])  # else they are made, and measured for the layout, though nobody sees them
            axis.set_axis_off()
        if one.probability is None:
            _tint_regions(axes[1], one.reference, one)
            _tint_regions(axes[2], one.prediction, one)
        else:
            # a constant has no outline, and contour warns about it
            if one.reference.any() and not one.reference.all():
                axes[1].contour(one.reference, levels=[0.5], colors="red", linewidths=1.0)
            shown = axes[2].imshow(one.probability, cmap="magma", vmin=0.0, vmax=1.0, aspect=one.aspect)
            figure.colorbar(shown, ax=axes[2], shrink=0.85)
        if one.ignored is not None and not judged:
            _tint(axes[1], one.ignored, (0.5, 0.7, 1.0, 0.35), one.aspect)
    if slices[0].probability is None:
        patches = [
            Patch(color=COLOURS[number % len(COLOURS)], label=name) for number, name in enumerate(slices[0].regions)
        ]
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=9, frameon=False
        )
    return figure


def _tint_regions(axis: Axes, numbers: NDArray[np.uint8], one: PreviewSlice) -> None:
    """Each region in its colour."""
    for number in range(len(one.regions)):
        _tint(axis, numbers == number + 1, (*to_rgb(COLOURS[number % len(COLOURS)]), 0.65), one.aspect)


def _tint(axis: Axes, mask: NDArray[np.bool_], colour: tuple[float, ...], aspect: float) -> None:
    """Colour (red, green, blue, opacity) where the mask is."""
    tint = np.zeros((*mask.shape, 4), np.float32)
    tint[mask] = colour
    axis.imshow(tint, aspect=aspect, interpolation="nearest")
