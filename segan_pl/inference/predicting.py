"""From the files of a case to its segmentation on the same grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.io import write_like, write_volume
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.data.preparation import Preparation, Prepared, prepare
from segan_pl.data.volume import Case, CaseError, Geometry
from segan_pl.errors import UsageError
from segan_pl.inference.postprocessing import Step, postprocess
from segan_pl.inference.trained import Precision, TrainedSegmentor, load_segmentor
from segan_pl.inference.volumes import Windows, decide, probabilities, vote

Combine = Literal["mean", "vote"]


@dataclass(frozen=True)
class Settings:
    """How segmentors become one segmentation.

    Attributes:
        combine: Of several segmentors, the "mean" of their probabilities, or a weighted majority "vote".
        weights: One a segmentor, above 0; empty for equal ones.
        mirror: Axes (z, y, x are 0, 1, 2) mirrored at test time.
        windows: Of a 3-D network.
        steps: Post-processing, in order.
        missing: A case that lacks a modality of a segmentor: "refuse", or "zero" for zeros in its place.
        nonfinite: NaN and Inf voxels: "refuse", or "zero".
    """

    combine: Combine = "mean"
    weights: tuple[float, ...] = ()
    mirror: tuple[int, ...] = ()
    windows: Windows = field(default_factory=Windows)
    steps: tuple[Step, ...] = ()
    missing: Literal["refuse", "zero"] = "refuse"
    nonfinite: Literal["refuse", "zero"] = "refuse"

    def __post_init__(self) -> None:
        if any(axis not in (0, 1, 2) for axis in self.mirror) or len(set(self.mirror)) < len(self.mirror):
            raise UsageError(f"--mirror {list(self.mirror)}: expected some of 0 (z), 1 (y), 2 (x)")
        if any(not weight > 0 for weight in self.weights):
            raise UsageError(f"--weights {list(self.weights)}: expected numbers above 0")


@dataclass(frozen=True)
class Prediction:
    """One case's segmentation.

    Attributes:
        label: (D, H, W) uint8, native labels on the input's grid.
        probability: (C, D, H, W) float32 on the same grid, background outside the prepared part; None unless asked.
        channels: Names of its first axis.
        affine: (4, 4) of the input.
        notes: What was assumed or replaced, which modalities were zeros.
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
        self.scheme = _one_scheme(self.segmentors, convention)
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
        """Out of checkpoints alone."""
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
        case = images if isinstance(images, Case) else _case(images)
        return self._finish(self.read(case), probability)

    def read(self, case: Case) -> list[Prepared]:
        """A case prepared once for each preparation and set of modalities; needs no network."""
        done: dict[tuple[Preparation, tuple[str, ...]], Prepared] = {}
        for segmentor in self.segmentors:
            key = (segmentor.preparation, segmentor.modalities)
            if key not in done:
                done[key] = self._prepared(case, *key)
        return [done[segmentor.preparation, segmentor.modalities] for segmentor in self.segmentors]

    def segment(self, prepared: Sequence[Prepared], *, probability: bool = False) -> Prediction:
        """What `read` returned to a segmentation."""
        return self._finish(prepared, probability)

    def predict_array(self, image: NDArray) -> NDArray[np.float32]:
        """(M, D, H, W) prepared intensities, modalities in order, to (C, D, H, W) probabilities (one segmentor)."""
        if len(self.segmentors) != 1:
            raise ValueError(f"{len(self.segmentors)} segmentors; an array can go through one")
        segmentor = self.segmentors[0]
        if image.ndim != 4 or len(image) != len(segmentor.modalities):
            raise ValueError(f"array of shape {image.shape}; expected ({len(segmentor.modalities)}, D, H, W)")
        return self._probabilities(segmentor, torch.as_tensor(image)).cpu().numpy()

    def save(self, prediction: Prediction, path: Path | str, *, like: Path | str | None = None) -> None:
        """Write the labels; `like` gives header and grid to the byte, without it a plain NIfTI header is made."""
        if like is not None:
            write_like(Path(like), prediction.label, Path(path))
        else:
            write_volume(path, prediction.label, prediction.affine)

    # -- one case --------------------------------------------------------------------------------------------------

    def _prepared(self, case: Case, preparation: Preparation, modalities: Sequence[str]) -> Prepared:
        there = {m: case.images[m] for m in modalities if m in case.images}
        absent = [m for m in modalities if m not in there]
        if absent and (self.settings.missing == "refuse" or not there):
            raise CaseError(
                f"{case.name}: no {', '.join(absent)}, the checkpoint takes {', '.join(modalities)}; complete the case"
                f"{' or set --missing zero' if there else ''}"
            )
        needed = replace(case, images=there, mask=None)
        prepared = prepare(needed, replace(preparation, nonfinite=self.settings.nonfinite))
        if not absent:
            return prepared
        image = np.zeros((len(modalities), *prepared.image.shape[1:]), np.float16)
        for row, modality in enumerate(modalities):
            if modality in there:
                image[row] = prepared.image[prepared.modalities.index(modality)]
        note = f"{case.name}: zeros for {', '.join(absent)}; used {', '.join(there)}"
        return replace(prepared, image=image, modalities=tuple(modalities), notes=(*prepared.notes, note))

    def _finish(self, prepared: Sequence[Prepared], keep: bool) -> Prediction:
        geometry = prepared[0].geometry
        notes = list(dict.fromkeys(note for one in prepared for note in one.notes))
        pairs = zip(prepared, self.segmentors, strict=True)
        if all(_blank(one.image, segmentor.preparation.background) for one, segmentor in pairs):
            notes.append("every voxel is 0: the segmentation is empty")
            empty = np.zeros(geometry.native, np.uint8)
            return self._prediction(empty, np.zeros((len(self.scheme.channels), *empty.shape)), keep, geometry, notes)
        parts = [
            self._probabilities(segmentor, torch.from_numpy(one.image))
            for segmentor, one in zip(self.segmentors, prepared, strict=True)
        ]
        one_grid = all(one.geometry == geometry for one in prepared) and not geometry.resampled
        if one_grid and not keep:  # the way back is exact, so deciding first is the same and costs less
            label = geometry.restore(self._decided(parts))
            return self._prediction(label, None, keep, geometry, notes)
        native = [
            torch.from_numpy(self._restored(part, one.geometry)) for part, one in zip(parts, prepared, strict=True)
        ]
        mean = sum(p * w for p, w in zip(native, self.weights, strict=True)) / sum(self.weights)
        return self._prediction(self._decided(native), mean.numpy(), keep, geometry, notes)  # type: ignore[union-attr]

    def _probabilities(self, segmentor: TrainedSegmentor, image: Tensor) -> Tensor:
        return probabilities(segmentor, image, mirror=self.settings.mirror, windows=self.settings.windows)

    def _decided(self, parts: Sequence[Tensor]) -> NDArray[np.uint8]:
        """Probabilities of all segmentors on one grid to native labels on it."""
        if self.settings.combine == "vote":
            mask = vote(parts, self.weights, self.scheme.activation)
        elif len(parts) == 1:
            mask = decide(parts[0], self.scheme.activation)
        else:
            mean = torch.stack([p * w for p, w in zip(parts, self.weights, strict=True)]).sum(0) / sum(self.weights)
            mask = decide(mean, self.scheme.activation)
        return self.scheme.decode(mask.cpu().numpy())

    def _restored(self, probability: Tensor, geometry: Geometry) -> NDArray[np.float32]:
        """Probabilities on the native grid; outside the prepared part background is certain."""
        native = geometry.restore(probability.float().cpu().numpy())
        if "background" in self.scheme.channels:
            background = self.scheme.channels.index("background")
            native[background] += 1 - native.sum(0)
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


def output_name(case: Case) -> str:
    """What a case's segmentation is called: as its data set asks, else its name; MetaImage stays MetaImage."""
    if case.output:
        return case.output
    first = next(iter(case.images.values()))
    return f"{case.name}{'.mha' if first.suffix.lower() in ('.mha', '.mhd') else '.nii.gz'}"


def _blank(image: NDArray[np.float16], background: float) -> bool:
    """Whether nothing but background was prepared."""
    return not image.any() or (background != 0 and bool(np.isin(image, (0, background)).all()))


def _case(images: Mapping[str, Path | str]) -> Case:
    if not images:
        raise CaseError("no image given; expected modality: file, e.g. {'flair': 'a_flair.nii.gz'}")
    files = {modality: Path(path) for modality, path in images.items()}
    name = next(iter(files.values())).name.split(".")[0]
    return Case(name, name, files)


def _one_scheme(segmentors: Sequence[TrainedSegmentor], convention: str | None) -> LabelScheme:
    """The label scheme that all segmentors share, in the native labels asked for."""
    if not segmentors:
        raise UsageError("no checkpoint given; expected --ckpt_path")
    first = segmentors[0]
    for other in segmentors[1:]:
        if (other.scheme.target, other.scheme.channels) != (first.scheme.target, first.scheme.channels):
            raise UsageError(
                f"{other.source}: predicts {', '.join(other.scheme.channels)}, {first.source} predicts "
                f"{', '.join(first.scheme.channels)}; give checkpoints of one label scheme"
            )
    if convention is None or convention == first.scheme.convention.name:
        return first.scheme
    scheme = label_scheme(first.scheme.target, convention)
    if scheme.channels != first.scheme.channels:
        raise UsageError(
            f"--native_labels {convention}: has channels {', '.join(scheme.channels)}, the checkpoint predicts "
            f"{', '.join(first.scheme.channels)}; leave it out or choose another"
        )
    return scheme
