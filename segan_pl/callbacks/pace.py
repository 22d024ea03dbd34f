"""How fast a run goes and how long it will take; no Lightning, no clock of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Pace:
    """Batches against seconds, for the epoch and for the run.

    Every time is in seconds on one monotonic clock. The run's pace is that of this process: epochs that a resumed
    checkpoint brought along took their time elsewhere. Validation
    counts once it has been seen, from the second epoch on.

    Attributes:
        batches: Of one epoch; infinite or 0 where unknown.
        epochs: Of the run; None where only time or patience ends it.
        epoch: The current one, counted from 0.
        done: Batches finished in it.
        validation: Seconds of the epoch that validation has taken so far.
    """

    batches: float = 0
    epochs: int | None = None
    epoch: int = 0
    done: int = 0
    run_started: float = 0.0
    epoch_started: float = 0.0
    first_epoch: int = 0
    validation: float = 0.0
    validation_started: float | None = None

    def start_run(self, now: float, *, epoch: int, epochs: int | None, batches: float) -> None:
        """The run begins, or goes on, with this epoch."""
        self.run_started = self.epoch_started = now
        self.first_epoch = self.epoch = epoch
        self.epochs, self.batches, self.done = epochs, batches, 0

    def start_epoch(self, now: float, *, epoch: int, batches: float) -> None:
        """An epoch begins."""
        self.epoch_started, self.epoch, self.batches, self.done = now, epoch, batches, 0
        self.validation, self.validation_started = 0.0, None

    def start_validation(self, now: float) -> None:
        """Validation begins."""
        self.validation_started = now

    def end_validation(self, now: float) -> None:
        """Validation ends."""
        if self.validation_started is not None:
            self.validation += now - self.validation_started
        self.validation_started = None

    def validation_share(self, now: float) -> float:
        """Of the epoch's time so far, the share of validation."""
        return self.validation / max(now - self.epoch_started, 1e-9)

    def epochs_a_validation(self, now: float, share: float) -> int:
        """The smallest number of epochs a validation with which it takes at most `share` of the time."""
        training = max(now - self.epoch_started - self.validation, 1e-9)
        return max(1, math.ceil(self.validation * (1 - share) / (share * training)))

    def epoch_left(self, now: float) -> float | None:
        """Until the last training batch of this epoch."""
        if not self.done or not math.isfinite(self.batches):
            return None
        return (now - self.epoch_started) / self.done * max(0.0, self.batches - self.done)

    def run_left(self, now: float, limit: float | None = None) -> float | None:
        """Until the last epoch ends, or until `limit` (seconds left by max_time) if that is sooner."""
        done = (self.epoch - self.first_epoch) * self.batches + self.done
        estimates = [] if limit is None else [max(0.0, limit)]
        if self.epochs is not None and math.isfinite(done) and done > 0:
            rest = max(0.0, self.epochs * self.batches - self.epoch * self.batches - self.done)
            estimates.append((now - self.run_started) / done * rest)
        return min(estimates, default=None)
