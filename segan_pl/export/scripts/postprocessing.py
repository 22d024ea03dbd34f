"""From probabilities to a file of labels on the grid of the case's first image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.transforms import Transform
from numpy.typing import NDArray
from scipy import ndimage


class ToLabelsd(Transform):
    """Decides and goes back to the file's grid: "label" (D, H, W) uint8.

    Args:
        activation: "softmax" takes the largest channel; "sigmoid" each above 0.5.
        values: The label that each channel is written as; later ones win.
        background: The channel that is certain outside the crop, or None.
    """

    def __init__(self, *, activation: str, values: Sequence[int], background: int | None) -> None:
        self.activation, self.values, self.background = activation, tuple(values), background

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Probabilities of a prepared volume to labels of the file."""
        place = data["place"]
        if data["blank"]:
            return {**data, "label": np.zeros(place.native, np.uint8)}
        if place.step is None:
            decided = self._decided(data["probability"].float().cpu().numpy())
            return {**data, "label": place.to_native(decided, "nearest")}
        return {**data, "label": self._decided(self.native(data))}

    def native(self, data: Mapping[str, Any]) -> NDArray[np.float32]:
        """(C, D, H, W) probabilities on the file's grid."""
        place, way = data["place"], "nearest" if data["place"].step is None else "linear"
        native = np.stack([place.to_native(one, way) for one in data["probability"].float().cpu().numpy()])
        if self.background is not None:
            native[self.background] += 1 - native.sum(0)
        return native

    def _decided(self, probability: NDArray[np.float32]) -> NDArray[np.uint8]:
        label = np.zeros(probability.shape[1:], np.uint8)
        winner = probability.argmax(0)
        for channel, value in enumerate(self.values):
            label[winner == channel if self.activation == "softmax" else probability[channel] > 0.5] = value
        return label


class _Step(Transform):
    """A correction of the labels inside their box."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Corrects the entry "label"."""
        label: NDArray[np.uint8] = data["label"]
        if not label.any():
            return dict(data)
        spans = [np.flatnonzero((label > 0).any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
        voxel_ml = abs(float(np.linalg.det(data["affine"][:3, :3]))) / 1000
        corrected = np.zeros_like(label)
        corrected[box] = self.corrected(label[box], voxel_ml)
        return {**data, "label": corrected}

    def corrected(self, label: NDArray[np.uint8], voxel_ml: float) -> NDArray[np.uint8]:
        """(D, H, W) labels to others."""
        raise NotImplementedError


class SmallComponentsd(_Step):
    """Sets components of the whole (26 neighbours) below a volume to background."""

    def __init__(self, volume_ml: float) -> None:
        self.volume_ml = volume_ml

    def corrected(self, label: NDArray[np.uint8], voxel_ml: float) -> NDArray[np.uint8]:
        """Without the small ones."""
        components, _ = ndimage.label(label > 0, np.ones((3, 3, 3), bool))
        small = np.bincount(components.ravel()) * voxel_ml < self.volume_ml
        small[0] = False
        return np.where(small[components], 0, label).astype(np.uint8)


class SmallEnhancingd(_Step):
    """Relabels enhancing tumour as necrosis where a case has less of it than a volume."""

    def __init__(self, volume_ml: float, enhancing: int, necrosis: int) -> None:
        self.volume_ml, self.enhancing, self.necrosis = volume_ml, enhancing, necrosis

    def corrected(self, label: NDArray[np.uint8], voxel_ml: float) -> NDArray[np.uint8]:
        """With necrosis in its place."""
        mask = label == self.enhancing
        kept = mask.sum() * voxel_ml >= self.volume_ml
        return label if kept else np.where(mask, self.necrosis, label).astype(np.uint8)


class FillHolesd(_Step):
    """Labels background that tumour encloses like the labelled voxel nearest to it."""

    def corrected(self, label: NDArray[np.uint8], voxel_ml: float) -> NDArray[np.uint8]:
        """Without holes."""
        holes = ndimage.binary_fill_holes(label > 0) & (label == 0)
        if not holes.any():
            return label
        nearest = ndimage.distance_transform_edt(label == 0, return_distances=False, return_indices=True)
        return np.where(holes, label[tuple(nearest)], label).astype(np.uint8)


class SaveLabeld(Transform):
    """Writes "label" as NIfTI with the first image's header, called after the case.

    Args:
        folder: Is made where it is not there.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Write the file; "file" is its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(data["label"].T, None, data["header"])  # its own affine and unit
        image.set_data_dtype(np.uint8)
        image.header.set_slope_inter(1, 0)
        file = self.folder / f"{data['case']}.nii.gz"
        nib.save(image, file)
        return {**data, "file": str(file)}
