"""Learning-rate schedules that end with the run, and what is said of those that do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from segan_pl.errors import UsageError

LENGTHS = ("total_iters", "T_max")
"""What PyTorch's schedules over so many epochs call their number; 0, or null in a file, is the run's length."""


def follow_run(schedulers: Iterable[LRScheduler], epochs: int | None) -> None:
    """Give each schedule without a length of its own that of the run.

    Args:
        schedulers: As just made; their length is changed in place.
        epochs: `max_epochs`; None or -1 where nothing but time or patience ends the run.

    Raises:
        UsageError: Such a schedule, and a run without an end.
    """
    for scheduler in schedulers:
        for name in LENGTHS:
            if getattr(scheduler, name, None) != 0:
                continue
            if epochs is None or epochs < 1:
                raise UsageError(
                    f"--model.schedule {type(scheduler).__name__} ends with the run, which has no end; give "
                    f"--trainer.max_epochs, or --model.schedule.init_args.{name}"
                )
            setattr(scheduler, name, epochs)


def length_of(scheduler: LRScheduler) -> int | None:
    """The epochs over which it changes the rate; None for one without an end."""
    return next((int(getattr(scheduler, name)) for name in LENGTHS if getattr(scheduler, name, None)), None)


def other_length(scheduler: LRScheduler, epochs: int | None) -> str | None:
    """A note on a schedule that ends before the run does, or after."""
    length = length_of(scheduler)
    if length is None or length == epochs:
        return None
    name = next(name for name in LENGTHS if getattr(scheduler, name, None))
    end = "has no end" if epochs is None or epochs < 1 else f"ends after {epochs} (--trainer.max_epochs)"
    return (
        f"note: the schedule {type(scheduler).__name__} ends after {length} epochs, the run {end}; "
        f"--model.schedule.init_args.{name} null follows the run"
    )


def moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A note where a continued run's schedule has another length than it had.

    Args:
        before: The schedule's state as the checkpoint has it.
        now: With the present configuration's length.
    """
    found, length = (next((int(state[name]) for name in LENGTHS if state.get(name)), None) for state in (before, now))
    if found is None or length is None or found == length:
        return None
    return (
        f"note: the schedule goes over {length} epochs from now on, {found} before; the rate after "
        f"{before.get('last_epoch', 0)} becomes what it would be had it always been {length}"
    )
