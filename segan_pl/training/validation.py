"""From logits of whole cases to scores and previews; knows the data, not the model.

A case is scored on the grid of its own files, as the file that `predict` would write. Where nothing is resampled and no
metric looks at a mask, voxels are counted on the prepared volume instead, on the device, and the cache says what the
crop left out: the same numbers (tests/test_scoring.py) in less time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from segan_pl.data.case import CaseError
from segan_pl.data.labels import LabelScheme
from segan_pl.data.source import CaseSource
from segan_pl.evaluation.metrics.base import CountMetric, Metric
from segan_pl.evaluation.metrics.state import CaseValues
from segan_pl.evaluation.policies import NA, Counts, EmptyPolicy, mean_available
from segan_pl.evaluation.previews import PreviewSlice, preview_slice
from segan_pl.evaluation.scoring import RegionScore, score_case, score_counts
from segan_pl.evaluation.tables import (
    CaseScore,
    Subset,
    SubsetScore,
    case_rows,
    dice_over_subsets,
    require_each_once,
    summarise,
)
from segan_pl.evaluation.volumes import as_written, centre, confusion, threshold
from segan_pl.inference.native_labels import native_labels

ScoreOn = Literal["volume", "crop"]


class ScoreStates:
    """Counts and metrics of many cases, each a torchmetrics state, so that the cases of all ranks come together.

    Args:
        metrics: One state each.
        regions: In order.
        keys: Numbers that name a case.
    """

    def __init__(self, metrics: Sequence[Metric], regions: Sequence[str], keys: int = 1) -> None:
        self.regions = tuple(regions)
        self.counts = CaseValues((len(regions), 4), keys)
        self.values = {metric.name: metric.state(len(regions), keys) for metric in metrics}

    def update(self, key: Sequence[int], scores: Sequence[RegionScore]) -> None:
        """Keep one case's scores, one for each region."""
        self.counts.update(key, torch.tensor([score.counts for score in scores]))
        for name, state in self.values.items():
            state.update(key, torch.tensor([score.values[name] for score in scores], dtype=torch.float64))

    def gathered(self, device: torch.device) -> list[tuple[tuple[int, ...], list[RegionScore]]]:
        """The key and the scores of each case of every rank, by key.

        Args:
            device: Where tensors must lie that ranks exchange.
        """
        counts = self.counts.to(device).compute()
        values = {name: [row for _, row in state.to(device).compute()] for name, state in self.values.items()}
        cases = []
        for case, (key, numbers) in enumerate(counts):
            scores = []
            for place, region in enumerate(self.regions):
                # NaN is how a state says that a metric is not available: tensors hold nothing else for it.
                found = {name: NA if math.isnan(x := rows[case][place]) else x for name, rows in values.items()}
                scores.append(RegionScore(region, Counts(*map(int, numbers[place])), found))
            cases.append((key, scores))
        return cases


class VolumeScoring:
    """One scoring of a part of the split: begin, score case by case, finish.

    Args:
        scheme: Which channels are scored, and their names.
        policy: What empty masks score.
        metrics: What is computed in validation.
        tested: What `test` computes.
        score_on: "volume" scores on the original grid, "crop" the central `crop` of the prepared volume.
        crop: (D, H, W).
        shown: Row of the image that previews show.
        previews: Cases of which one slice is kept.
        subsets: Whether subsets of the modalities are scored too, by `metrics`.
        losses: Names of the values that `keep_losses` is given, as they are logged.

    Attributes:
        computed: What the present scoring computes.
        case_scores: One row for each case and region, of the last finished scoring.
        subset_scores: One row for each case, subset of its modalities and region, where subsets were scored.
        previews: Slices kept in the present one.
    """

    def __init__(
        self,
        scheme: LabelScheme,
        policy: EmptyPolicy,
        *,
        metrics: Sequence[Metric],
        tested: Sequence[Metric],
        score_on: ScoreOn,
        crop: tuple[int, int, int],
        shown: int,
        previews: int,
        subsets: bool = False,
        losses: Sequence[str] = (),
    ) -> None:
        self.scheme = scheme
        self.policy = policy
        self.metrics = tuple(metrics)
        self.tested = tuple(tested)
        self.score_on = score_on
        self.crop = crop
        self.shown = shown
        self.preview_cases = previews
        self.subsets = subsets
        self.losses = tuple(losses)
        self.case_scores: list[CaseScore] = []
        self.subset_scores: list[SubsetScore] = []
        self.begin()

    def begin(self, *, test: bool = False) -> None:
        """Forget what an earlier scoring left."""
        self.computed = self.tested if test else self.metrics
        self.states = ScoreStates(self.computed, self.scheme.foreground)
        self.subset_states = ScoreStates(self.metrics, self.scheme.foreground, keys=2)
        self.loss_values = CaseValues((len(self.losses),))
        # The scores of the last case with all its modalities.
        self.last: list[RegionScore] = []
        self.previews: list[PreviewSlice] = []

    def scored_part(self, volume: Tensor) -> Tensor:
        """What of a prepared (..., D, H, W) is predicted and scored."""
        return centre(volume, self.crop) if self.score_on == "crop" else volume

    def score(
        self, row: int, target: Tensor, logits: Tensor, data: CaseSource, *, subset: Subset | None = None
    ) -> None:
        """Score one case as the file that `predict` would write.

        Args:
            row: Of the data module's case table.
            target: (C, D, H, W) in {0, 1}, or -1 in all channels where nothing is judged.
            logits: (C, D, H, W).
            data: Says where the case lies in its files, and what its reference is there.
            subset: The modalities that the logits come from, for the table of subsets; None for the case as it is.

        Raises:
            CaseError: A metric fails or is infinite.
        """
        metrics = self.computed if subset is None else self.metrics
        counted = [metric for metric in metrics if isinstance(metric, CountMetric)]
        try:
            if len(counted) == len(metrics) and not (self.score_on == "volume" and data.geometry(row).resampled):
                scores = self._count(row, target, logits, data, counted)
            else:
                scores = self._look(row, target, logits, data, metrics)
        except CaseError as error:
            name = data.cases[row].name
            raise error if str(error).startswith(name) else CaseError(f"{name}, {error}") from error
        if subset is None:
            self.last = scores
            self.states.update((row,), scores)
        else:
            self.keep_subset(row, subset, scores)

    def keep_subset(self, row: int, subset: Subset, scores: Sequence[RegionScore]) -> None:
        """Keep the scores of a case from some of its modalities, which a key of bits names over all ranks."""
        self.subset_states.update((row, sum(1 << place for place in subset)), scores)

    def _count(
        self, row: int, target: Tensor, logits: Tensor, data: CaseSource, metrics: Sequence[CountMetric]
    ) -> list[RegionScore]:
        """By the prepared volume's voxels, and the counts of those that the crop left out."""
        mask = as_written(threshold(logits, self.scheme.activation), self.scheme)
        if self.score_on == "volume":
            # Padding is not on the original grid.
            box = (slice(None), *data.geometry(row).real_box)
            counts = confusion(mask[box], target[box], self._ignored(target[box]))
            counts[:, 2:] += torch.as_tensor(data.outside(row), device=counts.device)
        else:
            counts = confusion(mask, target, self._ignored(target))
        channels = dict(zip(self.scheme.channels, counts.tolist(), strict=True))
        return score_counts(
            {region: channels[region] for region in self.scheme.foreground},
            self._spacing_mm(row, data),
            metrics,
            policy=self.policy,
        )

    def _look(
        self, row: int, target: Tensor, logits: Tensor, data: CaseSource, metrics: Sequence[Metric]
    ) -> list[RegionScore]:
        """By the masks themselves, on the grid of the case's files."""
        # In native labels `score_case` finds the ignored voxels itself.
        geometry, ignored = data.geometry(row), None
        if self.score_on == "crop":
            label = self.scheme.decode(threshold(logits, self.scheme.activation).cpu().numpy())
            reference = self.scheme.decode(target.cpu().numpy())
            found = self._ignored(target)
            ignored = None if found is None else found.cpu().numpy()
        else:
            label, reference = native_labels(logits, geometry, self.scheme), data.reference(row)
        spacing = self._spacing_mm(row, data)
        return score_case(label, reference, spacing, metrics, scheme=self.scheme, policy=self.policy, ignored=ignored)

    def _ignored(self, target: Tensor) -> Tensor | None:
        """(D, H, W) bool, where nothing is judged; None where the scheme ignores nothing."""
        return target[0] < 0 if self.scheme.ignore else None

    def _spacing_mm(self, row: int, data: CaseSource) -> tuple[float, float, float]:
        """(x, y, z) of the grid that is scored."""
        geometry = data.geometry(row)
        affine = geometry.affine_prepared if self.score_on == "crop" else np.array(geometry.affine)
        return cast(tuple[float, float, float], tuple(map(float, np.linalg.norm(affine[:3, :3], axis=0))))

    def keep_losses(self, row: int, values: Mapping[str, Tensor]) -> None:
        """Keep what one case's losses are, a scalar for each name of `losses`.

        Raises:
            ValueError: The names are others.
        """
        if set(values) != set(self.losses):
            said, given = ", ".join(self.losses[1:]), ", ".join(list(values)[1:])
            raise ValueError(f"validation_parts() of the objective says {said!r}, validation_loss() gives {given!r}")
        self.loss_values.update((row,), torch.stack([values[name] for name in self.losses]).cpu())

    def keep_preview(self, row: int, image: Tensor, target: Tensor, logits: Tensor, data: CaseSource) -> None:
        """Keep a slice of each of the first few cases, see `preview_slice`."""
        if len(self.previews) < self.preview_cases:
            x, y, _ = map(float, np.linalg.norm(data.geometry(row).affine_prepared[:3, :3], axis=0))
            name, ignored = data.cases[row].name, self._ignored(target)
            shown = image[self.shown]
            self.previews.append(preview_slice(name, shown, target, logits, self.scheme, aspect=y / x, ignored=ignored))

    def finish(self, data: CaseSource, expected: Sequence[str] | None, device: torch.device) -> dict[str, float]:
        """Gather every rank's scores, and average over cases.

        Args:
            data: Names the rows.
            expected: Cases that must be there once each; None for a first look at a few.
            device: Where tensors must lie that ranks exchange.

        Raises:
            RuntimeError: A case is missing or was scored twice.
        """
        found = self.states.gathered(device)
        if expected is not None:
            require_each_once([data.cases[row].name for (row,), _ in found], expected)
        self.case_scores = [
            score for (row,), scores in found for score in case_rows(data.cases[row], scores, self.scheme.foreground)
        ]
        summary = summarise(self.case_scores, self.scheme.foreground, self.computed)
        # Every case has the same weight in the mean.
        if self.losses:
            values = zip(*(losses for _, losses in self.loss_values.to(device).compute()), strict=True)
            summary |= {name: mean_available(one)[0] for name, one in zip(self.losses, values, strict=True)}
        return {**summary, **self._finish_subsets(data, device)}

    def _finish_subsets(self, data: CaseSource, device: torch.device) -> dict[str, float]:
        """The same for the subsets; nothing where none were scored."""
        self.subset_scores = []
        if not self.subsets:
            return {}
        count = len(data.modalities)
        found = [
            (tuple(place for place in range(count) if bits >> place & 1), row, scores)
            for (row, bits), scores in self.subset_states.gathered(device)
        ]
        self.subset_scores = [
            SubsetScore("+".join(data.modalities[place] for place in subset), len(subset), score)
            for subset, row, scores in sorted(found, key=lambda one: (len(one[0]), one[0], one[1]))
            for score in case_rows(data.cases[row], scores, self.scheme.foreground)
        ]
        return dice_over_subsets(self.subset_scores, self.scheme.foreground)
