"""From logits of whole cases to counts, previews and scores; knows the data, not the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from segan_pl.data.labels import LabelScheme
from segan_pl.data.module import MRIDataModule
from segan_pl.evaluation.cases import CaseScore, require_each_once, score_case, summarise
from segan_pl.evaluation.counts import EmptyPolicy, confusion
from segan_pl.evaluation.preview import PreviewSlice
from segan_pl.evaluation.volumes import centre, gather, threshold
from segan_pl.losses.activation import activate

ScoreOn = Literal["volume", "crop"]


class VolumeScoring:
    """One scoring of a part of the split: begin, count case by case, finish.

    Args:
        scheme: Which channels are scored, and their names.
        policy: What empty masks score.
        score_on: "volume" counts on the original grid, "crop" the central `crop` of the prepared volume.
        crop: (D, H, W).
        shown: Row of the image that previews show.
        previews: Cases of which one slice is kept.

    Attributes:
        case_scores: One row a case and region, of the last finished scoring.
        previews: Slices kept in the present one.
    """

    def __init__(
        self,
        scheme: LabelScheme,
        policy: EmptyPolicy,
        *,
        score_on: ScoreOn,
        crop: tuple[int, int, int],
        shown: int,
        previews: int,
    ) -> None:
        self.scheme = scheme
        self.policy = policy
        self.score_on = score_on
        self.crop = crop
        self.shown = shown
        self.preview_cases = previews
        self.case_scores: list[CaseScore] = []
        self.previews: list[PreviewSlice] = []
        self.counts: dict[int, list[list[int]]] = {}

    def begin(self) -> None:
        """Forget what an earlier scoring left."""
        self.counts = {}
        self.previews = []

    def scored_part(self, volume: Tensor) -> Tensor:
        """What of a prepared (..., D, H, W) is predicted and scored."""
        return centre(volume, self.crop) if self.score_on == "crop" else volume

    def count(self, row: int, target: Tensor, logits: Tensor, data: MRIDataModule) -> None:
        """Count one case's voxels.

        Args:
            row: Of the data module's case table.
            target: (C, D, H, W) in {0, 1}.
            logits: (C, D, H, W).
            data: Says which voxels are padding, and what the crop left out.
        """
        mask = threshold(logits, self.scheme.activation)
        if self.score_on == "volume":
            box = (slice(None), *data.real_box(row))  # padding is not on the original grid
            counts = confusion(mask[box], target[box])
            counts[:, 2:] += torch.as_tensor(data.outside(row), device=counts.device)
        else:
            counts = confusion(mask, target)
        self.counts[row] = counts.tolist()

    def keep_preview(self, case: str, image: Tensor, target: Tensor, logits: Tensor) -> None:
        """Keep the slice with most of the first region, of the first few cases."""
        if len(self.previews) >= self.preview_cases:
            return
        channel = self.scheme.channels.index(self.scheme.foreground[0])
        z = int(target[channel].sum((1, 2)).argmax())
        probability = activate(logits[None, :, z], self.scheme.activation)[0, channel]
        self.previews.append(
            PreviewSlice(
                case,
                z,
                image[self.shown, z].float().cpu().numpy(),
                target[channel, z].cpu().numpy().astype("uint8"),
                probability.cpu().numpy(),
            )
        )

    def finish(self, data: MRIDataModule, expected: Sequence[str] | None) -> dict[str, float]:
        """Gather every rank's counts, and average over cases.

        Args:
            data: Names the rows.
            expected: Cases that must be there once each; None for a first look at a few.

        Raises:
            RuntimeError: A case is missing or was scored twice.
        """
        counts = sorted(gather(self.counts))
        if expected is not None:
            require_each_once(data.names([row for row, _ in counts]), expected)
        regions = self.scheme.foreground
        channels = [self.scheme.channels.index(region) for region in regions]
        self.case_scores = []
        for row, numbers in counts:
            case, of_regions = data.cases[row], [numbers[channel] for channel in channels]
            self.case_scores += score_case(
                case.name,
                of_regions,
                regions,
                self.policy,
                patient=case.patient,
                grade=case.grade,
                institution=case.institution,
            )
        return summarise(self.case_scores, regions)
