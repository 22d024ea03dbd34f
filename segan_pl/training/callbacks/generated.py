"""Pictures of what a generator makes, next to real patches: one file for each epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from segan_pl.evaluation.kept import validation_name
from segan_pl.files import write_whole
from segan_pl.training.callbacks.preview import FAST

SUFFIX = "_generated.png"
# Patches in a row.
SHOWN = 6


class GeneratedPatches(Callback):
    """Draws what the module left in its `pictures` as <directory>/previews/epoch_0007_generated.png.

    Args:
        directory: The run's.
        every: Epochs between two pictures.
    """

    def __init__(self, directory: str | Path, *, every: int = 1) -> None:
        self.directory = Path(directory) / "previews"
        self.every = every

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw on rank 0, where an objective has shown images."""
        pictures: Mapping[str, Tensor] = getattr(pl_module, "pictures", {})
        if pictures and trainer.is_global_zero and trainer.current_epoch % self.every == 0:
            content = io.BytesIO()
            draw(pictures, f"epoch {trainer.current_epoch}").savefig(content, format="png", pil_kwargs=FAST)
            write_whole(self.directory / f"{validation_name(trainer.current_epoch, None)}{SUFFIX}", content.getvalue())


def draw(pictures: Mapping[str, Tensor], title: str) -> Figure:
    """A row for each name: the middle slice of up to six patches, their first modality, in one range of grey.

    Args:
        pictures: Name to images (N, M, *spatial).
        title: Above them.
    """
    rows = {  # of a 3-D patch its middle slice
        name: [patch if patch.ndim == 2 else patch[len(patch) // 2] for patch in images[:SHOWN, 0].numpy()]
        for name, images in pictures.items()
    }
    # What is real sets the range: images of another range are then seen to be so.
    low, high = np.percentile(np.stack(next(iter(rows.values()))), (0.5, 99.5))
    count = max(map(len, rows.values()))
    figure = Figure(figsize=(1.5 * count + 0.5, 1.6 * len(rows) + 0.4), dpi=110, layout="constrained")
    # no pyplot: no window, no state shared with anyone
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (name, slices) in zip(figure.subplots(len(rows), count, squeeze=False), rows.items(), strict=True):
        for place in axes:
            place.set_axis_off()
        axes[0].set_title(name, fontsize=9, loc="left")
        for place, one in zip(axes, slices, strict=False):
            place.imshow(one, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
    return figure
