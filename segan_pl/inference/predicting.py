"""From the files of a case to its segmentation on the same grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.io import read_grid, same_affine, write_like, write_volume
from segan_pl.data.preparation import Preparation, Prepared, prepare
from segan_pl.data.volume import Case, CaseError, Geometry
from segan_pl.errors import UsageError
from segan_pl.inference.choosing import chosen_steps
from segan_pl.inference.input_case import case_of, image_of, require_one_grid
from segan_pl.inference.native_labels import one_scheme
from segan_pl.inference.postprocessing import Step, postprocess
from segan_pl.inference.trained import Precision, TrainedSegmentor, load_segmentor
from segan_pl.inference.volumes import decide, probabilities, vote
from segan_pl.inference.windows import Windows

Combine = Literal["mean", "vote"]
NO_MEMORY = ("DefaultCPUAllocator", "out of memory")  # torch says so on the CPU in a bare RuntimeError


@dataclass(frozen=True)
class Settings:
    """How segmentors become one segmentation.

    Attributes:
        combine: Of several segmentors, the "mean" of their probabilities, or a weighted majority "vote".
        weights: One a segmentor, above 0; empty for equal ones.
        mirror: Axes (z, y, x are 0, 1, 2) mirrored at test time.
        windows: Fields of `Windows` that replace those that a 3-D segmentor was validated with.
        steps: Post-processing, in order.
        missing: A case that lacks a modality of a segmentor: "refuse", or "zero" for zeros in its place; "auto" is zero
            where every segmentor was trained with modalities missing, else refuse.
        nonfinite: NaN and Inf voxels: "refuse", or "zero"; None as each segmentor was trained.
    """

    combine: Combine = "mean"
    weights: tuple[float, ...] = ()
    mirror: tuple[int, ...] = ()
    windows: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    missing: Literal["auto", "refuse", "zero"] = "auto"
    nonfinite: Literal["refuse", "zero"] | None = None

    def __post_init__(self) -> None:
        if any(axis not in (0, 1, 2) for axis in self.mirror) or len(set(self.mirror)) < len(self.mirror):
            raise UsageError(f"--mirror {list(self.mirror)}: expected some of 0 (z), 1 (y), 2 (x)")
        if any(not weight > 0 for weight in self.weights):
            raise UsageError(f"--weights {list(self.weights)}: expected numbers above 0")
        Windows(**self.windows)  # refuse wrong ones at once


@dataclass(frozen=True)
class Prediction:
    """One case's segmentation.

    Attributes:
        label: (D, H, W) uint8, native labels on the input's grid.
        probability: (C, D, H, W) float32 on the same grid, background outside the prepared part; the mean over the
            segmentors, also where they vote on the label; None unless asked.
        channels: Names of its first axis.
        affine: (4, 4) of the input.
        notes: What was assumed or replaced, which modalities were zeros and which were used.
    """

    label: NDArray[np.uint8]
    probability: NDArray[np.float32] | None
    channels: tuple[str, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]


class Predictor:
    """One trained segmentor, or several that decide together.

    Three lines in a notebook::

        predictor = Predictor.load("runs/cat/checkpoints/last.ckpt")
        prediction = predictor.predict({"t1": "a_t1.nii.gz", "flair": "a_flair.nii.gz", ...})
        predictor.save(prediction, "a_seg.nii.gz", like="a_t1.nii.gz")

    Args:
        segmentors: At least one; of one label scheme.
        settings: How they become one segmentation.
        convention: Native labels of the output; default the one that the first segmentor was trained with.
    """

    def __init__(
        self, segmentors: Sequence[TrainedSegmentor], settings: Settings | None = None, *, convention: str | None = None
    ) -> None:
        self.segmentors = list(segmentors)
        self.settings = settings or Settings()
        self.scheme = one_scheme(self.segmentors, convention)
        _require_windows(self.segmentors, self.settings.windows)
        for step in self.settings.steps:
            step.require_tissues(self.scheme.convention)
        copes = all(segmentor.copes for segmentor in self.segmentors)
        asked = self.settings.missing
        self.missing: Literal["refuse", "zero"] = asked if asked != "auto" else "zero" if copes else "refuse"
        count = len(self.segmentors)
        self.weights = self.settings.weights or (1.0,) * count
        if len(self.weights) != count:
            raise UsageError(f"--weights {list(self.weights)} for {count} checkpoints; expected one each")

    @classmethod
    def load(
        cls,
        *checkpoints: Path | str,
        settings: Settings | None = None,
        convention: str | None = None,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> Predictor:
        """Out of checkpoints alone.

        Args:
            checkpoints: At least one.
            settings: Default: the post-processing that was chosen for them, as `segan_pl predict` uses it, and nothing
                else; with settings nothing is added to theirs.
            convention: Native labels of the output.
            device: "auto" takes the GPU where there is one.
            precision: "auto" takes the one of each run's validation.
        """
        settings = settings or Settings(steps=chosen_steps(checkpoints))
        loaded = [load_segmentor(path, device=device, precision=precision) for path in checkpoints]
        return cls(loaded, settings, convention=convention)

    @property
    def modalities(self) -> tuple[str, ...]:
        """All that any of the segmentors takes."""
        return tuple(dict.fromkeys(m for segmentor in self.segmentors for m in segmentor.modalities))

    def predict(self, images: Mapping[str, Path | str] | Case, *, probability: bool = False) -> Prediction:
        """Segment one case's files.

        Args:
            images: Modality to file, or a case that a layout found; a mask of it is not looked at.
            probability: Keep the probabilities too.

        Raises:
            CaseError: A modality is missing or a file cannot be used.
        """
        case = images if isinstance(images, Case) else case_of(images)
        return self.segment(self.read(case), probability=probability)

    def image_of(self, case: Case) -> Path | None:
        """The file whose grid and header its segmentation gets: the first of a case that a network takes."""
        return image_of(case, self.modalities)

    def read(self, case: Case) -> list[Prepared]:
        """A case prepared once for each preparation and set of modalities; needs no network.

        Raises:
            CaseError: A modality is missing, a file cannot be used, or the segmentors' images lie on different grids.
        """
        done: dict[tuple[Preparation, tuple[str, ...]], Prepared] = {}
        for segmentor in self.segmentors:
            key = (segmentor.preparation, segmentor.modalities)
            if key not in done:
                done[key] = self._prepared(case, *key)
        require_one_grid(case.name, done)
        return [done[segmentor.preparation, segmentor.modalities] for segmentor in self.segmentors]

    def segment(self, prepared: Sequence[Prepared], *, probability: bool = False) -> Prediction:
        """What `read` returned to a segmentation.

        Raises:
            MemoryError: There is not enough, here or on the GPU.
        """
        try:
            return self._finish(prepared, probability)
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in NO_MEMORY)):
                raise
            raise MemoryError(f"not enough memory ({str(error).splitlines()[0][:200]})") from error

    def predict_array(self, image: NDArray, *, present: Sequence[bool] | None = None) -> NDArray[np.float32]:
        """(M, D, H, W) prepared intensities, modalities in order, to (C, D, H, W) probabilities (one segmentor).

        Args:
            image: What it holds of a modality that is not there does not matter.
            present: (M,), which are there; default all.
        """
        if len(self.segmentors) != 1:
            raise ValueError(f"{len(self.segmentors)} segmentors; an array can go through one")
        segmentor = self.segmentors[0]
        if image.ndim != 4 or len(image) != len(segmentor.modalities):
            raise ValueError(f"array of shape {image.shape}; expected ({len(segmentor.modalities)}, D, H, W)")
        there = (True,) * len(image) if present is None else tuple(map(bool, present))
        if len(there) != len(image) or not any(there):
            raise ValueError(f"present {present}; expected {len(image)} of true or false, at least one true")
        return self._probabilities(segmentor, torch.as_tensor(image), there).cpu().numpy()

    def save(self, prediction: Prediction, path: Path | str, *, like: Path | str | None = None) -> None:
        """Write the labels; `like` gives header and grid to the byte, without it a plain NIfTI header is made.

        Raises:
            CaseError: `like` cannot be read, or lies on another grid than what was predicted.
        """
        if like is not None:
            grid = read_grid(like)
            if grid.shape != prediction.label.shape or not same_affine(grid.affine, prediction.affine):
                raise CaseError(f"{like}: lies on another grid than the images that were segmented; give one of those")
            write_like(Path(like), prediction.label, Path(path))
        else:
            write_volume(path, prediction.label, prediction.affine)

    # -- one case --------------------------------------------------------------------------------------------------

    def _prepared(self, case: Case, preparation: Preparation, modalities: Sequence[str]) -> Prepared:
        there = {m: case.images[m] for m in modalities if m in case.images}
        absent = [m for m in modalities if m not in there]
        if absent and (self.missing == "refuse" or not there):
            hint = f" or set --missing zero{self._warning()}" if there else ""
            raise CaseError(
                f"{case.name}: no {', '.join(absent)}, the checkpoint takes {', '.join(modalities)}; complete the case"
                f"{hint}"
            )
        needed = replace(case, images=there, mask=None)
        prepared = prepare(needed, replace(preparation, nonfinite=self.settings.nonfinite or preparation.nonfinite))
        if not absent:
            return prepared
        image = np.zeros((len(modalities), *prepared.image.shape[1:]), np.float16)
        for row, modality in enumerate(modalities):
            if modality in there:
                image[row] = prepared.image[prepared.modalities.index(modality)]
        note = f"{case.name}: zeros for {', '.join(absent)}; used {', '.join(there)}"
        return replace(
            prepared, image=image, modalities=tuple(modalities), notes=(*prepared.notes, note), absent=tuple(absent)
        )

    def _warning(self) -> str:
        """Why "auto" did not fill in zeros."""
        untrained = next((segmentor.source for segmentor in self.segmentors if not segmentor.copes), None)
        return f" ({untrained.name} never saw a case without)" if untrained is not None else ""

    def _finish(self, prepared: Sequence[Prepared], keep: bool) -> Prediction:
        geometry = prepared[0].geometry
        notes = list(dict.fromkeys(note for one in prepared for note in one.notes))
        pairs = zip(prepared, self.segmentors, strict=True)
        if all(_blank(one.image, segmentor.preparation.background) for one, segmentor in pairs):
            notes.append("every voxel is 0: the segmentation is empty")
            empty = np.zeros(geometry.native, np.uint8)
            nothing = self._certain_background(np.zeros((len(self.scheme.channels), *empty.shape), np.float32))
            return self._prediction(empty, nothing, keep, geometry, notes)
        parts = [
            self._probabilities(segmentor, torch.from_numpy(one.image), [m not in one.absent for m in one.modalities])
            for segmentor, one in zip(self.segmentors, prepared, strict=True)
        ]
        one_grid = all(one.geometry == geometry for one in prepared) and not geometry.resampled
        if one_grid and not keep:  # the way back is exact, so deciding first is the same and costs less
            label = geometry.restore(self._decided(parts))
            return self._prediction(label, None, keep, geometry, notes)
        native = [
            torch.from_numpy(self._restored(part, one.geometry)) for part, one in zip(parts, prepared, strict=True)
        ]
        mean = self._mean(native).numpy() if keep else None
        return self._prediction(self._decided(native), mean, keep, geometry, notes)

    def _probabilities(self, segmentor: TrainedSegmentor, image: Tensor, present: Sequence[bool]) -> Tensor:
        windows = replace(segmentor.windows, **self.settings.windows)
        return probabilities(segmentor, image, present=present, mirror=self.settings.mirror, windows=windows)

    def _decided(self, parts: Sequence[Tensor]) -> NDArray[np.uint8]:
        """Probabilities of all segmentors on one grid to native labels on it."""
        if self.settings.combine == "vote":
            mask = vote(parts, self.weights, self.scheme.activation)
        else:
            mask = decide(self._mean(parts), self.scheme.activation)
        return self.scheme.decode(mask.cpu().numpy())

    def _mean(self, parts: Sequence[Tensor]) -> Tensor:
        """Weighted mean of all segmentors' probabilities."""
        if len(parts) == 1:
            return parts[0]
        return torch.stack([p * w for p, w in zip(parts, self.weights, strict=True)]).sum(0) / sum(self.weights)

    def _restored(self, probability: Tensor, geometry: Geometry) -> NDArray[np.float32]:
        """Probabilities on the native grid; outside the prepared part background is certain."""
        return self._certain_background(geometry.restore(probability.float().cpu().numpy()))

    def _certain_background(self, native: NDArray[np.float32]) -> NDArray[np.float32]:
        """What lacks to 1 is background, where that is a channel; in place."""
        if "background" in self.scheme.channels:
            native[self.scheme.channels.index("background")] += 1 - native.sum(0)
        return native

    def _prediction(
        self,
        label: NDArray[np.uint8],
        probability: NDArray | None,
        keep: bool,
        geometry: Geometry,
        notes: Sequence[str],
    ) -> Prediction:
        affine = np.array(geometry.affine)
        voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
        label = postprocess(label, self.settings.steps, convention=self.scheme.convention, voxel_ml=voxel_ml)
        kept = probability.astype(np.float32) if keep and probability is not None else None
        return Prediction(label, kept, self.scheme.channels, affine, tuple(notes))


def _blank(image: NDArray[np.float16], background: float) -> bool:
    """Whether nothing but background was prepared."""
    return not image.any() or (background != 0 and bool(np.isin(image, (0, background)).all()))


def _require_windows(segmentors: Sequence[TrainedSegmentor], asked: Mapping[str, Any]) -> None:
    """Refuse windows that a network cannot take, and settings of windows where there are none."""
    flags = {
        name: f"--{'window_batch' if name == 'batch' else name}" for name, value in asked.items() if value is not None
    }
    solid = [segmentor for segmentor in segmentors if len(segmentor.patch) == 3]
    if flags and not solid:
        raise UsageError(f"{', '.join(flags.values())}: of windows, but {segmentors[0].source.name} takes slices")
    for segmentor in solid:
        whole = replace(segmentor.windows, **asked).whole
        if whole is not None and whole % segmentor.divisor:
            raise UsageError(f"--whole {whole}: {segmentor.source.name} needs a multiple of {segmentor.divisor}")
        idle = [flag for name, flag in flags.items() if name in ("blend", "average", "batch")]
        if whole is not None and idle:
            name = segmentor.source.name
            raise UsageError(f"{', '.join(idle)}: {name} takes whole volumes at once; give --overlap or --step too")
