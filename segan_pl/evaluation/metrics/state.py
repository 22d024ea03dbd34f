"""Values of cases gathered from every rank, as torchmetrics does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat


class CaseValues(torchmetrics.Metric):
    """The values of each case, kept one by one: means over cases must not depend on who scored which.

    Args:
        shape: Of a case's values.
        keys: Numbers that name a case: its row, and of a subset of modalities more.

    Attributes:
        keys: A list of (n, keys) int64, a case's row each after a first part without one: ranks that have no case must
            have a tensor of that shape to exchange. (torchmetrics stacks states that are no lists, so only lists can
            differ in length among ranks.)
        values: The same of (n, *shape) float64, which holds counts exactly too.
    """

    full_state_update = False
    keys: list[Tensor]
    values: list[Tensor]

    def __init__(self, shape: Sequence[int], keys: int = 1) -> None:
        super().__init__()
        self.add_state("keys", [], dist_reduce_fx="cat")
        self.add_state("values", [], dist_reduce_fx="cat")
        self.keys.append(torch.zeros((0, keys), dtype=torch.int64))
        self.values.append(torch.zeros((0, *shape), dtype=torch.float64))

    def update(self, key: Sequence[int], values: Tensor) -> None:
        """Keep one case's values."""
        self.keys.append(torch.tensor([list(key)], dtype=torch.int64))
        self.values.append(values[None].to(torch.float64))

    def compute(self) -> list[tuple[tuple[int, ...], list[Any]]]:
        """(key, values) of all ranks' cases, by key; every rank gets the same list."""
        found = zip(dim_zero_cat(self.keys).tolist(), dim_zero_cat(self.values).tolist(), strict=True)
        return sorted(((tuple(key), values) for key, values in found), key=lambda one: one[0])
