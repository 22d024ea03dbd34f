"""How fast a run goes and how long it will take, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Timer

from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping

NO_END = 10_000
"""Epochs from which a number in a file stands for no end: the papers' files leave the end to patience."""


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
        done: Batches finished in it, those before this process included.
        first_epoch: With which this process began.
        first_done: Batches of it that were finished before.
        validation: Seconds of the epoch that validation has taken so far.
    """

    batches: float = 0
    epochs: int | None = None
    epoch: int = 0
    done: int = 0
    run_started: float = 0.0
    epoch_started: float = 0.0
    first_epoch: int = 0
    first_done: int = 0
    validation: float = 0.0
    validation_started: float | None = None

    def start_run(self, now: float, *, epoch: int, epochs: int | None, batches: float, done: int = 0) -> None:
        """The run begins, or goes on, with this epoch, of which some batches may be done."""
        self.run_started = self.epoch_started = now
        self.first_epoch = self.epoch = epoch
        self.epochs, self.batches = epochs, batches
        self.first_done = self.done = done

    def start_epoch(self, now: float, *, epoch: int, batches: float) -> None:
        """An epoch begins."""
        self.epoch_started, self.epoch, self.batches = now, epoch, batches
        self.done = self.first_done if epoch == self.first_epoch else 0
        self.validation, self.validation_started = 0.0, None

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
        done = self.done - (self.first_done if self.epoch == self.first_epoch else 0)
        if done <= 0 or not math.isfinite(self.batches):
            return None
        return (now - self.epoch_started) / done * max(0.0, self.batches - self.done)

    def epoch_seconds(self, now: float) -> float | None:
        """Of a whole epoch at this process's pace."""
        done = (self.epoch - self.first_epoch) * self.batches + self.done - self.first_done
        if not math.isfinite(done) or done <= 0:
            return None
        return (now - self.run_started) / done * self.batches

    def until(self, now: float, epochs: float) -> float | None:
        """Until so many epochs have ended, this one counted from its first batch."""
        seconds = self.epoch_seconds(now)
        return None if seconds is None else seconds * max(0.0, epochs - self.done / self.batches)

    def epochs_of(self, validations: int, *, interval: float, every: int | None) -> float:
        """Epochs until so many more validations, this one counted from its first batch.

        A validation that comes after the batch that is just done is still one of them.

        Args:
            validations: At least 1.
            interval: Batches from one to the next; an epoch with fewer has one at its end.
            every: Only each so many epochs have any; None counts the interval's batches over all epochs.
        """
        if not (math.isfinite(self.batches) and self.batches):
            return float(validations)
        interval, before = min(interval, self.batches) if every else interval, max(0, self.done - 1)
        if every is None:
            begun = self.epoch * self.batches
            seen = (begun + before) // interval if self.done else begun // interval
            return ((seen + validations) * interval - begun) / self.batches
        each, wait = int(self.batches // interval), -(self.epoch + 1) % every
        whole, last = divmod(validations + (0 if wait else int(before // interval)) - 1, each)
        return wait + whole * every + (last + 1) * interval / self.batches

    def run_left(self, now: float, limit: float | None = None) -> float | None:
        """Until the last epoch ends, or until `limit` (seconds left by max_time) if that is sooner."""
        estimates = [] if limit is None else [max(0.0, limit)]
        if self.epochs is not None and (left := self.until(now, self.epochs - self.epoch)) is not None:
            estimates.append(left)
        return min(estimates, default=None)


def counted(number: float, noun: str) -> str:
    """Text like "1 epoch" or "20 batches"."""
    plural = f"{noun}es" if noun.endswith("ch") and noun != "epoch" else f"{noun}s"
    return f"{number:g} {noun if number == 1 else plural}"


def cost(trainer: pl.Trainer, pace: Pace) -> str:
    """What a run that begins will take, in epochs, and what may end it before; how long they are is not known yet."""
    epochs, batches = pace.epochs, f" of {counted(pace.batches, 'batch')}" if math.isfinite(pace.batches) else ""
    if epochs is None or epochs >= NO_END:
        said = [f"no last epoch{batches and f', epochs{batches}'}"]
    else:
        more = f", {epochs - pace.epoch} of them to go" if pace.epoch else ""
        said = [f"{counted(epochs, 'epoch')}{batches}{more}"]
    every = trainer.check_val_every_n_epoch
    stoppers = [one for one in trainer.callbacks if isinstance(one, VolumeDiceStopping)]  # type: ignore[attr-defined]
    if stoppers and every and every > 1:
        said[0] += f", validation after every {every} epochs"
    for stop in stoppers:
        validations, interval = max(1, stop.patience - stop.waited), trainer.val_check_batch
        first = ""
        if interval is not None:  # else validations go by the clock
            end = pace.epoch + math.ceil(pace.epochs_of(validations, interval=interval, every=every))
            if epochs is not None and end >= epochs:
                said.append(f"no early end (--run.patience {stop.patience})")
                continue
            first = f" after {counted(end, 'epoch')} at the earliest,"
        said.append(f"may stop early,{first} by {counted(stop.patience, 'validation')} without a better {stop.monitor}")
    timers = [one for one in trainer.callbacks if isinstance(one, Timer)]  # type: ignore[attr-defined]
    said += [f"no longer than {duration(one.time_remaining() or 0)}" for one in timers]
    return "; ".join(["cost: " + said[0], *said[1:], "the time left follows the first epoch"])


def run_left(trainer: pl.Trainer, pace: Pace, now: float, *, brief: bool = False) -> str:
    """The time left; where patience may end the run sooner, an epoch's time and that of the earliest end.

    The latest end is left out where it is more than ten times as far away: nobody means to wait for it. `brief` says
    how long it takes at least, alone.
    """
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    limits = [one.time_remaining() for one in callbacks if isinstance(one, Timer)]
    latest = pace.run_left(now, min((left for left in limits if left is not None), default=None))
    stoppers = [one for one in callbacks if isinstance(one, VolumeDiceStopping)]
    validations = min((one.patience - one.waited for one in stoppers), default=None)
    earliest = None if validations is None else _until(trainer, pace, now, validations)
    if earliest is None or (latest is not None and latest <= earliest):
        return f"{duration(latest)} left"
    if brief:
        return f"at least {duration(earliest)} left"
    last = f", in {duration(latest)} at the latest" if latest is not None and latest <= 10 * earliest else ""
    each = duration(pace.epoch_seconds(now))
    return f"open-ended: {each} an epoch, ends in {duration(earliest)} at the earliest{last}"


def _until(trainer: pl.Trainer, pace: Pace, now: float, validations: int) -> float | None:
    """Seconds until so many more validations."""
    if validations <= 0:
        return 0.0
    interval = trainer.val_check_batch
    if interval is None:  # a time, as `--trainer.val_check_interval 00:01:00:00`
        return validations * float(getattr(trainer, "_val_check_time_interval", None) or math.nan)
    return pace.until(now, pace.epochs_of(validations, interval=interval, every=trainer.check_val_every_n_epoch))


def duration(seconds: float | None) -> str:
    """Seconds in words, two units at most: "8 s", "3 min 05 s", "2 h 10 min"; "?" where unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
