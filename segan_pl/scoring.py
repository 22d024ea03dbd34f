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
from segan_pl.evaluation.subsets import Subset, SubsetScore, dice_over_subsets, subset_name
from segan_pl.evaluation.volumes import as_written, centre, gather, threshold
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
        subset_scores: One row a case, subset of its modalities and region, where subsets were counted.
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
        self.subset_scores: list[SubsetScore] = []
        self.previews: list[PreviewSlice] = []
        self.counts: dict[int, list[list[int]]] = {}
        self.subset_counts: dict[tuple[int, Subset], list[list[int]]] = {}

    def begin(self) -> None:
        """Forget what an earlier scoring left."""
        self.counts = {}
        self.subset_counts = {}
        self.previews = []

    def scored_part(self, volume: Tensor) -> Tensor:
        """What of a prepared (..., D, H, W) is predicted and scored."""
        return centre(volume, self.crop) if self.score_on == "crop" else volume

    def count(
        self, row: int, target: Tensor, logits: Tensor, data: MRIDataModule, *, subset: Subset | None = None
    ) -> None:
        """Count one case's voxels, as the file that `predict` would write has them.

        Args:
            row: Of the data module's case table.
            target: (C, D, H, W) in {0, 1}.
            logits: (C, D, H, W).
            data: Says which voxels are padding, and what the crop left out.
            subset: The modalities that the logits come from, for the table of subsets; None for the case as it is.
        """
        mask = as_written(threshold(logits, self.scheme.activation), self.scheme)
        if self.score_on == "volume":
            box = (slice(None), *data.real_box(row))  # padding is not on the original grid
            counts = confusion(mask[box], target[box])
            counts[:, 2:] += torch.as_tensor(data.outside(row), device=counts.device)
        else:
            counts = confusion(mask, target)
        if subset is None:
            self.counts[row] = counts.tolist()
        else:
            self.subset_counts[row, subset] = counts.tolist()

    def count_again(self, row: int, subset: Subset) -> None:
        """Take what was counted of a case as it is for a subset too: that of all its modalities."""
        self.subset_counts[row, subset] = self.counts[row]

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
        self.case_scores = [score for row, numbers in counts for score in self._scored(row, numbers, data)]
        summary = summarise(self.case_scores, self.scheme.foreground)
        return {**summary, **self._finish_subsets(data)}

    def _finish_subsets(self, data: MRIDataModule) -> dict[str, float]:
        """The same for the subsets; nothing where none were counted."""
        names = data.modalities
        counted = [(subset, row, numbers) for (row, subset), numbers in gather(self.subset_counts)]
        self.subset_scores = [
            SubsetScore(subset_name(subset, names), len(subset), score)
            for subset, row, numbers in sorted(counted, key=lambda one: (len(one[0]), one[0], one[1]))
            for score in self._scored(row, numbers, data)
        ]
        return dice_over_subsets(self.subset_scores, self.scheme.foreground) if self.subset_scores else {}

    def _scored(self, row: int, numbers: Sequence[Sequence[int]], data: MRIDataModule) -> list[CaseScore]:
        """One case's counts, a row a region."""
        case, regions = data.cases[row], self.scheme.foreground
        return score_case(
            case.name,
            [numbers[self.scheme.channels.index(region)] for region in regions],
            regions,
            self.policy,
            patient=case.patient,
            grade=case.grade,
            institution=case.institution,
        )
