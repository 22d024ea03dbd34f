"""Names a game that has collapsed: a critic, gap, gradient or segmentor that says nothing any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from segan_pl.training.callbacks.readings import (
    AT_BOUND,
    GAP_SPREAD,
    GRADIENT_NORM,
    HEALTH,
    OUTPUT_RANGE,
    readings,
)

CERTAIN = 0.99
"""A mean verdict on real ones above which, and on made ones below 1 minus which, a critic tells all of them apart."""
PILED_UP = 0.999
"""A share of clamped weights at their bound above which a critic has no freedom left."""
STILL = 1e-3
"""The relative spread of a gap over an epoch's batches, and the distance of verdicts, below which they do not move."""
UNMOVED = 1e-4
"""A change of mean verdicts from one epoch to the next below which a critic has not learnt."""
VANISHED = 1e-7
"""A mean norm of a network's gradients that moves it no longer; docs/critics.md has those of runs that learn."""
CONSTANT = 0.01
"""A range of probabilities below which a segmentor says the same of every voxel of every batch."""


class Health(Callback):
    """Says once in which way the game has collapsed, where that has held for two epochs in a row.

    It reads what the epoch has logged, so it comes after `Measures` and before `RunRecord`, and costs nothing else.
    What holds is logged as health/SIGN, 1, and as 0 once it is gone. A sign that was gone is said again.

    Args:
        stops: Whether the run ends then; one that ended so ends at once when it is called again.
    """

    def __init__(self, *, stops: bool = False) -> None:
        self.stops = stops
        self.before: dict[str, float] = {}
        self.named: dict[str, str] = {}
        # Lightning keeps the last value of what is no longer logged, so a sign that is gone is logged as 0.
        self._logged: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once a run that had ended."""
        if self.stops and self.named:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge this epoch and the one before."""
        # Losses and measures of this epoch alone: a score may be old.
        now = {name: value for name, value in readings(trainer).items() if not name.startswith("val/")}
        found = signs(self.before, now) if self.before else {}
        epoch = trainer.current_epoch
        for sign, why in found.items():
            if sign not in self.named:
                ends = "; the run ends (--run.health stop)" if self.stops else ""
                pl_module.print(f"warning: epochs {epoch - 1} and {epoch}: {sign.replace('_', ' ')}: {why}{ends}")
        self.before, self.named = now, found
        self._logged |= found.keys()
        pl_module.log_dict({HEALTH + sign: float(sign in found) for sign in sorted(self._logged)}, sync_dist=True)
        # every rank has the same values; what follows from them must not depend on the last bit
        if self.stops and trainer.strategy.broadcast(bool(found)):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The last epoch's readings, as plain values."""
        return {"before": self.before, "named": self.named}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with the epoch before."""
        self.before, self.named = dict(state_dict["before"]), dict(state_dict["named"])


def signs(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, str]:
    """In which ways a game has collapsed that was so in both of two epochs: name to what shows it.

    Args:
        before: The scalars of an epoch, by the names under which they are logged.
        now: Those of the next one.
    """

    def both(prefix: str) -> dict[str, float]:
        """What both epochs have logged, the larger one."""
        return {k: max(abs(v), abs(before[k])) for k, v in now.items() if k.startswith(prefix) and k in before}

    saturated, frozen = _verdicts(before, now)
    for name, share in both(AT_BOUND).items():
        if min(before[name], now[name]) >= PILED_UP:
            saturated.append(f"{name} {share:.4f}")
    frozen += [f"{name} {spread:.1e}" for name, spread in both(GAP_SPREAD).items() if spread <= STILL]
    vanished = [f"{name} {norm:.1e}" for name, norm in both(GRADIENT_NORM).items() if norm <= VANISHED]
    constant = [f"{name} {size:.1e}" for name, size in both(OUTPUT_RANGE).items() if size <= CONSTANT]
    found = {
        "critic_saturated": (saturated, "it tells all apart, or cannot move, and teaches the segmentor nothing"),
        "gap_frozen": (frozen, "the critic says the same whatever it is shown"),
        "gradients_vanished": (vanished, "no step moves these networks any more"),
        "segmentor_constant": (constant, "it says the same of every voxel"),
    }
    return {name: f"{', '.join(what)}; {why} (docs/critics.md)" for name, (what, why) in found.items() if what}


def _verdicts(before: Mapping[str, float], now: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """What verdicts on real and made ones show: a critic that is certain of all, and one that is blind and stays so."""
    certain, blind = [], []
    for real in (name for name in now if name.startswith("train/") and name.endswith("_real")):
        fake = f"{real.removesuffix('_real')}_fake"
        if not all(name in one for name in (real, fake) for one in (before, now)):
            continue
        text = f"{real} {now[real]:.4f}, {fake} {now[fake]:.4f}"
        if all(one[real] >= CERTAIN and one[fake] <= 1 - CERTAIN for one in (before, now)):
            certain.append(text)
        moved = max(abs(now[name] - before[name]) for name in (real, fake))
        if moved <= UNMOVED and all(abs(one[real] - one[fake]) <= STILL for one in (before, now)):
            blind.append(text)
    return certain, blind
