"""An epoch's mean losses, summed on the device and logged once; to log each step took a third of its host time."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from segan_pl.errors import UsageError


class EpochMeans:
    """Weighted means of numbers by name, as Lightning's `on_epoch` has them, to the bit."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._place: dict[str, int] = {}
        self._weight: list[float] = []
        # of the numbers, each times its weight
        self._sums = torch.zeros(0)
        # the names of one call to their places
        self._places: dict[tuple[str, ...], Tensor] = {}

    def add(self, numbers: Mapping[str, Tensor], weight: float, device: torch.device) -> None:
        """Take the numbers of a batch in; nothing waits for the device.

        Args:
            numbers: Scalars by name, wherever they lie.
            weight: The samples of the batch.
            device: Where they are summed up.

        Raises:
            UsageError: One is no scalar.
        """
        names = tuple(numbers)
        dtype = torch.get_default_dtype()  # float64 with --trainer.precision 64-true
        values = [torch.as_tensor(number).detach().to(device, dtype) for number in numbers.values()]
        if wrong := [name for name, value in zip(names, values, strict=True) if value.numel() != 1]:
            shape = list(values[names.index(wrong[0])].shape)
            raise UsageError(f"{wrong[0]} has the shape {shape}; expected one number, as of each part of a loss")
        if names not in self._places:
            for name in names:
                self._place.setdefault(name, len(self._place))
            more = len(self._place) - len(self._sums)
            self._weight += [0.0] * more
            self._sums = torch.cat([self._sums.to(device, dtype), torch.zeros(more, dtype=dtype, device=device)])
            self._places[names] = torch.tensor([self._place[name] for name in names], device=device)
        added = torch.stack([value.reshape(()) for value in values]).mul_(weight)
        self._sums.index_add_(0, self._places[names], added)
        for name in names:
            self._weight[self._place[name]] += weight

    def take(self, total: Callable[[Tensor], Tensor] | None = None, ranks: int = 1) -> dict[str, Tensor]:
        """The means so far, after which nothing is left.

        Args:
            total: Sums a tensor over all ranks; None for one rank.
            ranks: How many there are.

        Raises:
            UsageError: Another rank has numbers of other names.
        """
        names = sorted(self._place)
        places = [self._place[name] for name in names]
        rows = torch.stack([self._sums[places], self._sums.new_tensor([self._weight[place] for place in places])])
        if total is not None:
            mark = torch.tensor([len(names), zlib.crc32("\n".join(names).encode())], device=rows.device)
            if not torch.equal(total(mark.clone()), ranks * mark):
                raise UsageError(
                    f"ranks have losses of different parts, this one {', '.join(names) or 'none'}; a part must be "
                    f"there on every rank in some batch of the epoch, 0 where there is nothing to learn"
                )
            rows = total(rows)
        self._begin()
        return dict(zip(names, rows[0] / rows[1], strict=True))
