"""The half of the LightningModule that predicts and scores whole volumes, however the networks were trained."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.data.labels import LabelScheme
from segan_pl.data.source import CaseSource, Part, case_names, case_source
from segan_pl.errors import UsageError
from segan_pl.evaluation.previews import PreviewSlice
from segan_pl.evaluation.tables import (
    CaseScore,
    SubsetScore,
    dice_over_subsets_names,
    limited,
    subsets_of,
    summary_names,
)
from segan_pl.inference import PredictIn
from segan_pl.inference.brain import brain_of, kept_inside
from segan_pl.inference.inferer import Windows, over_volume
from segan_pl.inference.input_case import image_of
from segan_pl.inference.native_labels import native_labels
from segan_pl.inference.prediction import Prediction
from segan_pl.nets.blocks import MEMORY_FORMATS
from segan_pl.nets.modality_mask import ModalityMask, with_modality_mask, with_modality_mask_on_volumes
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.training.validation import VolumeScoring


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names the network and the batch's cases."""


class WholeVolumes(L.LightningModule):
    """Prediction and scoring; `AdversarialSegmentation` sets the attributes, and trains.

    Attributes:
        networks: By name.
        averaged: Averaged copies by name.
        objective: Its validation loss is logged.
        scheme: Native labels to channels.
        modalities: Of the image, in order.
        modality_mask: How the segmentor learns which modalities are missing.
        scoring: Scores and previews of the present scoring.
        subsets: Which subsets of the modalities are scored, too.
        patch: Of training; three numbers mean a 3-D network.
        windows: How a 3-D network walks over a volume.
        predict_in: Where predictions may lie; elsewhere logits are those of certain background.
        slices: Slices in one forward pass of a 2-D network.
        channels_last: Memory format of images.
        batches_seen: Of training.
        groups_seen: Groups of batches that shared a step.
        trained_background: The prepared value of padding that a checkpoint says.
    """

    networks: nn.ModuleDict
    averaged: nn.ModuleDict
    objective: Objective
    scheme: LabelScheme
    modalities: list[str]
    modality_mask: ModalityMask
    scoring: VolumeScoring
    subsets: str
    patch: tuple[int, ...] | None
    windows: Windows
    predict_in: PredictIn
    slices: int
    channels_last: bool
    batches_seen: int
    groups_seen: int
    trained_background: float

    @property
    def segmentor(self) -> nn.Module:
        """The network that is kept: image to logits."""
        return self.networks["segmentor"]

    @property
    def scored(self) -> nn.Module:
        """The network that validation scores: the averaged segmentor where there is one."""
        averaged = "segmentor" in self.averaged
        return (self.averaged if averaged else self.networks)["segmentor"]

    def metric_names(self, stage: str = "val") -> list[str]:
        """Everything that validation, or `test`, logs, known before the first epoch."""
        regions = self.scheme.foreground
        metrics = self.scoring.tested if stage == "test" else self.scoring.metrics
        over_subsets = dice_over_subsets_names(regions) if self.subsets == "all" else []
        names = [*summary_names(regions, metrics), *self.scoring.losses, *over_subsets]
        return [f"{stage}/{name}" for name in names]

    def described_metrics(self) -> dict[str, Any]:
        """Unit, direction and more of what validation computes, by name."""
        return {metric.name: metric.described() for metric in self.scoring.metrics}

    @property
    def source(self) -> CaseSource:
        """The data that are trained on, scored or predicted.

        Raises:
            UsageError: The trainer has no data module, or one that is no `CaseSource`.
        """
        if (source := case_source(self._trainer)) is None:
            raise UsageError("whole cases need a data module: trainer.fit(model, datamodule=data); see docs/python.md")
        return source

    def forward(self, image: Tensor, modality_mask: Tensor | None = None) -> Tensor:
        """Logits (B, C, *spatial) of prepared patches, by the network that is scored.

        Args:
            image: (B, M, *spatial), of a size that the network takes.
            modality_mask: (B, M) bool, which modalities are there; default all. The image holds zeros for the others.

        Raises:
            ValueError: The image has other axes, or another number of modalities.
        """
        if image.ndim not in MEMORY_FORMATS or image.shape[1] != len(self.modalities):
            raise ValueError(
                f"an image of shape {tuple(image.shape)}; expected (B, {len(self.modalities)}, *spatial) of "
                f"{', '.join(self.modalities)}; `predict_volume` takes one whole volume"
            )
        there = torch.ones(image.shape[:2], dtype=torch.bool) if modality_mask is None else modality_mask
        logits: Tensor = with_modality_mask(self.scored, there, self.modality_mask)(self._format(image))
        return logits

    def predict_volume(self, image: Tensor, modality_mask: Tensor | None = None) -> Tensor:
        """Logits (C, D, H, W) of one prepared volume (M, D, H, W), slice by slice or window by window.

        Args:
            image: What it holds of modalities that are not there does not matter.
            modality_mask: (M,) bool, which are there; default all.
        """
        there = torch.ones(len(image), dtype=torch.bool) if modality_mask is None else modality_mask
        network = with_modality_mask_on_volumes(self.scored, there, self.modality_mask)
        needed = self.predict_in == "brain" or self.windows.skip_empty
        brain = brain_of(image, self.background, there) if needed else None
        logits = over_volume(
            network,
            image,
            patch=self.patch,
            windows=self.windows,
            activation=self.scheme.activation,
            channels=len(self.scheme.channels),
            bare=self.segmentor,
            slices=self.slices,
            channels_last=self.channels_last,
            dtype=self._input_dtype,
            background=self.background,
            brain=brain,
        )
        inside = brain if self.predict_in == "brain" else None
        return kept_inside(logits, inside, self.scheme.activation, logits=True)

    @property
    def background(self) -> float:
        """The prepared value of padding, as the data that are scored have it, else those that it was trained on."""
        source = case_source(self._trainer)
        return self.trained_background if source is None else source.background

    @property
    def case_scores(self) -> list[CaseScore]:
        """One row for each case and region, of the last scoring."""
        return self.scoring.case_scores

    @property
    def subset_scores(self) -> list[SubsetScore]:
        """One row for each case, subset of its modalities and region, of the last scoring with `subsets` "all"."""
        return self.scoring.subset_scores

    @property
    def previews(self) -> list[PreviewSlice]:
        """A slice each of the first few cases of the last scoring."""
        return self.scoring.previews

    def on_validation_start(self) -> None:
        """All ranks score with rank 0's normalisation statistics, so scores do not depend on who scores a case."""
        self.scoring.begin(test=self.trainer.testing)
        if dist.is_available() and dist.is_initialized():
            for buffer in self.buffers():
                dist.broadcast(buffer, 0)

    on_test_start = on_validation_start

    @property
    def _input_dtype(self) -> torch.dtype:
        return next(self.segmentor.parameters()).dtype

    def _format(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """In the networks' memory format, which losses over logits and targets are fastest in too."""
        memory = MEMORY_FORMATS[tensor.ndim] if self.channels_last else torch.contiguous_format
        return tensor.to(dtype or self._input_dtype, memory_format=memory)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict one case, and count its voxels."""
        row, source = int(batch.case), self.source
        image, target = self.scoring.scored_part(batch.image[0]), self.scoring.scored_part(batch.target[0])
        logits = self._finite_logits(image, batch.modality_mask[0], batch)
        self.scoring.score(row, target, logits, source)
        if self.scoring.losses:
            terms = self.objective.validation_loss(self._case_context(image, target, logits, batch))
            parts = {f"loss_{name}": value for name, value in terms.parts.items()}
            self.scoring.keep_losses(row, {"loss": terms.total, **parts})
        if self.subsets == "all":
            *fewer, whole = subsets_of(batch.modality_mask[0].tolist())
            for subset in fewer:
                kept = torch.zeros_like(batch.modality_mask[0])
                kept[list(subset)] = True
                shown = self._finite_logits(image, kept, batch)
                self.scoring.score(row, target, shown, self.source, subset=subset)
            self.scoring.keep_subset(row, whole, self.scoring.last)
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            self.scoring.keep_preview(row, image, target, logits, source)

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """One case to its labels on the grid of its files, as `segan_pl predict` decides them."""
        row, source = int(batch.case), self.source
        logits = self.predict_volume(batch.image[0], batch.modality_mask[0])
        geometry, case = source.geometry(row), source.cases[row]
        label = native_labels(logits, geometry, self.scheme)
        channels, affine = self.scheme.channels, np.array(geometry.affine)
        return Prediction(label, None, channels, affine, (), image_of(case, self.modalities), case.name)

    def _context(self, batch: Batch, steps: int | None = None) -> StepContext:
        """What an objective's losses are given: `image` and `target` are floating point, in the memory format."""
        scheme, networks, ignores = self.scheme, dict(self.networks.items()), bool(self.scheme.ignore)
        return StepContext(
            *(networks, batch, scheme.activation, self.modality_mask),
            ignores=ignores,
            step=self.groups_seen,
            steps=steps,
        )

    def _case_context(self, image: Tensor, target: Tensor, logits: Tensor, batch: Batch) -> StepContext:
        """One whole case as a batch: of its slices for a 2-D network, of one volume for a 3-D one."""

        def samples(volume: Tensor) -> Tensor:
            return volume[None] if self.patch is not None and len(self.patch) == 3 else volume.movedim(1, 0)

        image = samples(image)
        batch = batch._replace(
            image=image,
            target=samples(target).float(),
            labelled=batch.labelled.expand(len(image)),
            modality_mask=batch.modality_mask.expand(len(image), -1),
        )
        context = self._context(batch)
        # The logits are there already: nothing is computed again.
        context.kept("logits", "segmentor", lambda: samples(logits))
        return context

    def _finite_logits(self, image: Tensor, modality_mask: Tensor, batch: Batch) -> Tensor:
        """The forward pass, refused where it is not finite: it would score 0, and the weights replace last.ckpt."""
        logits = self.predict_volume(image, modality_mask)
        # Both are NaN where any logit is; `isfinite` of every logit takes ten times as long.
        if not all(torch.isfinite(edge) for edge in torch.aminmax(logits)):
            self._refuse_non_finite("validation: the network's output", "", batch)
        return logits

    def on_validation_epoch_end(self) -> None:
        """Log the means over cases, each scored once whatever the number of ranks."""
        self._finish("val", "val", self.trainer.limit_val_batches)

    def on_test_epoch_end(self) -> None:
        """The same for the test cases."""
        self._finish("test", self.source.test_part, self.trainer.limit_test_batches)

    def _finish(self, stage: str, part: Part, limit: float) -> None:
        source = self.source
        asked = limited(case_names(source, source.rows(part)), limit, self.trainer.world_size)
        expected = None if self.trainer.sanity_checking else asked
        # NCCL exchanges tensors of the GPU only.
        nccl = dist.is_available() and dist.is_initialized() and dist.get_backend() == "nccl"
        summary = self.scoring.finish(source, expected, self.device if nccl else torch.device("cpu"))
        logged = {f"{stage}/{name}": value for name, value in summary.items()}
        self.log_dict({**logged, "step": float(self.batches_seen)})

    def _refuse_non_finite(self, what: str, detail: str, batch: Batch) -> None:
        source = case_source(self._trainer)
        cases = ", ".join(case_names(source, batch.case) if source else map(str, batch.case.tolist()))
        raise NonFiniteLossError(
            f"epoch {self.current_epoch}, {what} is not finite {detail}; cases: {cases}; the last good checkpoint is "
            f"kept; lower the learning rate or look at these cases"
        )
