"""What is asked of a prediction, and what it is: labels, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError
from segan_pl.data.io import read_grid, same_affine, write_like, write_volume
from segan_pl.errors import UsageError
from segan_pl.inference import Combine, PredictIn
from segan_pl.inference.inferer import Windows
from segan_pl.inference.postprocessing import Step
from segan_pl.inference.trained import TrainedSegmentor


@dataclass(frozen=True)
class Settings:
    """How segmentors become one segmentation.

    Attributes:
        combine: Of several segmentors, the "mean" of their probabilities, or a weighted majority "vote".
        weights: One for each segmentor, above 0; empty for equal ones.
        mirror: Axes (z, y, x are 0, 1, 2) mirrored at test time.
        windows: Fields of `Windows` that replace those that a 3-D segmentor was validated with.
        steps: Post-processing, in order.
        missing: A case that lacks a modality of a segmentor: "refuse", or "zero" for zeros in its place; "auto" is zero
            where every segmentor was trained with modalities missing, else refuse.
        nonfinite: NaN and Inf voxels: "refuse", or "zero"; None as each segmentor was trained.
        predict_in: "anywhere", or in the "brain" alone; None as each segmentor was validated.
        uncertainty: Whether the variance between segmentors and mirror images is found too.
    """

    combine: Combine = "mean"
    weights: tuple[float, ...] = ()
    mirror: tuple[int, ...] = ()
    windows: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    missing: Literal["auto", "refuse", "zero"] = "auto"
    nonfinite: Literal["refuse", "zero"] | None = None
    predict_in: PredictIn | None = None
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if any(axis not in (0, 1, 2) for axis in self.mirror) or len(set(self.mirror)) < len(self.mirror):
            raise UsageError(f"--mirror {list(self.mirror)}: expected some of 0 (z), 1 (y), 2 (x)")
        if any(not weight > 0 for weight in self.weights):
            raise UsageError(f"--weights {list(self.weights)}: expected numbers above 0")
        Windows(**self.windows)  # refuse wrong ones at once

    def require_sense(self, segmentors: Sequence[TrainedSegmentor]) -> None:
        """Refuse what does not fit these segmentors, or would do nothing.

        Raises:
            UsageError: Windows for a network of slices, a whole volume that does not fit, or nothing to differ from.
        """
        if self.uncertainty and len(segmentors) == 1 and not self.mirror:
            raise UsageError(
                "--uncertainty: one checkpoint without --mirror has nothing to differ from; give more, or --mirror"
            )
        flags = {
            name: f"--{'window_batch' if name == 'batch' else name}"
            for name, value in self.windows.items()
            if value is not None
        }
        solid = [segmentor for segmentor in segmentors if len(segmentor.patch) == 3]
        if flags and not solid:
            raise UsageError(f"{', '.join(flags.values())}: of windows, but {segmentors[0].source.name} takes slices")
        for segmentor in solid:
            whole = replace(segmentor.windows, **self.windows).whole
            if whole is not None and whole % segmentor.divisor:
                raise UsageError(f"--whole {whole}: {segmentor.source.name} needs a multiple of {segmentor.divisor}")
            idle = [flag for name, flag in flags.items() if name in ("blend", "average", "batch", "skip_empty")]
            if whole is not None and idle:
                name = segmentor.source.name
                raise UsageError(f"{', '.join(idle)}: {name} takes whole volumes at once; give --overlap or --step too")


class Prediction(NamedTuple):
    """One case's segmentation; a tuple, since Lightning takes apart what a step returns, and no frozen dataclass.

    Attributes:
        label: (D, H, W) uint8, native labels on the input's grid.
        probability: (C, D, H, W) float32 on the same grid, background outside the prepared part; the mean over the
            segmentors, also where they vote on the label; None unless asked.
        channels: Names of its first axis.
        affine: (4, 4) of the input, voxel (x, y, z) to mm, RAS.
        notes: What was assumed or replaced, which modalities were zeros and which were used.
        like: The file that gives its own file header and grid; None where the input was arrays.
        case: The case's name.
        variance: (D, H, W) float32 between segmentors and mirror images, see `uncertainty.Spread`; None unless asked.
        uncertainty: Its mean over the voxels that any of them labels; None unless asked.
    """

    label: NDArray[np.uint8]
    probability: NDArray[np.float32] | None
    channels: tuple[str, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]
    like: Path | None = None
    case: str = ""
    variance: NDArray[np.float32] | None = None
    uncertainty: float | None = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along (x, y, z)."""
        x, y, z = (float(mm) for mm in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z

    def save(self, path: Path | str, *, like: Path | str | None = None) -> None:
        """Write the labels, as NIfTI or MetaImage by the file's name.

        Args:
            path: The file.
            like: Gives header and grid to the byte instead of `self.like`; without either a plain header is made.

        Raises:
            CaseError: `like` cannot be read, or lies on another grid than what was predicted.
        """
        model = like or self.like
        if model is None:
            write_volume(path, self.label, self.affine)
            return
        grid = read_grid(model)
        if grid.shape != self.label.shape or not same_affine(grid.affine, self.affine):
            raise CaseError(f"{model}: lies on another grid than the images that were segmented; give one of those")
        write_like(Path(model), self.label, Path(path))
