"""How far members of an ensemble (checkpoints, folds, mirror images) are from one another: a map, and one number."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan_pl.data.labels import LabelScheme
from segan_pl.inference.native_labels import decide


class Spread:
    """Weighted mean and variance of probabilities, one member at a time (West 1979), so that none is kept.

    Args:
        scheme: Of the members' channels.
    """

    def __init__(self, scheme: LabelScheme) -> None:
        self.scheme = scheme
        self._weight = 0.0
        self._mean: Tensor | None = None
        self._total: Tensor | None = None
        self._labelled: Tensor | None = None

    def add(self, probability: Tensor, weight: float) -> None:
        """Another member.

        Args:
            probability: (C, D, H, W) on the grid of the case's files.
            weight: Above 0.
        """
        rows = [row for row, name in enumerate(self.scheme.channels) if name in self.scheme.foreground]
        labelled = decide(probability, self.scheme.activation)[rows].any(0)
        probability = probability.float()
        if self._mean is None or self._total is None or self._labelled is None:
            self._mean, self._total, self._labelled = probability.clone(), torch.zeros_like(probability), labelled
            self._weight = weight
            return
        self._weight += weight
        gap = probability - self._mean
        self._mean += gap * (weight / self._weight)
        self._total += gap * (probability - self._mean) * weight
        self._labelled |= labelled

    def variance(self) -> NDArray[np.float32]:
        """(D, H, W): the weighted variance between members, added over channels.

        It is the mean squared distance of a member's probabilities to the mean of all.
        """
        assert self._total is not None, "no member was added"
        found: NDArray[np.float32] = (self._total.sum(0) / self._weight).cpu().numpy()
        return found

    def number(self) -> float:
        """The mean of the variance over the voxels that any member labels; 0 where none labels any."""
        assert self._labelled is not None, "no member was added"
        labelled = self._labelled.cpu().numpy()
        return float(self.variance()[labelled].mean(dtype=np.float64)) if labelled.any() else 0.0
