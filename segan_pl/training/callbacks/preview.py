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
from matplotlib.figure import Figure

from segan_pl.evaluation.kept import validation_name
from segan_pl.evaluation.volumes import PreviewSlice
from segan_pl.files import write_whole
from segan_pl.training.callbacks.readings import batch_in_epoch, moment


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
            draw(chosen, moment(epoch, batch)).savefig(picture, format="png")
            write_whole(self.directory / f"{validation_name(epoch, batch)}.png", picture.getvalue())


def draw(slices: Sequence[PreviewSlice], title: str) -> Figure:
    """One row a slice: image, image with the reference's outline, probability with its colour bar."""
    figure = Figure(figsize=(9.5, 3.1 * len(slices) + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: no window, no state shared with anyone
    figure.suptitle(title)
    rows = figure.subplots(len(slices), 3, squeeze=False)
    for axes, one in zip(rows, slices, strict=True):
        _draw_row(figure, axes, one)
    return figure


def _draw_row(figure: Figure, axes: Sequence[Axes], one: PreviewSlice) -> None:
    """The three panels of one slice."""
    for axis, name in zip(axes, (f"{one.case}\nslice {one.z}", "reference", "probability"), strict=True):
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    axes[0].imshow(one.image, cmap="gray")
    axes[1].imshow(one.image, cmap="gray")
    if one.reference.any() and not one.reference.all():  # a constant has no outline, and contour warns about it
        axes[1].contour(one.reference, levels=[0.5], colors="red", linewidths=1.0)
    if one.ignored is not None and one.ignored.any():
        axes[1].set_title("reference (blue: not judged)", fontsize=9)
        tint = np.zeros((*one.image.shape, 4), np.float32)
        tint[one.ignored] = (0.5, 0.7, 1.0, 0.35)
        axes[1].imshow(tint)
    shown = axes[2].imshow(one.probability, cmap="magma", vmin=0.0, vmax=1.0)
    figure.colorbar(shown, ax=axes[2], shrink=0.85)
