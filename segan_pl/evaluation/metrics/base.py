"""What a metric is, and what it is given: the counts of a region, and its two masks. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.evaluation.lesions import LesionRules, LesionScores, lesion_scores
from segan_pl.evaluation.policies import NA, Counts, EmptyPolicy
from segan_pl.evaluation.surface import Surface, boundary, directed_mm, elements

if TYPE_CHECKING:
    from segan_pl.evaluation.metrics.state import CaseValues

ABOUT = ("case", "patient", "grade", "institution")
COUNTS = ("tp", "fp", "fn", "tn")
NOT_METRICS = (*ABOUT, "region", "status", *COUNTS, "empty", "policy")
"""Columns of a table of scores that are no metric."""
MM3_PER_ML = 1000.0
Spacing = tuple[float, float, float]


@dataclass(eq=False)
class Counted:
    """The voxel counts of one region of one case, which are all that an overlap or a volume needs.

    Attributes:
        counts: Over all voxels of the grid that are judged.
        spacing_mm: (z, y, x), as the arrays' axes and SciPy's `sampling`.
    """

    counts: Counts
    spacing_mm: Spacing

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel."""
        return float(np.prod(self.spacing_mm)) / MM3_PER_ML


class MaskPair(Counted):
    """The prediction and the reference of one region of one case; what several metrics need is computed once.

    Attributes:
        prediction: (D, H, W) bool, of a box that holds both masks; beyond it both are empty.
        reference: The same shape.
        flat: Axes along which the whole volume is one voxel: a slice has a contour, not a front and a back.
    """

    def __init__(
        self,
        prediction: NDArray[np.bool_],
        reference: NDArray[np.bool_],
        spacing_mm: Spacing,
        *,
        voxels: int | None = None,
        flat: Collection[int] = (),
    ) -> None:
        tp, predicted, true = (int(np.count_nonzero(m)) for m in (prediction & reference, prediction, reference))
        total = reference.size if voxels is None else voxels
        super().__init__(Counts(tp, predicted - tp, true - tp, total - predicted - true + tp), spacing_mm)
        self.prediction = prediction
        self.reference = reference
        self.flat = flat
        self._lesions: dict[LesionRules, LesionScores] = {}

    @cached_property
    def boundary_distances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """From each boundary voxel of the prediction to the nearest of the reference in mm, and the way back."""
        return directed_mm(boundary(self.prediction, self.flat), boundary(self.reference, self.flat), self.spacing_mm)

    @cached_property
    def surface_elements(self) -> tuple[Surface, Surface]:
        """The cubes of eight voxel centres that each surface passes, weighted by mm2."""
        return elements(self.prediction, self.spacing_mm), elements(self.reference, self.spacing_mm)

    @cached_property
    def element_distances(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As `boundary_distances`, of the surfaces' elements."""
        return directed_mm(*self.surface_elements, self.spacing_mm)

    def lesions(self, rules: LesionRules) -> LesionScores:
        """Lesion by lesion, by a challenge's rules."""
        if rules not in self._lesions:
            self._lesions[rules] = lesion_scores(self.prediction, self.reference, self.spacing_mm, rules)
        return self._lesions[rules]


class Metric:
    """One number for a region of a case. A new metric is a subclass in a file of its own, given by its import path.

    It is made without arguments, sets `name` and what else is not as below, and defines `compute`::

        class RelativeVolume(Metric):
            name, unit, higher_is_better, bounds = "relative_volume", "1", False, (0.0, math.inf)

            def compute(self, masks: MaskPair) -> float:
                return masks.prediction.sum() / masks.reference.sum()

    Attributes:
        name: The column of the table, and the first part of the name that is logged: lower case, digits and "_".
        unit: E.g. "mm"; "1" for a share, empty where it is not known.
        higher_is_better: None where neither direction is, as of a volume; such a metric chooses no checkpoint.
        bounds: The least and the largest value that is possible.
        by_size: Whether a value is compared by its size, whatever its sign.
        definition: Which of several definitions it has; tables that differ here are not compared.
        meaning: A sentence for a legend.
        decimals: Of a cell of the table.
    """

    name: str = ""
    unit: str = ""
    higher_is_better: bool | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)
    by_size: bool = False
    definition: str = ""
    meaning: str = ""
    decimals: int = 6

    def compute(self, masks: MaskPair) -> float:
        """The value, of two masks of which neither is empty."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute(masks)")

    def empty(self, masks: MaskPair, policy: EmptyPolicy) -> float:
        """The value where a mask is empty; by default not available (NaN), which is left out of means."""
        return NA

    def missing(self, as_empty: float, policy: EmptyPolicy) -> float:
        """The value of a case without a prediction: the worst that is possible, else that of an empty prediction.

        Args:
            as_empty: What an empty prediction scores.
            policy: What empty masks score.
        """
        worst = {True: self.bounds[0], False: self.bounds[1], None: math.inf}[self.higher_is_better]
        return worst if math.isfinite(worst) else as_empty

    def score(self, masks: MaskPair, policy: EmptyPolicy) -> float:
        """`compute`, or `empty` where a mask is empty."""
        return float(self.compute(masks) if masks.counts.empty == "neither" else self.empty(masks, policy))

    def state(self, regions: int, keys: int = 1) -> CaseValues:
        """A torchmetrics state for this metric's values, (regions,) for each case: cases and ranks add up there.

        Args:
            regions: How many are scored.
            keys: Numbers that name a case.
        """
        # loads PyTorch, which `evaluate` does without
        from segan_pl.evaluation.metrics.state import CaseValues

        return CaseValues((regions,), keys)

    def described(self) -> dict[str, Any]:
        """What a table's reader must know, as JSON holds it; null is "not bounded" or "neither is better"."""
        return {
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "by_size": self.by_size,
            "bounds": [bound if math.isfinite(bound) else None for bound in self.bounds],
            "definition": self.definition,
            "meaning": self.meaning,
        }


class CountMetric(Metric):
    """A metric that needs no mask but its counts, so that it costs next to nothing once voxels are counted."""

    def compute(self, counted: Counted) -> float:
        """The value where neither mask is empty."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute(counted)")

    def empty(self, counted: Counted, policy: EmptyPolicy) -> float:
        """The value where a mask is empty."""
        return NA

    def score(self, counted: Counted, policy: EmptyPolicy) -> float:
        """As `Metric.score`; masks are counts too."""
        whole = counted.counts.empty == "neither"
        return float(self.compute(counted) if whole else self.empty(counted, policy))
