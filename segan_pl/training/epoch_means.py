"""An epoch's mean losses, summed on the device and logged once; to log each step took a third of its host time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class EpochMeans:
    """Weighted means of numbers by name, as Lightning's `on_epoch` has them, to the bit."""

    def __init__(self) -> None:
        # the names of one call to the sums of their numbers and of the weights
        self._sums: dict[tuple[str, ...], tuple[Tensor, float]] = {}

    def add(self, numbers: Mapping[str, Tensor], weight: float) -> None:
        """Take the numbers of a batch in; nothing waits for the device.

        Args:
            numbers: Scalars by name.
            weight: The samples of the batch.
        """
        names = tuple(numbers)
        values = torch.stack([number.detach().float() for number in numbers.values()]).mul_(weight)
        if (before := self._sums.get(names)) is not None:
            self._sums[names] = before[0].add_(values), before[1] + weight
        else:
            self._sums[names] = values, weight

    def take(self, total: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """The means so far, after which nothing is left.

        Args:
            total: Sums a tensor over all ranks, which have added the same names; None for one rank.
        """
        joined: dict[str, list[Tensor]] = {}
        for names, (sums, weight) in self._sums.items():
            row = torch.cat([sums, sums.new_tensor([weight])])
            row = row if total is None else total(row)
            for name, value in zip(names, row[:-1], strict=True):
                # a loss may have a part in some batches only
                entry = torch.stack([value, row[-1]])
                joined[name] = [*joined.get(name, []), entry]
        self._sums = {}
        return {name: (both := torch.stack(entries).sum(0))[0] / both[1] for name, entries in joined.items()}
