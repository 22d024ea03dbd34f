"""The options of `segan_pl predict`; nothing here loads PyTorch, which its help need not wait for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from segan_pl.data.conventions import Stated
from segan_pl.inference import Average, Blend, Combine, Precision, PredictIn
from segan_pl.inference.split_part import Part


@dataclass(frozen=True)
class PredictOptions:
    """With what to predict, which cases, and where to.

    Attributes:
        ckpt_path: A checkpoint, or several that decide together.
        output: Folder for the segmentations.
        native_labels: What the written labels mean; "auto" takes the input data set's where it knows all that the
            checkpoint predicts, else the checkpoint's where no value means something else there.
        combine: Of several checkpoints, the "mean" of their probabilities, or a weighted majority "vote".
        weights: One for each checkpoint; default equal.
        mirror: Axes mirrored at test time: 0 (z), 1 (y), 2 (x).
        overlap: Of a 3-D network's windows; this and the next six default to those of the run's validation.
        step: Voxels from a window to the next along (D, H, W), instead of the overlap.
        whole: Instead of windows one forward pass of a volume, padded to a multiple of this.
        blend: Weights inside a window.
        average: What is averaged where windows overlap, "logits" or "probabilities".
        window_batch: Windows in a forward pass.
        skip_empty: Windows of background alone are not run, and are background.
        predict_in: "anywhere", or in the "brain" alone, where an image is not 0; default as in the run's validation.
        postprocess: Steps in order, e.g. [small_components:0.5, fill_holes]; [] for none. Default: those that
            `segan_pl postprocess` chose for the checkpoint, with a note; several checkpoints must agree on them.
        probabilities: Also write one <case>_<channel>.nii.gz of probabilities for each channel (uint8, 255 is 1).
        uncertainty: Also write <case>_variance.nii.gz, the variance between checkpoints and mirror images (float32),
            and its mean over what any of them labels into predictions.csv.
        missing: A case that lacks a modality: "refuse", or "zero" for zeros in its place; "auto" is zero where every
            checkpoint was trained with modalities missing, else refuse. A case without any is always refused.
        nonfinite: NaN and Inf voxels: "refuse", or "zero"; default as the checkpoint was trained.
        part: Only the "train", "val", "test" or "unlabelled" cases of the split of the checkpoint's run.
        share: "i/n" predicts every n-th case from the i-th on (from 1), so that n jobs share a folder.
        overwrite: Replace segmentations that are there; without it they are kept and skipped.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "auto" is the one of the run's validation.
    """

    ckpt_path: list[str]
    output: str
    native_labels: Stated = "auto"
    combine: Combine = "mean"
    weights: list[float] = field(default_factory=list)
    mirror: list[int] = field(default_factory=list)
    overlap: float | None = None
    step: list[int] | None = None
    whole: int | None = None
    blend: Blend | None = None
    average: Average | None = None
    window_batch: int | None = None
    skip_empty: bool | None = None
    predict_in: PredictIn | None = None
    postprocess: list[str] | None = None
    probabilities: bool = False
    uncertainty: bool = False
    missing: Literal["auto", "refuse", "zero"] = "auto"
    nonfinite: Literal["refuse", "zero"] | None = None
    part: Part | None = None
    share: str = "1/1"
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"
