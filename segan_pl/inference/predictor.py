"""From the files of a case to its segmentation on the same grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from segan_pl.data.case import Case, CaseError, Geometry
from segan_pl.data.io import Volume
from segan_pl.data.prepare.case import Prepared, prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference import Precision
from segan_pl.inference.brain import blank
from segan_pl.inference.chosen_steps import chosen_steps
from segan_pl.inference.exported import load_model
from segan_pl.inference.input_case import (
    EMPTY,
    Image,
    by_modality,
    case_of,
    image_of,
    require_one_grid,
    unlike_note,
    way_out,
    zeros_note,
)
from segan_pl.inference.native_labels import certain_background, decide, on_native_grid, one_scheme, vote
from segan_pl.inference.postprocessing import postprocess
from segan_pl.inference.prediction import Prediction, Settings
from segan_pl.inference.trained import TrainedSegmentor, mirrored, probabilities
from segan_pl.inference.uncertainty import Spread

# What torch says on the CPU in a bare RuntimeError.
NO_MEMORY = ("DefaultCPUAllocator", "out of memory")


class Predictor:
    """One trained segmentor, or several that decide together.

    Three lines in a notebook::

        predictor = segan_pl.load("runs/cat/checkpoints/last.ckpt")
        prediction = predictor({"t1": "a_t1.nii.gz", "flair": "a_flair.nii.gz", ...})
        prediction.save("a_seg.nii.gz")

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
        self.settings.require_sense(self.segmentors)
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
            checkpoints: At least one; of a run, or an ONNX file that `segan_pl export` wrote.
            settings: Default: the post-processing that was chosen for them, as `segan_pl predict` uses it, and nothing
                else; with settings nothing is added to theirs.
            convention: Native labels of the output.
            device: "auto" takes the GPU where there is one.
            precision: "auto" takes the one of each run's validation.
        """
        settings = settings or Settings(steps=chosen_steps(checkpoints))
        loaded = [load_model(path, device=device, precision=precision) for path in checkpoints]
        return cls(loaded, settings, convention=convention)

    @property
    def modalities(self) -> tuple[str, ...]:
        """All that any of the segmentors takes."""
        return tuple(dict.fromkeys(m for segmentor in self.segmentors for m in segmentor.modalities))

    def __call__(
        self,
        images: Mapping[str, Image] | Case,
        *,
        affine: ArrayLike | None = None,
        spacing_mm: Sequence[float] | None = None,
        probability: bool = False,
    ) -> Prediction:
        """Segment one case.

        Args:
            images: Modality, by any of its usual names, to file or to its voxels, an array (D, H, W); or a case that a
                layout found, whose mask is not looked at.
            affine: (4, 4) of the arrays, voxel (x, y, z) to mm, RAS.
            spacing_mm: (x, y, z) of the arrays instead, whose x, y and z are then taken to lead to L, P and S.
            probability: Keep the probabilities too.

        Raises:
            CaseError: A modality is missing, or a file or an array cannot be used.
            UsageError: Arrays without their place, or a place without arrays.
        """
        if isinstance(images, Case):
            case, held, notes = images, dict[str, Volume](), list[str]()
        else:
            read, notes = by_modality(images, self.modalities)
            if images and not read:
                raise CaseError(f"{'; '.join(notes)}; give one of these")
            case, held = case_of(read, affine=affine, spacing_mm=spacing_mm)
        prediction = self.segment(self.read(case, held), probability=probability)
        files = replace(case, images={name: path for name, path in case.images.items() if name not in held})
        notes += prediction.notes
        return prediction._replace(like=self.image_of(files), case=case.name, notes=tuple(notes))

    def image_of(self, case: Case) -> Path | None:
        """The file whose grid and header its segmentation gets: the first of a case that a network takes."""
        return image_of(case, self.modalities)

    def read(self, case: Case, held: Mapping[str, Volume] | None = None) -> list[Prepared]:
        """A case prepared once for each preparation and set of modalities; needs no network.

        Args:
            case: Its files.
            held: Modality to its volume where that is in memory; its file is not read.

        Raises:
            CaseError: A modality is missing, a file cannot be used, or the segmentors' images lie on different grids.
        """
        done: dict[tuple[Preparation, tuple[str, ...]], Prepared] = {}
        for segmentor in self.segmentors:
            key = (segmentor.preparation, segmentor.modalities)
            if key not in done:
                done[key] = self._prepared(case, *key, held or {})
        require_one_grid(case, done)
        return [done[segmentor.preparation, segmentor.modalities] for segmentor in self.segmentors]

    def segment(self, prepared: Sequence[Prepared], *, probability: bool = False) -> Prediction:
        """What `read` returned to a segmentation.

        Raises:
            MemoryError: There is not enough, here or on the GPU.
        """
        try:
            geometry = prepared[0].geometry
            notes = list(dict.fromkeys(note for one in prepared for note in one.notes))
            if (note := unlike_note(prepared, self.segmentors)) is not None:
                notes.append(note)
            pairs = zip(prepared, self.segmentors, strict=True)
            if all(blank(one.image, segmentor.preparation.background) for one, segmentor in pairs):
                notes.append("every voxel is 0")
                empty = np.zeros(geometry.native, np.uint8)
                nothing = certain_background(
                    np.zeros((len(self.scheme.channels), *empty.shape), np.float32), self.scheme
                )
                found = self._prediction(empty, nothing, probability, geometry, notes)
                certain = np.zeros(geometry.native, np.float32)
                return found._replace(variance=certain, uncertainty=0.0) if self.settings.uncertainty else found
            spread: dict[str, Any] = {}
            if self.settings.uncertainty:
                parts, spread = self._spread(prepared)
            else:
                parts = [self._probabilities(*pair) for pair in zip(self.segmentors, prepared, strict=True)]
            parts = [part.to(parts[0].device) for part in parts]  # an ONNX file's are on the CPU
            one_grid = all(one.geometry == geometry for one in prepared) and not geometry.resampled
            # the way back is exact, so deciding first is the same and costs less
            if one_grid and not probability:
                label = geometry.restore(self._decided(parts))
                return self._prediction(label, None, probability, geometry, notes)._replace(**spread)
            native = [
                torch.from_numpy(on_native_grid(part, one.geometry, self.scheme))
                for part, one in zip(parts, prepared, strict=True)
            ]
            mean = self._mean(native).numpy() if probability else None
            found = self._prediction(self._decided(native), mean, probability, geometry, notes)
            return found._replace(**spread)
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in NO_MEMORY)):
                raise
            raise MemoryError(f"not enough memory ({str(error).splitlines()[0][:200]})") from error

    def predict_array(self, image: NDArray, *, modality_mask: Sequence[bool] | None = None) -> NDArray[np.float32]:
        """(M, D, H, W) prepared intensities, modalities in order, to (C, D, H, W) probabilities (one segmentor).

        Args:
            image: What it holds of a modality that is not there does not matter.
            modality_mask: (M,), which are there; default all.
        """
        if len(self.segmentors) != 1:
            raise ValueError(f"{len(self.segmentors)} segmentors; an array can go through one")
        segmentor = self.segmentors[0]
        if image.ndim != 4 or len(image) != len(segmentor.modalities):
            raise ValueError(f"array of shape {image.shape}; expected ({len(segmentor.modalities)}, D, H, W)")
        there = (True,) * len(image) if modality_mask is None else tuple(map(bool, modality_mask))
        if len(there) != len(image) or not any(there):
            raise ValueError(
                f"modality_mask {modality_mask}; expected {len(image)} of true or false, at least one true"
            )
        found = probabilities(segmentor, torch.as_tensor(image), modality_mask=there, **self._asked(segmentor))
        return found.cpu().numpy()

    # -- one case --------------------------------------------------------------------------------------------------

    def _prepared(
        self, case: Case, preparation: Preparation, modalities: Sequence[str], held: Mapping[str, Volume]
    ) -> Prepared:
        there = {m: case.images[m] for m in modalities if m in case.images}
        absent = [m for m in modalities if m not in there]
        if absent and (self.missing == "refuse" or not there):
            raise CaseError(
                f"{case.name}: no {', '.join(absent)}, the checkpoint takes {', '.join(modalities)}; complete the case"
                f"{way_out(self.segmentors) if there else ''}"
            )
        needed = replace(case, images=there, mask=None)
        preparation = replace(preparation, nonfinite=self.settings.nonfinite or preparation.nonfinite)
        prepared = prepare(needed, preparation, held=held)
        if not absent:
            return prepared
        image = np.zeros((len(modalities), *prepared.image.shape[1:]), np.float16)
        for row, modality in enumerate(modalities):
            if modality in there:
                image[row] = prepared.image[prepared.modalities.index(modality)]
        note = f"{case.name}: {zeros_note(absent, list(there), self.segmentors)}"
        return replace(
            prepared, image=image, modalities=tuple(modalities), notes=(*prepared.notes, note), absent=tuple(absent)
        )

    def _asked(self, segmentor: TrainedSegmentor) -> dict[str, Any]:
        """What the settings say of one segmentor's way over a volume."""
        windows = replace(segmentor.windows, **self.settings.windows)
        return {"mirror": self.settings.mirror, "windows": windows, "predict_in": self.settings.predict_in}

    def _probabilities(self, segmentor: TrainedSegmentor, one: Prepared) -> Tensor:
        return probabilities(segmentor, torch.from_numpy(one.image), modality_mask=one.there, **self._asked(segmentor))

    def _spread(self, prepared: Sequence[Prepared]) -> tuple[list[Tensor], dict[str, Any]]:
        """The probabilities of each segmentor, and variance and number of all of its mirror images and the others'."""
        spread, parts = Spread(self.scheme), []
        share = 2 ** len(self.settings.mirror)
        for segmentor, one, weight in zip(self.segmentors, prepared, self.weights, strict=True):
            image, total = torch.from_numpy(one.image), None
            for part in mirrored(segmentor, image, modality_mask=one.there, **self._asked(segmentor)):
                total = part if total is None else total + part
                spread.add(torch.from_numpy(on_native_grid(part, one.geometry, self.scheme)), weight / share)
            assert total is not None, "the image itself is always there"
            parts.append(total / share if share > 1 else total)
        return parts, {"variance": spread.variance(), "uncertainty": spread.number()}

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
        empty = () if label.any() else (EMPTY,)
        return Prediction(label, kept, self.scheme.channels, affine, (*notes, *empty))
