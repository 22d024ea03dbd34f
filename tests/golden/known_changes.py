"""Intended changes of the order or number of random draws, made in the base's code before its runs.

A change that draws in another order (one more number for each sample, say) changes every batch after it, and an
equal core could no longer be told from a broken one. So the base is made to draw as today's code does, and the
rest must still be equal. Only draws belong here. A changed loss, network or step is never entered.

The base's results are computed again whenever this file changes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def apply() -> None:
    """Replace functions of the base's `segan_pl`, which is importable in this process; called once, before its runs.

    Each change is a block of three parts:

        # <what draws otherwise today, and why>
        import_module("segan_pl.data.sampling").<function> = <a function of this file that draws in today's order>
    """
    # Slices draw as 3-D patches do: batch n's stream is [seed, epoch, 1 + n], since NumPy takes [seed, epoch, 0] for
    # [seed, epoch], the stream of the order; and what a 3-D patch needs is drawn before what is hidden.
    # By import path as text: these are the base's modules, which today's package has elsewhere.
    import_module("segan_pl.data.sampling").PlanSampler.__iter__ = _plans
    import_module("segan_pl.data.augmentation").Augmentation.draw = _draws


def _plans(self: Any) -> Any:
    import numpy as np

    plan = import_module("segan_pl.data.sampling").Plan
    order = self._order()
    for number in range(self.first, len(self)):
        joined = order[number * self.joined : (number + 1) * self.joined]
        draws = self.augmentation.draw(
            np.random.default_rng([self.seed, self.epoch, 1 + number]), len(joined), self.modalities
        )
        share = len(joined) // self.world_size
        mine = np.arange(self.rank * share, (self.rank + 1) * share)
        yield plan(joined[mine], draws.take(mine))


def _draws(self: Any, rng: Any, size: int, modalities: int) -> Any:
    """Of the base's options only the place of the patch and modality dropout: what its runs leave on."""
    import numpy as np

    draws = import_module("segan_pl.data.augmentation").Draws
    corner = rng.random((size, 3))[:, 1:]
    rng.random(size), rng.random(size), rng.integers(2**63, size=size)  # drawn to a label, to which, later randomness
    hide = rng.random((size, modalities)) if self.modality_dropout else np.ones((size, modalities))
    one, ones = np.ones(size), np.ones((size, modalities))
    return draws(corner, np.zeros((size, 2), bool), 0 * one, one, ones, ones, hide)
